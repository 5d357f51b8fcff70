"""One model for everything there is to say about a configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pyfly_messaging.settings.diagnostics.origins import Origin
from pyfly_messaging.settings.text.phrases import shortened
from pyfly_messaging.settings.text.secrets import mask_secrets

Severity: TypeAlias = Literal["error", "warning", "info"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExcerptLine:
    """A line of a file as it may be shown: secrets are masked, control characters replaced.

    Attributes:
        number: The line's number, from 1.
        text: What may be shown of it.
        start: Where the marked part begins in ``text``, in cells of a terminal.
        width: How wide the marked part is, in cells.
        label: What to say beside the mark.
        primary: Whether this is the place itself, not one that explains it.

    """

    number: int
    text: str
    start: int
    width: int
    label: str = ""
    primary: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Related:
    """Another place that explains a diagnostic."""

    origin: Origin
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One problem, with its place and a way out. It never holds a secret, and no endless text.

    Attributes:
        code: Stable; ``docs/configuration-errors.md`` explains each.
        severity: ``error`` refuses the configuration; ``warning`` and ``info`` are logged.
        message: What is wrong.
        setting: Dotted path of the setting (``pyfly.messaging.kafka.acks``), empty when none.
        origin: Where, or None for what is nowhere written.
        label: What to say at the place itself: what was expected, what was found.
        help: What to do.
        related: Other places that explain it.
        excerpt: The lines of the file, ready to be shown.

    """

    code: str
    message: str
    severity: Severity = "error"
    setting: str = ""
    origin: Origin | None = None
    label: str = ""
    help: str = ""
    related: tuple[Related, ...] = ()
    excerpt: tuple[ExcerptLine, ...] = ()

    def __post_init__(self) -> None:
        for name in ("message", "setting", "label", "help"):
            text = mask_secrets(getattr(self, name))
            object.__setattr__(self, name, shortened(text))

    def as_dict(self) -> dict[str, Any]:
        """Return the diagnostic as plain data for JSON; keys without a value are left out."""
        data: dict[str, Any] = {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "setting": self.setting,
            "detail": self.label,
            "help": self.help,
        }
        if self.origin is not None:
            data |= _place(self.origin)
        if self.related:
            data["related"] = [_place(r.origin) | {"detail": r.label} for r in self.related]
        return {key: value for key, value in data.items() if value != ""}


Report: TypeAlias = Callable[[Diagnostic], None]
"""What takes note of a problem when one is found."""


def _place(origin: Origin) -> dict[str, Any]:
    data: dict[str, Any] = {"origin": origin.kind}
    if origin.kind in {"file", "dotenv", "secret-file"}:
        data["file"] = origin.name
    elif origin.kind == "environment":
        data["variable"] = origin.name
    else:
        data["name"] = origin.name
    if origin.variable:
        data["variable"] = origin.variable
    if origin.line:
        data |= {"line": origin.line, "column": origin.column}
        data |= {"endLine": origin.end_line, "endColumn": origin.end_column}
    return data


_STAGES = {"file": 0, "dotenv": 1, "secret-file": 2, "environment": 3, "source": 4, "keyword": 5}
_ACROSS = ("CFG2", "CFG3")


def in_order(diagnostics: Iterable[Diagnostic], files: Iterable[str]) -> list[Diagnostic]:
    """Return each diagnostic once: by file and line, then the environment, then across settings."""
    order = {name: number for number, name in enumerate(files)}

    def key(diagnostic: Diagnostic) -> tuple[int, int, int, int, str]:
        origin = diagnostic.origin or Origin("default")
        stage = _STAGES.get(origin.kind, 6) + 10 * diagnostic.code.startswith(_ACROSS)
        name = origin.name if stage in {3, 5} else ""
        return (stage, order.get(origin.name, len(order)), origin.line, origin.column, name)

    return sorted(dict.fromkeys(diagnostics), key=key)
