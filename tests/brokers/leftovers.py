"""What a test run has started and made, to be ended and removed however the run ends.

At the exit of the interpreter this module does it. Should the run be killed, a small process beside
it does: `reaper.py`, which is told of everything.
"""

import atexit
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Protocol

_POLL = 0.05


class Ending(Protocol):
    """A server that leads a process group."""

    @property
    def pid(self) -> int:
        """The number of its process, and of the group."""

    def kill(self) -> None:
        """End it and wait until it has ended."""


def make_folder(name: str, owner: tuple[int, int] | None = None) -> Path:
    """Make a folder below the system's temporary one, to be removed with `remove_folder`.

    `owner` is the number of the user and of the group that get it.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"pyfly-{name}-"))
    leftovers.made(folder)
    if owner is not None:
        os.chown(folder, *owner)
    return folder


def remove_folder(folder: Path) -> None:
    """Remove a folder of `make_folder` with all that is in it."""
    # A server's helpers may outlive it for a moment and still write.
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break
        time.sleep(_POLL)
    leftovers.removed(folder)


class Leftovers:
    """The servers that run now and the folders that exist now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reaper: subprocess.Popen[str] | None = None
        self._servers: set[Ending] = set()
        self._folders: set[Path] = set()

    def started(self, server: Ending) -> None:
        """Note that a server runs."""
        with self._lock:
            self._servers.add(server)
            self._tell(f"start {server.pid}")

    def ended(self, server: Ending) -> None:
        """Note that a server has ended and was waited for."""
        with self._lock:
            if server in self._servers:
                self._servers.discard(server)
                self._tell(f"end {server.pid}")

    def made(self, folder: Path) -> None:
        """Note that a folder was made."""
        with self._lock:
            self._folders.add(folder)
            self._tell(f"folder {folder}")

    def removed(self, folder: Path) -> None:
        """Note that a folder was removed."""
        with self._lock:
            self._folders.discard(folder)
            self._tell(f"removed {folder}")

    def end_all(self) -> None:
        """End what runs, remove what exists, and let the reaper go."""
        for server in list(self._servers):
            server.kill()
        for folder in list(self._folders):
            remove_folder(folder)
        with self._lock:
            if self._reaper is not None:
                self._reaper.communicate()
                self._reaper = None

    def _tell(self, event: str) -> None:
        if self._reaper is None:
            script = Path(__file__).with_name("reaper.py")
            self._reaper = subprocess.Popen(
                [sys.executable, "-I", "-S", str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
            )
            atexit.register(self.end_all)
        if self._reaper.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._reaper.stdin.write(event + "\n")
                self._reaper.stdin.flush()


leftovers = Leftovers()
