"""A handler that waits for something on the stack of its publisher."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any

from pyfly_messaging.adapters.memory.attempts import OVER, Attempts
from pyfly_messaging.adapters.memory.publication import Publication
from pyfly_messaging.adapters.memory.wait import STOPPED
from pyfly_messaging.delivery.settlement import Retry
from pyfly_messaging.errors import PublishError


@dataclass(slots=True, kw_only=True, eq=False)
class Visit:
    """A handler that waits for something, in the task and on the stack of its publisher.

    The publisher awaits it. The task is not the handler's: what the handler cancels of it is taken
    back and is a failed attempt; what others cancel is the publisher's. Nobody had cancelled the
    task before, or there would be no visit: whose a cancellation is could not be told.

    Attributes:
        publication: What is handled.
        attempts: What runs the handler, in the lane that is visited.
        hand_over: Leaves to the workers what is not settled, with the next step.
        context: The handler's context variables, apart from the publisher's.
        task: The publisher's task.
        awaited: What the handler waits for, or `OVER`.
        left: Done when the handler has left the lane.
        by_handler: How often the handler has cancelled the task.
        by_us: How often the broker has.

    """

    publication: Publication
    attempts: Attempts
    hand_over: Callable[[Attempts, Publication, Retry | None], None]
    context: Context
    task: asyncio.Task[Any]
    awaited: object
    left: asyncio.Future[None] = field(init=False)
    by_handler: int = field(init=False)
    by_us: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.left = self.task.get_loop().create_future()
        self.by_handler = self.task.cancelling()  # only the handler has had a turn so far

    def interrupt(self) -> None:
        """Cancel the handler, if it has not ended."""
        if not self.left.done():
            self.by_us += 1
            self.task.cancel()

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            while self.awaited is not OVER:
                yield from self._step()
        except BaseException as error:  # noqa: BLE001 - raised again if it is the publisher's
            self._interrupted(error)
        else:
            self._take_back()
            rest = self.attempts.rest(self.publication)
            if rest is not None:
                self.hand_over(self.attempts, self.publication, rest)
        finally:
            self.attempts.lane.leave()
        if self.by_handler:
            yield from self._absorb()

    def _step(self) -> Generator[Any, Any, None]:
        """Wait for what the handler waits for, and let it go on until it waits again."""
        thrown: BaseException | None = None
        try:
            yield self.awaited
        except BaseException as error:  # noqa: BLE001 - it is the handler's to catch
            thrown = error
        before = self.task.cancelling()
        try:
            self.awaited = self.attempts.go_on(self.context, thrown)
        finally:
            self.by_handler += max(0, self.task.cancelling() - before)

    def _interrupted(self, error: BaseException) -> None:
        """Raise what is the publisher's; the message is left to the workers."""
        cancelled = isinstance(error, asyncio.CancelledError)
        by_others = self._take_back()
        failure = None if cancelled and (by_others or self.by_us) else error
        step = self.attempts.interrupted(self.publication, failure)
        self.hand_over(self.attempts, self.publication, step)
        if by_others or not cancelled:
            raise error
        if self.by_us:
            wait = self.publication.wait
            raise PublishError((wait and wait.refusal) or STOPPED) from None

    def _take_back(self) -> bool:
        """Take back what is not the publisher's; tell whether others have cancelled the task."""
        for _ in range(min(self.by_us + self.by_handler, self.task.cancelling())):
            self.task.uncancel()
        return self.task.cancelling() > 0

    def _absorb(self) -> Generator[Any, Any, None]:
        """Meet the handler's cancellation if it has not been delivered yet."""
        try:
            yield
        except asyncio.CancelledError:
            if self.task.cancelling():
                raise
