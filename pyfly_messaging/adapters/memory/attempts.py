"""The attempts that are made on the stack of a publisher."""

from __future__ import annotations

import types
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any

from pyfly_messaging.adapters.memory.publication import Publication, current
from pyfly_messaging.adapters.memory.within import RetryWithin, RunWithin
from pyfly_messaging.delivery.lanes import Interrupted, SingleLane
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.delivery.settlement import Retry

OVER = object()
"""What a handler is said to wait for when it does not run any more."""


class Attempts:
    """Attempts at messages that visit a lane, one after the other, each on its publisher's stack.

    Args:
        route: Where they go.

    Attributes:
        lane: The lane that is visited.
        send: Begins with a publication, and later lets its handler go on with None. Answers what
            the handler waits for, or `OVER` when there is nothing more to do here.
        retry: The step that an attempt is at, and at its end what is left to do.

    """

    __slots__ = ("_generator", "_route", "lane", "retry", "send")

    send: Callable[[Publication | None], object]

    def __init__(self, route: Route, lane: SingleLane) -> None:
        self.retry: Retry | None = None
        self._route = route
        self.lane = lane
        self._begin_anew()

    def go_on(self, context: Context, error: BaseException | None) -> object:
        """Let the handler go on, with an exception if there is one; answer as ``send`` does."""
        if error is None:
            return context.run(self.send, None)
        return context.run(self._generator.throw, error)

    def rest(self, publication: Publication) -> Retry | None:
        """Return what is left to do; None if the message is settled."""
        retry, self.retry = self.retry, None
        return None if retry is None else RetryWithin(publication, retry)

    def interrupted(self, publication: Publication, failure: BaseException | None) -> Retry | None:
        """Return what is left to do of an attempt that did not come to its end.

        Args:
            publication: What was attempted.
            failure: What counts as a failed attempt; None if the handler could do nothing for it.

        Returns:
            The next step, or None if that is the first attempt.

        """
        self._begin_anew()
        step = self.rest(publication)
        if failure is None:
            return step
        run = RunWithin(publication, self._route)
        return Interrupted(run, publication.message, step, failure)

    def _begin_anew(self) -> None:
        """Replace what an exception has ended."""
        self._generator = self._attempt_each()
        self.send = self._generator.send
        next(self._generator)

    @types.coroutine
    def _attempt_each(self) -> Generator[Any, Any, None]:
        """Attempt what is sent in, one publication after the other.

        Yields what the handler waits for, as a coroutine does, and `OVER` after each message. So
        the sender knows whether the handler waits at all, for a third of the price of a coroutine
        for each message whose end is an exception to catch.
        """
        while True:
            publication = yield OVER
            current.set(publication)
            retry = yield from self._route.attempt(publication.message)
            while retry is not None and retry.delay <= 0 and not self.lane.closed:
                self.retry = retry
                retry = yield from retry()
            self.retry = retry
