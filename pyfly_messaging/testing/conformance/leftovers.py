"""What a broker must not leave behind: tasks, threads, sockets."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from pathlib import Path

# The event loop keeps the threads in which it resolves host names.
_OF_THE_LOOP = "asyncio_"


class Leftovers:
    """What there is now, to be compared with what is left later."""

    def __init__(self) -> None:
        self._before = _everything()

    async def gone(self, deadline: float) -> None:
        """Return when nothing is left that was not there before.

        A transport closes in the next turns of the event loop, hence the patience.

        Raises:
            AssertionError: Something is still there after ``deadline`` seconds; it says what.

        """
        try:
            async with asyncio.timeout(deadline):
                while _everything() - self._before:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            left = sorted(_everything() - self._before)
            raise AssertionError(f"left behind: {', '.join(left)}") from None


def _everything() -> set[str]:
    tasks = {f"task {task.get_name()}: {task.get_coro()}" for task in asyncio.all_tasks()}
    threads = {
        f"thread {thread.name}"
        for thread in threading.enumerate()
        if not thread.name.startswith(_OF_THE_LOOP)
    }
    return tasks | threads | _sockets()


def _sockets() -> set[str]:
    """Return the open sockets of this process, where the system can list them."""
    folder = Path("/dev/fd")
    if not folder.is_dir():
        return set()
    found = set()
    for name in os.listdir(folder):  # noqa: PTH208 - a path of each would be of no use
        try:
            status = os.fstat(int(name))
        except (OSError, ValueError):  # the folder's own descriptor, closed again by now
            continue
        if stat.S_ISSOCK(status.st_mode):
            found.add(f"socket {name} ({status.st_ino})")
    return found
