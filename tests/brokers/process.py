"""Server processes of the tests, which can be killed and paused by their process id."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict, TypeVar

from .leftovers import leftovers

AnswerT = TypeVar("AnswerT")

START_DEADLINE = 120.0
"""Seconds that a server has to become ready: far more than it needs, for loaded machines."""

STOP_DEADLINE = 30.0
"""Seconds that a server has to end by itself after SIGTERM."""

ANSWER_DEADLINE = 30.0
"""Seconds that a server has to answer that somebody else has started."""

_POLL = 0.05


class Owner(NamedTuple):
    """The user and the group, by number, that run a server and own its files."""

    user: int
    group: int


class Identity(TypedDict, total=False):
    """The arguments of `subprocess` that make a process run as somebody else."""

    user: int
    group: int
    extra_groups: list[int]


def identity(owner: Owner | None) -> Identity:
    """Return the arguments that make a process run as `owner`; none, if that is None."""
    if owner is None:
        return {}
    return {"user": owner.user, "group": owner.group, "extra_groups": []}


class StartError(RuntimeError):
    """A server did not start; the message carries the end of its log."""


class Server:
    """One server process in a session of its own, whose output goes to a log file.

    The command has to become the server by `exec`, so that `pid` is the server itself and not a
    shell around it. A server that has ended can be started again; its log then begins anew.
    `explain` adds to the error of a failed start what the log does not say.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        folder: Path,
        environ: Mapping[str, str],
        owner: Owner | None = None,
        explain: Callable[[], str] = str,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.paused = False
        self._command = list(command)
        self._folder = folder
        self._environ = dict(environ)
        self._owner = owner
        self._explain = explain
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the server, also after it has ended."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process exists; a paused one does."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process and return without waiting for it to become ready."""
        if self.running:
            raise RuntimeError(f"{self.name} is already running")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env=self._environ,
                start_new_session=True,
                **identity(self._owner),
            )
        self.paused = False
        leftovers.started(self)

    def kill(self) -> None:
        """End the process with SIGKILL and wait for it; does nothing when it has ended."""
        self.send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            leftovers.ended(self)

    def pause(self) -> None:
        """Stop the process with SIGSTOP: its connections stay open and nothing answers.

        Returns when every thread of it stands, which takes a moment.
        """
        self._require_running()
        if self.paused:
            return
        self.send(signal.SIGSTOP)
        if sys.platform == "linux":
            while not os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG):
                self._require_running()
                time.sleep(0.001)
        self.paused = True

    def resume(self) -> None:
        """Let a paused process go on; one that is not paused is left as it is."""
        self._require_running()
        self.send(signal.SIGCONT)
        self.paused = False

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process and those that it forked; does nothing when it has ended."""
        # As long as nobody has waited for the process, its number cannot be another's.
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def wait_for_end(self, deadline: float) -> None:
        """Wait until the process has ended, with SIGKILL at `deadline` of `time.monotonic()`."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(max(0.0, deadline - time.monotonic()))
        self.kill()

    def wait_until(self, ready: Callable[[], bool], deadline: float) -> None:
        """Return when `ready()` is true; raise StartError when the process ends or time is up.

        `deadline` is a value of `time.monotonic()`.
        """
        while not ready():
            if self._process is None or self._process.poll() is not None:
                code = self._process.returncode if self._process is not None else None
                raise StartError(f"{self.name} ended with exit code {code}{self._tail()}")
            if time.monotonic() > deadline:
                raise StartError(f"{self.name} was not ready in time{self._tail()}")
            time.sleep(_POLL)

    def output(self) -> str:
        """Return all that the process has written since it was last started."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _require_running(self) -> None:
        if not self.running:
            raise RuntimeError(f"{self.name} is not running")

    def _tail(self, lines: int = 80) -> str:
        text = [*self.output().splitlines()[-lines:], *self._explain().splitlines()]
        return "; the end of its log:\n" + "\n".join(f"    {line}" for line in text or ["(empty)"])


def terminate(servers: Sequence[Server]) -> None:
    """End servers with SIGTERM, all at once; those that take too long with SIGKILL."""
    for server in servers:
        server.send(signal.SIGTERM)
        server.send(signal.SIGCONT)
    deadline = time.monotonic() + STOP_DEADLINE
    for server in servers:
        server.wait_for_end(deadline)


def wait_for_answer(ask: Callable[[], AnswerT], title: str) -> AnswerT:
    """Return the first answer that is not empty; raise StartError when none comes in time.

    OSError and ValueError of `ask` mean that there is no answer yet.
    """
    deadline = time.monotonic() + ANSWER_DEADLINE
    cause: Exception | None = None
    while time.monotonic() < deadline:
        try:
            if answer := ask():
                return answer
        except (OSError, ValueError) as error:
            cause = error
        time.sleep(_POLL)
    raise StartError(f"no answer from {title}: {cause or 'nothing in it'}") from cause
