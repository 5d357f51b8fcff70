"""End what a test run left behind, when the run itself can no longer do it.

Runs as a process of its own (`python reaper.py`), in a session of its own, so that neither Ctrl-C
nor a kill of the test run's process group reaches it. It reads one line per event and acts only
when its standard input closes, which the kernel does however the run ended:

    start PGID      a process group was started
    end PGID        that process group has ended and was waited for
    folder PATH     a folder was made
    removed PATH    that folder was removed
"""

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterable


def leftovers(lines: Iterable[str]) -> tuple[set[int], set[str]]:
    """Return the process groups and the folders that were begun and never ended."""
    groups: set[int] = set()
    folders: set[str] = set()
    for line in lines:
        event, _, value = line.rstrip("\n").partition(" ")
        if event == "start":
            groups.add(int(value))
        elif event == "end":
            groups.discard(int(value))
        elif event == "folder":
            folders.add(value)
        elif event == "removed":
            folders.discard(value)
    return groups, folders


def main() -> None:
    """Wait for the end of standard input, then kill the groups and remove the folders left over."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    groups, folders = leftovers(sys.stdin)
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
