"""Local files: which text is the path of one, and what may be read."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from pyfly_messaging.settings.text.secrets import holds_secret

MOST_BYTES = 1024 * 1024
MOST_SECRET_BYTES = 64 * 1024
_SCHEME = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]+:/")
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def no_path(text: str) -> str:
    """Return why a text is not the path of a local file, empty when it may be one.

    The answer repeats nothing of the text.
    """
    if holds_secret(text):
        what = "certificate" if "CERTIFICATE" in text else "key"
        return f"expected the path of a file; the text looks like the {what} itself"
    if _SCHEME.match(text):
        return "expected the path of a local file, not a URL"
    if not {"\n", "\r", "\0"}.isdisjoint(text.strip()) or text.lstrip().startswith(("pyfly:", "{")):
        return "expected the path of a file; the text looks like the content of one"
    return ""


def is_there(path: Path) -> bool:
    """Tell whether there is anything at a path, be it a link that leads nowhere.

    What cannot even be looked at counts: reading it says why.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return bool(broken_link(path))
    except OSError:
        return True
    except ValueError:  # a null character
        return False
    return True


def broken_link(path: Path) -> str:
    """Return which link at a path or above it leads nowhere, and where it points, empty if none."""
    for part in (path, *path.parents):
        try:
            target = part.readlink()
        except (OSError, ValueError):
            continue  # no link
        try:
            part.stat()
        except FileNotFoundError:
            return f"{_named(part, path)} is a symbolic link to {target}, which does not exist"
        except OSError as error:
            if error.errno == errno.ELOOP:
                return f"{_named(part, path)} is a symbolic link to {target}, in a circle"
    return ""


def _named(part: Path, path: Path) -> str:
    return "it" if part == path else str(part)


def read_file(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return the content of a regular file; nothing else is opened, so no read waits.

    Args:
        path: The file.
        most: Bytes that it may have.

    Raises:
        OSError: It cannot be read; ``strerror`` says why. Its ``errno`` is EFBIG for a large file.

    """
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "it is not a path")
    _check_kind(_status(path))
    with open(path, "rb", opener=_open_at_once) as file:
        _check_kind(os.fstat(file.fileno()))
        data: bytes = file.read(most + 1) or b""
    if len(data) > most:
        size = "1 MB" if most == MOST_BYTES else f"{most // 1024} KB"
        raise OSError(errno.EFBIG, f"it is larger than {size}")
    return data


def read_secret(path: Path) -> str:
    """Return the text of a secret file without the line break at its end.

    Raises:
        OSError: It cannot be read, is larger than 64 KB, or is not UTF-8.

    """
    data = read_file(path, MOST_SECRET_BYTES)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = None
    if text is None:
        raise OSError(errno.EILSEQ, "it is not UTF-8")
    return text.removesuffix("\n").removesuffix("\r")


def reason(error: OSError) -> str:
    """Return why a file cannot be read, for people."""
    return error.strerror or type(error).__name__


def _status(path: Path) -> os.stat_result:
    """Return the status of what a path leads to, or say which link leads nowhere."""
    try:
        return path.stat()
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ELOOP} and (problem := broken_link(path)):
            raise OSError(error.errno, problem) from None
        raise


def _check_kind(status: os.stat_result) -> None:
    for is_kind, name in _KINDS:
        if is_kind(status.st_mode):
            raise OSError(errno.EINVAL, f"it is {name}, not a file")


def _open_at_once(name: str, flags: int) -> int:
    """Open without waiting for a writer, should a pipe have taken the place of the file."""
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
