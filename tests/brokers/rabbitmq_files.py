"""Where the RabbitMQ of the tests comes from: a package of this machine, or of another Debian."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .install import NotAvailable, apt_install, cache_folder, last_line, locked, say
from .process import Owner

_PACKAGED = "usr/lib/rabbitmq/bin"

# A namespace of its own keeps the mounts from everybody else, and ends with the process.
_ENTER_SCRIPT = """
set -e
root=$1 folder=$2 user=$3
shift 3
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mkdir -p "$root$folder"
mount --bind "$folder" "$root$folder"
exec chroot --userspec="$user" --groups= "$root" "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RabbitFiles:
    """What it takes to run RabbitMQ: its programs, and the user to run them as.

    `root` is the folder of the Debian in which the programs are, where that is not this machine's.
    """

    scripts: str
    epmd: str
    owner: Owner | None
    origin: str
    root: Path | None = None

    def command(self, program: str, *arguments: str, folder: Path) -> list[str]:
        """Return the command of a program, which sees `folder` at the same place as everybody."""
        if self.root is None or self.owner is None:
            return [program, *arguments]
        enter = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _ENTER_SCRIPT, "sh"]
        user = f"{self.owner.user}:{self.owner.group}"
        return [*enter, str(self.root), str(folder), user, program, *arguments]

    @property
    def runs_as(self) -> Owner | None:
        """Who has to run these commands; None for whoever runs the tests.

        The way into another Debian takes root, and becomes the owner only there.
        """
        return self.owner if self.root is None else None


@cache
def rabbit_files() -> RabbitFiles:
    """Return the files of this machine's RabbitMQ, after installing its package where needed.

    Raises NotAvailable with the reason.
    """
    origin = "this machine"
    scripts = _rabbit_scripts()
    if scripts is None:
        apt_install("rabbitmq-server")
        origin = "apt"
        scripts = _rabbit_scripts()
    epmd = shutil.which("epmd") or shutil.which("epmd", path="/usr/lib/erlang/bin")
    if scripts is None or epmd is None:
        raise NotAvailable("RabbitMQ needs the program rabbitmq-server, and Erlang's epmd")
    owner = _owner(Path("/etc/passwd")) if os.geteuid() == 0 else None
    return RabbitFiles(scripts=scripts, epmd=epmd, owner=owner, origin=origin)


@cache
def rabbit4_files() -> RabbitFiles:
    """Return the files of RabbitMQ 4, from a Debian 13 that is unpacked into the cache if needed.

    It needs root on Debian or Ubuntu; raises NotAvailable with the reason elsewhere.
    """
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        raise NotAvailable("RabbitMQ 4 needs root on Linux, to run in a Debian 13 of its own")
    root = cache_folder() / "debian-13-rabbitmq"
    with locked(root):
        if not (root / _PACKAGED / "rabbitmq-server").exists():
            _unpack_debian(root)
    return RabbitFiles(
        scripts=f"/{_PACKAGED}",
        epmd="/usr/bin/epmd",
        owner=_owner(root / "etc/passwd"),
        origin="Debian 13 in the cache",
        root=root,
    )


def _unpack_debian(root: Path) -> None:
    if shutil.which("debootstrap") is None:
        apt_install("debootstrap")
    program = shutil.which("debootstrap")
    if program is None:
        raise NotAvailable("RabbitMQ 4 needs the program debootstrap, to unpack a Debian 13")
    say("unpacking Debian 13 with RabbitMQ 4")
    partial = Path(tempfile.mkdtemp(prefix="partial-", dir=root.parent))
    try:
        # What it mounts is gone with it, and cannot be in the way when a half is removed.
        command = ["unshare", "--mount", "--propagation", "private", program]
        command += ["--variant=minbase", "--include=rabbitmq-server", "trixie", str(partial)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NotAvailable(f"debootstrap failed: {last_line(done.stdout)}")
        partial.chmod(0o755)
        shutil.rmtree(root, ignore_errors=True)
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _owner(users: Path) -> Owner | None:
    """Return the user that Debian's package made, if there is one."""
    for line in users.read_text().splitlines() if users.exists() else ():
        name, _, user, group, *_ = line.split(":")
        if name == "rabbitmq":
            return Owner(int(user), int(group))
    return None


def _rabbit_scripts() -> str | None:
    """Return the folder of RabbitMQ's own scripts.

    Debian's /usr/sbin/rabbitmq-server is a wrapper around them, made for the system's one node.
    """
    packaged = Path("/", _PACKAGED)
    if (packaged / "rabbitmq-server").exists():
        return str(packaged)
    found = shutil.which("rabbitmq-server")
    return str(Path(found).resolve().parent) if found else None
