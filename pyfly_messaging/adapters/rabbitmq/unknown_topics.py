"""What happens to messages whose routing key no handler of this process knows.

They are requeued, for another process to take them, and dead-lettered in the end.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from pyfly_messaging.delivery.backoff import Backoff
from pyfly_messaging.delivery.dead_letter import dead_letter
from pyfly_messaging.errors import BrokerError, TopologyError
from pyfly_messaging.logs import describe, get_logger
from pyfly_messaging.message import Message, set_origin
from pyfly_messaging.policy import ListenerPolicy

if TYPE_CHECKING:
    from pyfly_messaging.adapters.rabbitmq.acknowledgements import Acknowledgements
    from pyfly_messaging.adapters.rabbitmq.codec import Delivery

logger = get_logger("pyfly_messaging.rabbitmq")
messages_logger = get_logger("pyfly_messaging.rabbitmq.messages")

REQUEUES_ALONE = 5
"""How often a message is requeued before it is dead-lettered when no other process consumes the
queue: half a minute."""

MAX_REQUEUES = 15
"""The same while others do: ten minutes. It is below the delivery limit of quorum queues, so that
the dead letter can say why."""

BACKOFF = Backoff(first=1.0, longest=60.0)
"""Before it is requeued: a process that knows its topic may take it then."""

# How many different messages are counted; the oldest are forgotten, and counted anew.
_COUNTED = 10_000
# What leaves room for ".dlt" in the name of a topic.
_LONGEST = 245
# Before a dead letter that was not confirmed is published again. Seconds.
_PUBLISH_AGAIN_AFTER_S = 1.0
_NO_TOPIC = re.compile(r"[^a-zA-Z0-9._-]")


class UnknownTopics:
    """Counts how often each message of an unknown topic came here, and dead-letters it in the end.

    A group's queue carries the topics of all its listeners. While a new one is rolled out, a
    process that does not have it yet gets its messages too.

    Args:
        publish: Publishes a dead letter of a topic, and declares where it goes.
        policy: The default policy, which says where dead letters go.

    """

    def __init__(
        self, publish: Callable[[Message, str], Awaitable[None]], policy: ListenerPolicy
    ) -> None:
        self._publish = publish
        self._policy = policy
        self._seen: OrderedDict[tuple[str, str | None, int], int] = OrderedDict()
        self._told: set[str] = set()

    def count(self, message: Message, message_id: str | None, *, again: bool) -> int:
        """Count a message that arrived; return how often it has come before.

        Messages that are alike count as one. Other clients may give all their messages one id.

        Args:
            message: The message.
            message_id: The id that its publisher gave it.
            again: Whether RabbitMQ says that it has delivered it before.

        """
        place = (message.topic, message_id, hash((message.value, message.key)))
        seen = self._seen.pop(place, 0)
        self._seen[place] = seen + 1 if again else max(seen, 1)
        if len(self._seen) > _COUNTED:
            self._seen.popitem(last=False)
        self._tell(
            message.topic,
            logging.WARNING,
            f"no handler of this process listens to topic {message.topic!r}, whose messages are in"
            " its queue; they are requeued for others, and dead-lettered when none takes them",
        )
        return seen if again else 0

    async def dead_letter(
        self, message: Message, group: str | None, times: int, error: Exception | None = None
    ) -> None:
        """Dead-letter a message; return when that is confirmed.

        Args:
            message: The message.
            group: The group of its queue.
            times: How often it came before.
            error: Why; by default because no handler listens to its topic.

        """
        topic = dead_letter_topic(message.topic, self._policy)
        error = error or TopologyError(
            f"no handler listens to topic {message.topic!r}; requeued {times} times"
        )
        letter = dead_letter(message, topic, group=group, attempts=times, error=error)
        await self._publish(letter, message.topic)
        self._tell(f" {topic}", logging.ERROR, f"messages are dead-lettered to {topic}: {error}")

    def _tell(self, what: str, level: int, text: str) -> None:
        """Log once for each topic: there may be a whole queue of its messages."""
        if what not in self._told:
            self._told.add(what)
            logger.log(level, "RabbitMQ: %s", text)


class Requeue:
    """Requeues messages of one channel, each after a pause that grows every time.

    While others consume the queue, one of them may know the topic, and only be too busy at the
    moment. When this process is its only consumer for a while, none does.

    Args:
        unknown_topics: Counts and dead-letters them.
        acknowledgements: Takes what becomes of them.
        consumers: Asks RabbitMQ how many consumers the queue has, this process's included.
        on_settled: Called when one is off our hands.
        counted: Whether RabbitMQ counts the deliveries of a message itself.

    """

    def __init__(
        self,
        unknown_topics: UnknownTopics,
        acknowledgements: Acknowledgements,
        consumers: Callable[[], Awaitable[int]],
        on_settled: Callable[[], None],
        *,
        counted: bool,
    ) -> None:
        self._unknown_topics = unknown_topics
        self._acknowledgements = acknowledgements
        self._consumers = consumers
        self._on_settled = on_settled
        self._counted = counted
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking: asyncio.Task[bool] | None = None

    def take(self, message: Message, delivery: Delivery, group: str | None) -> None:
        """Take a message that no handler here takes."""
        self._begin(self._return(message, delivery, group), message.topic)

    def unreadable(self, delivery: Delivery, group: str | None, error: Exception) -> None:
        """Take a delivery that could not be decoded.

        The first time it is requeued: another process, or another moment, may be able to. Then
        its value is dead-lettered.
        """
        message = Message(delivery.routing_key, delivery.body)
        set_origin(message, delivery)
        if delivery.redelivered:
            returning = self._settle(message, delivery, group, 1, error)
        else:
            returning = self._requeue(delivery, 0)
        self._begin(returning, message.topic)

    def _begin(self, returning: Coroutine[Any, Any, None], topic: str) -> None:
        task = asyncio.create_task(returning, name=f"pyfly rabbitmq return {topic}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def halt(self) -> None:
        """Leave what is not returned yet to the end of the channel."""
        for task in self._tasks:
            task.cancel()
        if self._asking is not None:
            self._asking.cancel()

    async def halted(self) -> None:
        """Wait for the end of what `halt` has ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _return(self, message: Message, delivery: Delivery, group: str | None) -> None:
        seen = self._unknown_topics.count(message, delivery.id, again=delivery.redelivered)
        times = max(seen, delivery.failures) if self._counted else seen  # in any process
        if times >= MAX_REQUEUES or (seen >= REQUEUES_ALONE and await self._alone()):
            await self._settle(message, delivery, group, times)
        else:
            await self._requeue(delivery, times)

    async def _requeue(self, delivery: Delivery, times: int) -> None:
        await asyncio.sleep(BACKOFF.pause(times + 1))
        await self._acknowledgements.requeue(delivery.tag)
        self._on_settled()

    async def _settle(
        self,
        message: Message,
        delivery: Delivery,
        group: str | None,
        times: int,
        error: Exception | None = None,
    ) -> None:
        """Dead-letter a message, for as long as it takes."""
        while True:
            try:
                await self._unknown_topics.dead_letter(message, group, times, error)
            except Exception as refusal:  # noqa: BLE001 - where a delivery is settled
                messages_logger.warning("RabbitMQ: %s; tried again", describe(refusal))
                await asyncio.sleep(_PUBLISH_AGAIN_AFTER_S)
            else:
                break
        self._acknowledgements.settle(delivery.tag)
        self._on_settled()

    async def _alone(self) -> bool:
        """Tell whether no other process consumes the queue; ask once for all that want to know."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="pyfly rabbitmq count consumers")
        return await asyncio.shield(self._asking)

    async def _ask(self) -> bool:
        try:
            return await self._consumers() <= 1
        except BrokerError:
            return False  # the channel is about to end


def dead_letter_topic(routing_key: str, policy: ListenerPolicy) -> str:
    """Return where messages of a routing key go that may be no topic of ours.

    They are no listener's, so ``dead_letter: false`` does not drop them.
    """
    topic = _NO_TOPIC.sub("_", routing_key)[:_LONGEST]
    try:
        target = policy.replace(dead_letter=True).dead_letter_topic_for(topic)
    except ValueError:  # too long with it, or one topic for all dead letters, and it is that
        target = None
    return target or f"{topic}.dlt"
