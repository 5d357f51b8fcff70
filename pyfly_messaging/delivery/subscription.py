"""A handler registered with a broker, and the check that comes before."""

from __future__ import annotations

from dataclasses import dataclass

from pyfly_messaging.listener import check_handler, handler_name
from pyfly_messaging.message import check_group, check_topic
from pyfly_messaging.policy import ListenerPolicy
from pyfly_messaging.ports import MessageHandler


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One handler of one (topic, group).

    Attributes:
        name: What logs and health call it.
        policy: What happens around the handler.

    """

    topic: str
    group: str | None
    handler: MessageHandler
    name: str
    policy: ListenerPolicy

    @classmethod
    def of(
        cls,
        topic: str,
        handler: MessageHandler,
        group: str | None,
        *,
        policy: ListenerPolicy,
        name: str | None = None,
    ) -> Subscription:
        """Return a checked subscription.

        Raises:
            TypeError: The handler is not an async callable; topic or group is not text.
            ValueError: An impossible topic or group, or a dead-letter topic equal to the topic.

        """
        check_topic(topic)
        check_group(group)
        check_handler(handler)
        policy.dead_letter_topic_for(topic)
        return cls(
            topic=topic,
            group=group,
            handler=handler,
            name=name or handler_name(handler),
            policy=policy,
        )
