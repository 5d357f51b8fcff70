"""How to end a task, even one that swallows a cancellation.

A client library can catch the `CancelledError` that was meant for its caller: a reconnect that
begins anew, a cleanup that returns as if nothing had happened. The task then goes on, and one who
cancelled it once and awaits it hangs for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

CANCEL_AGAIN_AFTER = 1.0
"""Seconds. A task may catch its cancellation to clean up; one that goes on gets another."""

_CANCEL_AT_MOST = 10


def _cancel(task: asyncio.Future[Any]) -> None:
    task.cancel()


async def end_task(
    *tasks: asyncio.Future[Any], cancel: Callable[[asyncio.Future[Any]], None] = _cancel
) -> set[asyncio.Future[Any]]:
    """Cancel tasks and wait for their end; cancel those again that go on, ten times at most.

    Returns after about ten seconds at the latest. What a task returned or raised stays in it.

    Args:
        tasks: The tasks; those that are done already are left alone. The current task cannot be
            one of them.
        cancel: Cancels one of them, where that takes more than its ``cancel()``.

    Returns:
        The tasks that still run because they ignore their cancellation; usually none.

    """
    running = {task for task in tasks if not task.done()}
    for _ in range(_CANCEL_AT_MOST):
        if not running:
            break
        for task in running:
            cancel(task)
        _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_AFTER)
    return running
