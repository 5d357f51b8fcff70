"""What a broker must not leave behind: tasks, threads, processes, open files and sockets."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import stat
import threading
from collections.abc import Hashable
from pathlib import Path
from typing import TypeAlias

# The event loop keeps the threads in which it resolves host names.
_OF_THE_LOOP = "asyncio_"

Things: TypeAlias = dict[Hashable, str]
"""What there is, each with its description; the key is the thing itself, names can be shared."""


class Leftovers:
    """What there is now, to be compared with what is left later."""

    def __init__(self) -> None:
        self._before = everything()

    async def gone(self, deadline: float) -> None:
        """Return when nothing is left that was not there before.

        A transport closes in the next turns of the event loop, hence the patience.

        Raises:
            AssertionError: Something is still there after ``deadline`` seconds; it says what.

        """
        __tracebackhide__ = True
        try:
            async with asyncio.timeout(deadline):
                while self._left():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"left behind: {', '.join(sorted(self._left()))}") from None

    def _left(self) -> list[str]:
        return [what for thing, what in everything().items() if thing not in self._before]


def everything() -> Things:
    """Return what there is now."""
    return {**_tasks(), **_threads(), **_children(), **_files()}


def _tasks() -> Things:
    return {task: f"task {task.get_name()}: {task.get_coro()}" for task in asyncio.all_tasks()}


def _threads() -> Things:
    return {
        (thread, thread.ident): f"thread {thread.name} ({thread.ident})"
        for thread in threading.enumerate()
        if not thread.name.startswith(_OF_THE_LOOP)
    }


def _children() -> Things:
    """Return the child processes: all where the system lists them, else those of Python."""
    pids = {child.pid for child in multiprocessing.active_children()}
    for listed in Path("/proc/self/task").glob("*/children"):
        try:
            pids.update(int(pid) for pid in listed.read_text().split())
        except OSError:  # the thread has just ended
            continue
    return {("process", pid): f"process {pid}" for pid in pids}


def _files() -> Things:
    """Return the open files and sockets of this process, where the system can list them."""
    folder = Path("/dev/fd")
    if not folder.is_dir():
        return {}
    found: Things = {}
    for name in os.listdir(folder):  # noqa: PTH208 - a path of each would be of no use
        try:
            status = os.fstat(int(name))
        except (OSError, ValueError):  # the folder's own descriptor, closed again by now
            continue
        kind = "socket" if stat.S_ISSOCK(status.st_mode) else "file"
        what = f"{kind} {name} ({_target(name) or status.st_ino})"
        found["file", name, status.st_dev, status.st_ino] = what
    return found


def _target(descriptor: str) -> str:
    """Return what a descriptor leads to, where the system says so."""
    try:
        return str(Path("/proc/self/fd", descriptor).readlink())
    except OSError:
        return ""
