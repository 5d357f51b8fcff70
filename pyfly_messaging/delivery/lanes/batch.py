"""What arrives in lanes: messages, where they go, and what is called when they are settled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from pyfly_messaging.delivery.settlement import Retry
from pyfly_messaging.message import Message

T = TypeVar("T")


class Batch(Generic[T]):
    """Messages that arrived together.

    Args:
        run: Where they go.
        messages: The messages, in order.
        tokens: For each message what ``settle`` is called with: an offset, a delivery tag.
        settle: Called once for each message, when it is settled.

    """

    __slots__ = ("messages", "run", "settle", "tokens")

    def __init__(
        self,
        run: Run,
        messages: Sequence[Message],
        tokens: Sequence[T],
        settle: Callable[[T], None],
    ) -> None:
        self.run = run
        self.messages = messages
        self.tokens = tokens
        self.settle = settle


class Run(Protocol):
    """What lanes run for each message: a `Route`, or something that leads to one."""

    @property
    def attempt(self) -> Callable[[Message], Awaitable[Retry | None]]:
        """Runs the handlers; None means settled."""
        ...

    async def failed(self, message: Message, error: BaseException) -> Retry | None:
        """Count a first attempt as failed that ended together with the task that ran it."""
        ...
