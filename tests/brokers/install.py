"""Install what is missing, where that needs no question: Debian packages, and files in a cache."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_APT_SCRIPT = """
set -e
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\\nexit 101\\n' > "$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
apt-get -o DPkg::Lock::Timeout=600 update
apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "$@"
"""


class NotAvailable(Exception):
    """A broker cannot be had on this machine; the message is one line that says why."""


def apt_install(*packages: str) -> None:
    """Install Debian packages where that needs no question; else return without a word.

    The packages' services are not started, by a policy that stands only while this runs.
    """
    failure = _apt_failure(*packages)
    if failure is not None:
        raise NotAvailable(f"apt could not install {' '.join(packages)}: {failure}")


def cache_folder() -> Path:
    """Return the folder for what is downloaded: the user's, never one in the checkout."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "pyfly-messaging"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time, and one thread, into the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def last_line(text: str) -> str:
    """Return the last line that says something, where programs put the reason of a failure."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "no output")


def say(text: str) -> None:
    """Tell the person who waits what takes so long."""
    print(f"brokers: {text}", file=sys.stderr, flush=True)


@cache
def _apt_failure(*packages: str) -> str | None:
    """Install the packages, at most once in a run, and return why it failed."""
    shell = _root_shell() if shutil.which("apt-get") is not None else None
    if shell is None:
        return None
    with locked(cache_folder() / "apt"):
        say(f"installing {' '.join(packages)} with apt")
        command = [*shell, "-c", _APT_SCRIPT, "sh", *packages]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    return last_line(done.stderr) if done.returncode != 0 else None


def _root_shell() -> Sequence[str] | None:
    """Return the command of a root shell, or None where one cannot be had without a password."""
    if os.geteuid() == 0:
        return ["sh"]
    sudo = shutil.which("sudo")
    if sudo is None:
        return None
    allowed = subprocess.run([sudo, "-n", "true"], capture_output=True, check=False)
    return [sudo, "-n", "sh"] if allowed.returncode == 0 else None
