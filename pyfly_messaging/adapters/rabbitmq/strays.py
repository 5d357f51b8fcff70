"""Messages whose routing key no handler of this process knows."""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from pyfly_messaging.delivery.dead_letter import dead_letter
from pyfly_messaging.errors import TopologyError
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy

logger = logging.getLogger("pyfly_messaging.rabbitmq")

HAND_BACKS = 5
"""How often a message is handed back before it is dead-lettered."""

PAUSE = 1.0
"""Seconds before it is handed back: a process that knows its topic may take it then."""

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
        self._seen: OrderedDict[tuple[str, str | int], int] = OrderedDict()

    def spent(self, message: Message, message_id: str | None) -> bool:
        """Count a message that arrived; tell whether it was handed back often enough.

        Without an id, which only other clients leave out, messages that are alike count as one.
        """
        place = (message.topic, message_id or hash((message.value, message.key)))
        count = self._seen.pop(place, 0)
        if count >= HAND_BACKS:
            return True
        if count == 0:
            logger.warning(
                "RabbitMQ: no handler of this process listens to topic %r, whose messages are in"
                " its queue; handed back to the others",
                message.topic,
            )
        self._seen[place] = count + 1
        if len(self._seen) > _COUNTED:
            self._seen.popitem(last=False)
        return False

    async def bury(self, message: Message, group: str | None) -> None:
        """Dead-letter a message, and return when that is confirmed."""
        topic = dead_letter_topic(message.topic, self._policy)
        error = TopologyError(
            f"no handler listens to topic {message.topic!r}; handed back {HAND_BACKS} times"
        )
        letter = dead_letter(message, topic, group=group, attempts=HAND_BACKS, error=error)
        await self._bury(letter, message.topic)
        logger.error("RabbitMQ: message dead-lettered to %s: %s", topic, error)


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
