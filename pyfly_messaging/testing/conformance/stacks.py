"""Where the tasks of an event loop wait, for a failure that says what hangs."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Collection, Iterator
from types import FrameType

_MOST_TASKS = 20


def stacks(tasks: Collection[asyncio.Task[object]] | None = None) -> str:
    """Return where tasks wait, from the outermost call to the innermost one.

    Args:
        tasks: By default all that run in this event loop.

    """
    running = sorted(asyncio.all_tasks() if tasks is None else tasks, key=_name)
    parts = ["".join(_lines(task)) for task in running[:_MOST_TASKS]]
    if len(running) > _MOST_TASKS:
        parts.append(f"... and {len(running) - _MOST_TASKS} more tasks\n")
    return "The tasks that still run:\n" + "".join(parts)


def _name(task: asyncio.Task[object]) -> str:
    return task.get_name()


def _lines(task: asyncio.Task[object]) -> Iterator[str]:
    yield f"task {task.get_name()}\n"
    for frame in _frames(task.get_coro()):
        yield from traceback.format_list(traceback.extract_stack(frame, limit=1))


def _frames(awaited: object) -> Iterator[FrameType]:
    """Yield the frames of a chain of coroutines; ``Task.get_stack`` has only the first of them."""
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if isinstance(frame, FrameType):
            yield frame
        inner = getattr(awaited, "cr_await", None)
        awaited = getattr(awaited, "gi_yieldfrom", None) if inner is None else inner
