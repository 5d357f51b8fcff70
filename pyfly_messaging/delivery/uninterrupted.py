"""Steps that go on to their end, whatever cancels the task that waits for them.

A client library that is cancelled in the middle of a question to its broker leaves a connection
that no longer knows which answer belongs to which question. What opens, closes or takes back is
therefore not cancelled on the way: the cancellation is passed on when the step is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.handling import stopping

T = TypeVar("T")

Close = Callable[[Deadline, "asyncio.Task[Any] | None"], Coroutine[Any, Any, None]]
"""Closes by a deadline; the task is the one that wants it, which may run a handler itself."""


async def uninterrupted(
    step: Coroutine[Any, Any, T], on_cancel: Callable[[], None] | None = None
) -> T:
    """Run a step to its end in a task of its own, and return what it returns.

    Args:
        step: What must be bounded in time.
        on_cancel: Called at each cancellation of the caller; it may shorten the step.

    Raises:
        asyncio.CancelledError: The caller was cancelled meanwhile. The step is over nevertheless;
            an exception of its own is lost.

    """
    task = asyncio.create_task(step, name=f"pyfly {getattr(step, '__qualname__', step)}")
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancellation = error
            if on_cancel is not None:
                on_cancel()
    if cancellation is not None:
        if not task.cancelled():
            task.exception()  # the caller gets the cancellation instead
        raise cancellation
    return task.result()


async def close_within(seconds: float, close: Close) -> None:
    """Close to the end; when the caller is cancelled, without waiting for handlers any longer.

    Args:
        seconds: The shutdown timeout.
        close: Its waits are bounded by the deadline it gets, which then is over at once.

    """
    deadline = Deadline(seconds)
    with stopping():
        await uninterrupted(close(deadline, asyncio.current_task()), on_cancel=deadline.expire)
