"""One time limit for many calls at once."""

from __future__ import annotations

from asyncio import (
    AbstractEventLoop,
    CancelledError,
    Task,
    TimerHandle,
    current_task,
    get_running_loop,
)
from types import TracebackType
from typing import Any


class Expiry:
    """What ``asyncio.timeout`` does, with one timer for all calls that run under the same limit.

    A timer for each message would cost a tenth of a publish that is one of a thousand in flight.
    A task can be inside only once at a time.

    Args:
        seconds: The limit of each call.

    """

    __slots__ = ("_loop", "_running", "_timer", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._running: dict[Task[Any] | None, float] = {}  # with deadlines, the earliest first
        self._timer: TimerHandle | None = None
        self._loop: AbstractEventLoop | None = None  # the one that the timer belongs to

    def left(self) -> float:
        """Return how many seconds the calling task has left."""
        return max(0.0, self._running[current_task()] - get_running_loop().time())

    def __enter__(self) -> None:
        task, loop = current_task(), get_running_loop()
        if loop is not self._loop:  # the former one has ended, and its timer with it
            self._loop, self._timer = loop, None
            self._running.clear()
        self._running[task] = at = loop.time() + self.seconds
        if self._timer is None:
            self._timer = loop.call_at(at, self._expire)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task = current_task()
        # What is not there any more has expired, and was cancelled by us.
        if (
            self._running.pop(task, None) is None
            and task is not None
            and task.uncancel() == 0
            and kind is CancelledError
        ):
            raise TimeoutError from error

    def _expire(self) -> None:
        self._timer = None
        loop = get_running_loop()
        for task, at in tuple(self._running.items()):
            if at > loop.time():
                self._timer = loop.call_at(at, self._expire)
                return
            del self._running[task]
            if task is not None:
                task.cancel()
