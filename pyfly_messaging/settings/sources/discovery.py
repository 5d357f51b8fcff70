"""Which files are read, and their text. A file that is asked for and not there is an error."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pyfly_messaging.settings.diagnostics.codes import CODES
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic, Report
from pyfly_messaging.settings.diagnostics.origins import Origin
from pyfly_messaging.settings.diagnostics.source_text import SourceText
from pyfly_messaging.settings.sources.inputs import Inputs, as_path
from pyfly_messaging.settings.text.local_files import is_there, no_path, read_file, reason
from pyfly_messaging.settings.text.secrets import mask_url

CONFIG_VARIABLE = "PYFLY_CONFIG"
PROFILES_VARIABLE = "PYFLY_PROFILES_ACTIVE"
SECRETS_VARIABLE = "PYFLY_SECRETS_DIR"
PLACES = ("config/pyfly.yaml", "pyfly.yaml")
GUARDED_PROFILES = frozenset({"production", "prod"})
_PROFILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a load, the base first, then one for each profile in order.

    Attributes:
        paths: What to read.
        profiles: The active profiles.

    """

    paths: tuple[Path, ...]
    profiles: tuple[str, ...]


def find_files(inputs: Inputs, environ: Mapping[str, str], report: Report) -> Files:
    """Return the files to read and the active profiles; report what is missing."""
    profiles = _profiles(inputs, environ, report)
    base = _base(inputs, environ, report)
    paths = [base] if base is not None and is_there(base) else []
    where = [base] if base is not None else [Path(place) for place in PLACES if inputs.discover]
    for profile in profiles:
        candidates = [path.with_name(f"{path.stem}-{profile}{path.suffix}") for path in where]
        found = next((path for path in candidates if is_there(path)), None)
        if found is not None:
            paths.append(found)
        elif candidates:
            _missing_profile(profile, where, inputs, report)
    return Files(tuple(paths), tuple(profiles))


def _profiles(inputs: Inputs, environ: Mapping[str, str], report: Report) -> list[str]:
    origin = Origin("environment", PROFILES_VARIABLE)
    given = inputs.profiles
    if given is None:
        given = tuple(environ.get(PROFILES_VARIABLE, "").split(","))
    else:
        origin = Origin("keyword", "profiles")
    found = []
    for name in dict.fromkeys(profile.strip() for profile in given):
        if name and not _PROFILE.fullmatch(name):
            report(
                Diagnostic(
                    code="CFG023",
                    message=f"{name!r} is not the name of a profile",
                    origin=origin,
                    help="use letters, digits, '.', '_' and '-'; several are separated by commas",
                )
            )
        elif name:
            found.append(name)
    return found


def _base(inputs: Inputs, environ: Mapping[str, str], report: Report) -> Path | None:
    if inputs.path is not None:
        return _explicit(os.fspath(inputs.path), Origin("keyword", "path"), "", report)
    named = environ.get(CONFIG_VARIABLE, "").strip()
    if named and inputs.discover:
        origin = Origin("environment", CONFIG_VARIABLE)
        return _explicit(named, origin, f"{CONFIG_VARIABLE} names ", report)
    if not inputs.discover:
        return None
    found = [path for path in map(Path, PLACES) if is_there(path)]
    for path in (*found[1:], *_wrong_suffix()):
        read = f"{found[0]} is read" if found else f"only {' and '.join(PLACES)} are looked for"
        report(
            Diagnostic(
                code="CFG024",
                severity="warning",
                message=f"{path} is not read",
                origin=Origin("file", str(path)),
                label=read,
                help=CODES["CFG024"].cure,
            )
        )
    return found[0] if found else None


def _wrong_suffix() -> Iterator[Path]:
    return (path for path in (Path(p).with_suffix(".yml") for p in PLACES) if os.path.lexists(path))


def _explicit(named: str, origin: Origin, prefix: str, report: Report) -> Path | None:
    """Return a file that was asked for; report a text that is no path, and one that is not there.

    What is no path is not repeated: it may be the content of a file, or have a password in it.
    """
    if problem := no_path(named):
        report(
            Diagnostic(
                code="CFG026",
                message=f"{prefix or 'path names '}no local file",
                origin=origin,
                label=problem,
                help=CODES["CFG026"].cure,
            )
        )
        return None
    path = as_path(named)
    if is_there(path):
        return path
    from pyfly_messaging.settings.text.suggest import closest

    folder = path.parent
    try:
        near = closest(path.name, sorted(entry.name for entry in islice(folder.iterdir(), 1000)))
    except OSError:
        near = None
    shown = mask_url(str(path))  # what was meant for a URL may lack its scheme
    help_ = f'did you mean "{mask_url(str(folder / near))}"?' if near else CODES["CFG018"].cure
    if named.startswith("~") and path == Path(named):
        help_ = "write the whole path: there is no user of the name that follows the '~'"
    report(
        Diagnostic(
            code="CFG018",
            message=f"{prefix}{shown}, which does not exist"
            if prefix
            else f"{shown} does not exist",
            origin=origin if prefix else Origin("file", shown),
            help=help_,
        )
    )
    return path


def _missing_profile(profile: str, where: list[Path], inputs: Inputs, report: Report) -> None:
    from pyfly_messaging.settings.text.suggest import closest

    known = set(GUARDED_PROFILES)
    for path in where:
        if path.parent.is_dir():
            pattern = f"{path.stem}-*{path.suffix}"
            known |= {p.stem.removeprefix(f"{path.stem}-") for p in path.parent.glob(pattern)}
    if _misnamed(profile, where, report) or profile in GUARDED_PROFILES:
        return
    near = closest(profile, sorted(known))
    others = known - GUARDED_PROFILES
    kind, name = ("keyword", "profiles") if inputs.profiles else ("environment", PROFILES_VARIABLE)
    report(
        Diagnostic(
            code="CFG023",
            severity="error" if near else "warning" if others else "info",
            message=f"the profile {profile!r} has no file",
            origin=Origin(kind, name),  # type: ignore[arg-type]
            label=f"expected {where[-1].stem}-{profile}{where[-1].suffix} beside {where[-1]}",
            help=f'did you mean "{near}"?' if near else "create the file, if it should have one",
        )
    )


def _misnamed(profile: str, where: list[Path], report: Report) -> bool:
    """Warn about a file that is nearly the one of a profile: another separator or suffix."""
    found = [
        (path.with_name(f"{path.stem}{separator}{profile}{suffix}"), path)
        for path in where
        for separator in "-_."
        for suffix in (".yaml", ".yml")
    ]
    for path, base in found:
        if os.path.lexists(path):
            right = base.with_name(f"{base.stem}-{profile}{base.suffix}")
            report(
                Diagnostic(
                    code="CFG024",
                    severity="warning",
                    message=f"{path} is not read",
                    origin=Origin("file", str(path)),
                    label=f"the file of the profile {profile!r} is {right}",
                    help=f"rename it to {right.name}",
                )
            )
            return True
    return False


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
