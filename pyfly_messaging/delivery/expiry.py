"""One time limit for many calls at once."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any


class Expiry:
    """What ``asyncio.timeout`` does, with one timer for all calls that run under the same limit.

    A timer for each message would cost a tenth of a publish that is one of a thousand in flight.
    A task can be inside only once at a time.

    Args:
        seconds: The limit of each call.

    """

    __slots__ = ("_running", "_timer", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._running: dict[asyncio.Task[Any], float] = {}  # with deadlines, the earliest first
        self._timer: asyncio.TimerHandle | None = None

    def deadline(self) -> float:
        """Return when the calling task's limit ends, on the event loop's clock."""
        return self._running[_this_task()]

    def __enter__(self) -> None:
        task = _this_task()
        loop = task.get_loop()
        self._running[task] = at = loop.time() + self.seconds
        if self._timer is None:
            self._timer = loop.call_at(at, self._expire)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task = _this_task()
        # What is not there any more has expired, and was cancelled by us.
        if (
            self._running.pop(task, None) is None
            and task.uncancel() == 0
            and kind is asyncio.CancelledError
        ):
            raise TimeoutError from error

    def _expire(self) -> None:
        self._timer = None
        for task, at in tuple(self._running.items()):
            loop = task.get_loop()
            if at > loop.time():
                self._timer = loop.call_at(at, self._expire)
                return
            del self._running[task]
            task.cancel()


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a limit needs a task to cancel")
    return task
