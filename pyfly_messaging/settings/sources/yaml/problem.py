"""A parser's error reduced to positions, and the diagnostic made of one."""

from __future__ import annotations

from ruamel.yaml.error import MarkedYAMLError

from pyfly_messaging.settings.diagnostics.codes import CODES
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic, Related
from pyfly_messaging.settings.diagnostics.source_text import SourceText


class Problem:
    """A parser's error, reduced to positions in the text."""

    def __init__(self, error: MarkedYAMLError, source: SourceText) -> None:
        self.source = source
        self.context: str = error.context or ""
        self.problem: str = error.problem or ""
        end = len(source.text)
        self.at: int = error.problem_mark.index if error.problem_mark else end
        self.begin: int = error.context_mark.index if error.context_mark else self.at

    def before(self) -> str:
        """Return the line of the problem, up to it."""
        line, column = self.source.position(self.at)
        return self.source.line(line)[: column - 1]

    def previous(self) -> tuple[int, str]:
        """Return number and text of the line above that is neither empty nor a comment."""
        number = self.source.position(self.at)[0] - 1
        while number > 0:
            text = self.source.line(number)
            if text.strip() and not text.lstrip().startswith("#"):
                return number, text
            number -= 1
        return 0, ""


def diagnose(
    code: str,
    message: str,
    source: SourceText,
    span: tuple[int, int | None],
    label: str = "",
    *,
    help: str = "",  # noqa: A002 - the field's name
    related: tuple[Related, ...] = (),
) -> Diagnostic:
    """Return a diagnostic for a span of a text; without an end it goes to the end of the line."""
    last = max(0, len(source.text.rstrip()) - 1)
    start, end = min(span[0], last), span[1]
    if end is None:
        line, column = source.position(start)
        end = start + max(1, len(source.line(line).rstrip()) - column + 1)
    return Diagnostic(
        code=code,
        message=message,
        origin=source.origin(start, max(end, start + 1)),
        label=label,
        help=help or CODES[code].cure,
        related=related,
    )
