"""Inline runs: a handler begins in the publisher's turn, without a round through the event loop."""

from __future__ import annotations

import asyncio
import types
from asyncio import _enter_task, _leave_task  # documented: "Extending asyncio", since 3.7
from collections.abc import Callable, Generator
from contextvars import Context, copy_context
from typing import Any, cast

from pyfly_messaging.adapters.memory.publication import Publication, current
from pyfly_messaging.adapters.memory.within import RetryWithin, RunWithin, batch_of
from pyfly_messaging.delivery.lanes import Interrupted, SingleLane
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.delivery.settlement import Retry
from pyfly_messaging.message import Message

_ENDED = object()
"""What an attempt is said to wait for when it has ended."""


class InlineLane(SingleLane):
    """A single lane in whose name a publisher begins an attempt while its worker is idle.

    Until the handler waits for something, it runs on the publisher's stack, as the worker's task.
    If it ends before, the message is settled at once. If not, the worker goes on with it. So for
    the handler there is one task from beginning to end, and the publisher only ever waits.
    """

    def __init__(self, route: Route) -> None:
        super().__init__(route.name)
        self._route = route
        self._idle: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop
        self._fresh = self.context  # the context of the worker before it handled anything
        self._message: Message  # this and the next three belong to the inline run
        self._publication: Publication
        self._step: Retry | None = None  # that the attempt is at; at its end: what is left to do
        self._waits: tuple[Any, Context] | None = None  # for what, when the worker goes on
        self._begin_anew()

    def run(self, message: Message, publication: Publication, task: asyncio.Task[Any]) -> None:
        """Handle a message now, as far as possible; the worker does the rest.

        Args:
            message: The message.
            publication: What it is part of.
            task: The current task.

        """
        worker = self._idle
        if worker is None or self.in_flight or self.closed or worker.cancelling():
            publication.pending += 1
            self.submit(batch_of(message, publication, self._route))
            return
        self.in_flight = 1
        self._message, self._publication = message, publication
        context = self._fresh.copy()
        loop = self._loop
        _leave_task(loop, task)
        _enter_task(loop, worker)
        try:
            awaited = context.run(self._send, None)
        except BaseException as error:
            self._keep_first(self._interrupted(error))
            if not isinstance(error, asyncio.CancelledError):  # that one is the worker's
                raise
            return
        finally:
            _leave_task(loop, worker)
            _enter_task(loop, task)
        if awaited is not _ENDED:
            publication.holders += 1
            self._waits = awaited, context
            self._keep_first(None)
        elif self._step is not None:
            self._keep_first(self._rest())
        else:
            self.in_flight -= 1

    async def work(self, cancelling: Callable[[], int]) -> None:
        self._fresh = copy_context()
        await super().work(cancelling)

    async def wait_for_work(self) -> None:
        self._idle, self._loop = asyncio.current_task(), asyncio.get_running_loop()
        cancelled = None
        try:
            await super().wait_for_work()
        except asyncio.CancelledError as error:
            cancelled = error
        finally:
            self._idle = None
        if self._waits is not None:
            await self._go_on(*self._waits, cancelled)
        elif cancelled is not None:
            raise cancelled

    @types.coroutine
    def _go_on(
        self, awaited: Any, context: Context, error: BaseException | None
    ) -> Generator[Any, Any, None]:
        """Wait for what the handler waits for, and let it go on, until it has ended."""
        self._waits = None
        if error is not None and awaited is not None and awaited.cancel():
            error = None  # as `Task.cancel` does: the handler meets it where it waits
        try:
            while awaited is not _ENDED:
                if error is None:
                    try:
                        yield awaited
                    except BaseException as thrown:  # noqa: BLE001 - it is the handler's to catch
                        error = thrown
                step, value = (self._send, None) if error is None else (self._throw, error)
                error = None
                awaited = context.run(cast("Callable[[Any], Any]", step), value)
        except BaseException as failure:
            self.retry_first(self._interrupted(failure))
            raise
        finally:
            self._publication.holders -= 1
        if self._step is not None:
            self.retry_first(self._rest())
        else:
            self.settle_first()

    @types.coroutine
    def _attempts(self) -> Generator[Any, Any, None]:
        """Make one attempt after the other: a new coroutine for each would cost a third more."""
        while True:
            yield _ENDED
            current.set(self._publication)
            retry = yield from self._route.attempt(self._message)
            while retry is not None and retry.delay <= 0 and not self.closed:
                self._step = retry
                retry = yield from retry()
            self._step = retry

    def _begin_anew(self) -> None:
        """Replace the attempts that an exception has ended."""
        attempts = self._attempts()
        self._send, self._throw = attempts.send, attempts.throw
        self._send(None)

    def _interrupted(self, error: BaseException) -> Retry:
        """Return the step that follows an attempt that ended the worker's task."""
        self._begin_anew()
        run = RunWithin(self._publication, self._route)
        return Interrupted(run, self._message, self._rest(), error)

    def _rest(self) -> Retry | None:
        step, self._step = self._step, None
        return None if step is None else RetryWithin(self._publication, step)

    def _keep_first(self, retry: Retry | None) -> None:
        """Leave the message to the worker, before all that has come meanwhile."""
        self._publication.pending += 1
        self.put_first(batch_of(self._message, self._publication, self._route), retry)
