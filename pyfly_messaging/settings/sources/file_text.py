"""The text of a file, or why it cannot be read."""

from __future__ import annotations

import errno
from pathlib import Path

from pyfly_messaging.settings.diagnostics.codes import CODES
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic, Report
from pyfly_messaging.settings.diagnostics.origins import Origin
from pyfly_messaging.settings.diagnostics.source_text import SourceText
from pyfly_messaging.settings.text.local_files import read_file, reason


def read_text(path: Path, report: Report) -> SourceText | None:
    """Return the text of a file, or None after a problem was reported."""
    found = _read(path)
    if isinstance(found, Diagnostic):
        report(found)
        return None
    return found


def _read(path: Path) -> SourceText | Diagnostic:
    name = str(path)
    try:
        data = read_file(path)
    except OSError as error:
        code = "CFG017" if error.errno == errno.EFBIG else "CFG019"
        return _refusal(code, f"{name} cannot be read: {reason(error)}", name)
    return _decode(name, data)


def _decode(name: str, data: bytes) -> SourceText | Diagnostic:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in data[:4]:
        return _refusal("CFG015", f"{name} is UTF-16 or UTF-32, not UTF-8", name, (1, 1))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        at, byte = error.start, data[error.start]
        before = data[:at].decode("utf-8")
    else:
        return SourceText(name, text.removeprefix("\ufeff"))
    place = SourceText(name, before).position(len(before))
    label = f"byte 0x{byte:02X} is not UTF-8; in Latin-1 it would be {chr(byte)!r}"
    return _refusal("CFG015", f"{name} is not UTF-8", name, place, label)


def _refusal(
    code: str, message: str, name: str, place: tuple[int, int] | None = None, label: str = ""
) -> Diagnostic:
    """Return a diagnostic about a file that could not be read, at a line and column if known."""
    line, column = place or (0, 0)
    origin = Origin("file", name, "", line, column, line, column + 1 if line else 0)
    cure = CODES[code].cure
    return Diagnostic(code=code, message=message, origin=origin, label=label, help=cure)
