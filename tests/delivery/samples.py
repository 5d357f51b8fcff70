"""Small values that the tests of delivery are made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pyfly_messaging.delivery.dead_letter import PublishDeadLetter
from pyfly_messaging.delivery.settlement import Retry, Settlement
from pyfly_messaging.delivery.subscription import Subscription
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy
from pyfly_messaging.ports import MessageHandler

Fail = Callable[[], BaseException]


def message(value: bytes = b"v", *, key: bytes | None = None, topic: str = "orders") -> Message:
    """Return a message."""
    return Message(topic, value, key, {"trace": "1"})


def subscription(
    handler: MessageHandler,
    *,
    group: str | None = "group",
    topic: str = "orders",
    name: str = "listener",
    **policy: Any,
) -> Subscription:
    """Return a subscription whose pauses have no jitter."""
    policy = {"retry_jitter": 0.0, **policy}
    return Subscription.of(topic, handler, group, policy=ListenerPolicy(**policy), name=name)


class Graveyard:
    """Takes dead letters, after refusing some."""

    def __init__(self, *refusals: BaseException) -> None:
        self.letters: list[Message] = []
        self.errors: list[BaseException] = []
        self.refusals = list(refusals)

    async def bury(self, letter: Message, error: BaseException) -> None:
        """Publish a dead letter, or raise the next refusal."""
        if self.refusals:
            raise self.refusals.pop(0)
        self.letters.append(letter)
        self.errors.append(error)


async def nowhere(letter: Message, error: BaseException) -> None:
    """Publish a dead letter that no test expects."""
    raise AssertionError(f"dead-lettered: {letter}, because of {error!r}")


def settlement(
    handler: MessageHandler,
    bury: PublishDeadLetter = nowhere,
    *,
    group: str | None = "group",
    name: str = "listener",
    **policy: Any,
) -> Settlement:
    """Return a settlement whose pauses have no jitter."""
    return Settlement(subscription(handler, group=group, name=name, **policy), bury)


def failing(*errors: BaseException | None) -> tuple[MessageHandler, list[Message]]:
    """Return a handler that raises these, one at each call, and what it was called with."""
    calls: list[Message] = []
    outcomes = list(errors)

    async def handler(message: Message) -> None:
        calls.append(message)
        error = outcomes.pop(0) if outcomes else None
        if error is not None:
            raise error

    return handler, calls


async def to_the_end(step: Awaitable[Retry | None]) -> list[float]:
    """Make all attempts without a pause; return the pauses that there should have been."""
    pauses = []
    retry = await step
    while retry is not None:
        pauses.append(retry.delay)
        retry = await retry()
    return pauses
