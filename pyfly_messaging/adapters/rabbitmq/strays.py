"""Messages whose routing key no handler of this process knows."""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from pyfly_messaging.delivery.dead_letter import dead_letter
from pyfly_messaging.errors import TopologyError
from pyfly_messaging.logs import get_logger
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy

logger = get_logger("pyfly_messaging.rabbitmq")

HAND_BACKS = 5
"""How often a message is handed back before it is dead-lettered when nobody else consumes the
queue: half a minute."""

HAND_BACKS_AT_MOST = 15
"""The same while others do: ten minutes. It is below the delivery limit of quorum queues, so that
the dead letter can say why."""

# Seconds before it is handed back: a process that knows its topic may take it then. They double.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
# How many different messages are counted; the oldest are forgotten, and counted anew.
_COUNTED = 10_000
# What leaves room for ".dlt" in the name of a topic.
_LONGEST = 245
_NO_TOPIC = re.compile(r"[^a-zA-Z0-9._-]")


class Strays:
    """Counts how often each stray message came here, and dead-letters it in the end.

    A group's queue carries the topics of all its listeners. While a new one is rolled out, a
    process that does not have it yet gets its messages too.

    Args:
        bury: Publishes a dead letter of a topic, and declares where it goes.
        policy: The default policy, which says where dead letters go.

    """

    def __init__(
        self, bury: Callable[[Message, str], Awaitable[None]], policy: ListenerPolicy
    ) -> None:
        self._bury = bury
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
            " its queue; they are handed back to others, and dead-lettered when nobody takes them",
        )
        return seen if again else 0

    async def bury(
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
            f"no handler listens to topic {message.topic!r}; handed back {times} times"
        )
        letter = dead_letter(message, topic, group=group, attempts=times, error=error)
        await self._bury(letter, message.topic)
        self._tell(f" {topic}", logging.ERROR, f"messages are dead-lettered to {topic}: {error}")

    def _tell(self, what: str, level: int, text: str) -> None:
        """Log once for each topic: there may be a whole queue of its messages."""
        if what not in self._told:
            self._told.add(what)
            logger.log(level, "RabbitMQ: %s", text)


def pause(times: int) -> float:
    """Return the seconds before a message is handed back that came ``times`` before."""
    return min(_FIRST_PAUSE * 2.0 ** min(times, 10), _LONGEST_PAUSE)


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
