"""What a publish has set off, and how a handler finds the publish that set it off."""

from __future__ import annotations

from contextvars import ContextVar

from pyfly_messaging.adapters.memory.wait import Wait


class Publication:
    """What a publish has set off.

    It has no ``__init__``, because that would be one more call for each message: `publish`
    sets every attribute.

    Attributes:
        broker: Where it was published.
        outer: The publication whose handler publishes here, on another broker.
        holders: How many are at it: the publish, until it returns, and attempts in workers.
        pending: Deliveries that are not settled.
        errors: What exhausted messages.
        wait: How the publish waits, once it has to.

    """

    __slots__ = ("broker", "errors", "holders", "outer", "pending", "wait")

    broker: object
    outer: Publication | None
    holders: int
    pending: int
    errors: tuple[BaseException, ...]
    wait: Wait | None

    def going_on(self) -> Publication | None:
        """Return the innermost publication around here that is not over.

        Those that are over do not get into a new chain, or the tasks that handlers leave behind,
        and that publish in their turn, would make it longer and longer.
        """
        found: Publication | None = self
        while found is not None and not found.holders:
            found = found.outer
        return found

    def of(self, broker: object) -> Publication | None:
        """Return the innermost publication of ``broker`` around here that is not over."""
        found = self.going_on()
        while found is not None and found.broker is not broker:
            found = None if found.outer is None else found.outer.going_on()
        return found

    def settle(self) -> None:
        """Count a delivery as settled."""
        self.pending -= 1
        if not self.pending and self.wait is not None:
            self.wait.end()

    def error(self) -> BaseException | None:
        """Return what exhausted messages: the exception, a group of several, or None."""
        if len(self.errors) > 1:
            return BaseExceptionGroup("several messages were exhausted", self.errors)
        return self.errors[0] if self.errors else None


current: ContextVar[Publication] = ContextVar("pyfly publication")
"""The publish that set off the handler that runs; it waits for what the handler publishes."""


def note(error: BaseException) -> None:
    """Note, inside the current publication, what has exhausted a message."""
    publication = current.get()
    publication.errors = (*publication.errors, error)
