"""The corpus: broken and valid configurations as data, and how one of them is loaded.

Each case stands in a TOML file: what is given (a file, variables, arguments), and what must come
of it. `broken/` says which code, at which place, with which help; `valid/` says which values.
"""

from __future__ import annotations

import os
import socket
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pyfly_messaging.errors import ConfigurationError
from pyfly_messaging.settings import Diagnostic, MessagingSettings
from pyfly_messaging.settings.late_errors import check_listener_names
from pyfly_messaging.settings.models.provider import has_client

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Case:
    """One configuration and what must come of it. The fields are the keys of the TOML files."""

    id: str
    yaml: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    encoding: str = "utf-8"
    mode: int | None = None
    modes: dict[str, int] = field(default_factory=dict)
    special: dict[str, str] = field(default_factory=dict)
    generate: str = ""
    certificates: bool = False
    env: dict[str, str] = field(default_factory=dict)
    path: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    listeners: tuple[str, ...] = ()
    code: str = ""
    severity: str = "error"
    at: str = ""
    related: tuple[str, ...] = ()
    says: str = ""
    help: str = ""
    all: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    expect: dict[str, Any] = field(default_factory=dict)
    quiet: bool = False
    skip_schema: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a case: settings or an error, and all that was said."""

    settings: MessagingSettings | None
    error: ConfigurationError | None
    diagnostics: tuple[Diagnostic, ...]


@dataclass
class Scoreboard:
    """How the corpus fares, counted over all its cases."""

    broken: set[str] = field(default_factory=set)
    valid: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    located: set[str] = field(default_factory=set)
    helped: set[str] = field(default_factory=set)
    secrets: set[str] = field(default_factory=set)
    rejected: set[str] = field(default_factory=set)

    def lines(self) -> Iterator[str]:
        """Yield the scoreboard as text."""
        broken, valid = len(self.broken), len(self.valid)
        yield f"{broken} broken configurations, {valid} valid ones"
        yield f"silent    {len(self.silent):4}  accepted without a word"
        yield f"located   {_share(len(self.located), broken)}  to the character or the variable"
        yield f"helped    {_share(len(self.helped), broken)}  with the right way out"
        yield f"secrets   {len(self.secrets):4}  shown"
        yield f"rejected  {len(self.rejected):4}  valid ones refused"


def cases(kind: str) -> list[Case]:
    """Return the cases of a folder of the corpus, in the order of its files."""
    found = []
    for path in sorted((HERE / kind).glob("*.toml")):
        with path.open("rb") as file:
            for data in tomllib.load(file)["case"]:
                values = {key.replace("-", "_"): _frozen(value) for key, value in data.items()}
                if (body := values.pop("messaging", None)) is not None:
                    values["yaml"] = below_messaging(body)
                values["id"] = f"{path.stem}/{values['id']}"
                found.append(Case(**values))
    return found


def below_messaging(body: str) -> str:
    """Return a body as the section ``pyfly: messaging:`` of a file."""
    lines = body.strip("\n").split("\n")
    return "\n".join(["pyfly:", "  messaging:", *(f"    {line}" for line in lines)]) + "\n"


def load(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """Put the files of a case into a folder and load its configuration there."""
    _write(case, folder, monkeypatch)
    monkeypatch.chdir(folder)
    if case.absent:

        def hide(package: str) -> bool:
            return package not in case.absent and has_client(package)

        monkeypatch.setattr("pyfly_messaging.settings.validation.checks.has_client", hide)
        monkeypatch.setattr("pyfly_messaging.settings.models.provider.has_client", hide)
    try:
        settings = MessagingSettings.load(case.path, environ=case.env, **case.arguments)
        if case.listeners:
            check_listener_names(settings, case.listeners)
    except ConfigurationError as error:
        return Outcome(settings=None, error=error, diagnostics=error.diagnostics)
    return Outcome(settings=settings, error=None, diagnostics=settings.notes)


def _write(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = dict(case.files)
    if case.generate:
        files["pyfly.yaml"] = _GENERATORS[case.generate]()
    elif case.yaml is not None:
        files["pyfly.yaml"] = case.yaml
    modes = case.modes | ({"pyfly.yaml": case.mode} if case.mode is not None else {})
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode(case.encoding))
    for name, kind in case.special.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        _MAKERS[kind](folder / name)
    if case.certificates:
        for source in (HERE / "pem").iterdir():
            (folder / source.name).write_bytes(source.read_bytes())
    if modes:
        _forbid(set(modes), monkeypatch)


def _make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        # The name of a socket may have 107 bytes only.
        listening.bind(os.path.relpath(path))


_MAKERS: dict[str, Callable[[Path], None]] = {
    "fifo": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "socket": _make_socket,
    "directory": Path.mkdir,
    "link-to-nowhere": lambda path: path.symlink_to("nowhere"),
    "link-to-itself": lambda path: path.symlink_to(path.name),
}


def _forbid(names: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make files unreadable, for a superuser as well, whom permissions do not stop."""
    opened = os.open

    def refuse(path: Any, *args: Any, **kwargs: Any) -> Any:
        if Path(path).name in names:
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)


def _alias_bomb() -> str:
    lines = ["pyfly:", "  messaging:", "    kafka:", "      options:", "        a0: &a0 [x, x, x]"]
    for level in range(1, 9):
        aliases = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"        a{level}: &a{level} [{aliases}]")
    return "\n".join(lines) + "\n"


def _nested(depth: int) -> str:
    value = "[" * depth + "]" * depth
    return f"pyfly:\n  messaging:\n    kafka: {{options: {{x: {value}}}}}\n"


def _share(number: int, total: int) -> str:
    return f"{number:4}  {100 * number / total if total else 0:5.1f} %"


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _merges() -> str:
    keys, aliases = ", ".join(f"k{n}: 1" for n in range(1000)), ", ".join(["*a"] * 1000)
    return below_messaging(f"kafka:\n  options:\n    a: &a {{{keys}}}\n    b: {{<<: [{aliases}]}}")


_GENERATORS: dict[str, Callable[[], str]] = {
    "alias-bomb": _alias_bomb,
    "deep": lambda: _nested(120),
    "very-deep": lambda: _nested(3000),
    "large": lambda: "pyfly: {}\n#" + "x" * (1024 * 1024),
    "long-exchange": lambda: below_messaging("rabbitmq:\n  exchange-name: " + "x" * 128),
    "merges": _merges,
    "values": lambda: below_messaging("kafka: {options: [" + "1," * 20_000 + "]}"),
    "placeholders": lambda: below_messaging("kafka:\n  client-id: " + "${BIG}" * 600),
    "enormous-secret": lambda: below_messaging(
        "kafka:\n  client-id: ${file:pyfly.yaml} #" + "x" * 70_000
    ),
    "enormous-number": lambda: below_messaging("listener:\n  retries: " + "9" * 5000),
}

__all__ = ["Case", "Outcome", "Scoreboard", "below_messaging", "cases", "load"]
