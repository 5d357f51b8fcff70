"""Diagnostics as people read them: text with excerpts, in colour where asked for, and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic, ExcerptLine
from pyfly_messaging.settings.diagnostics.origins import Origin
from pyfly_messaging.settings.text.phrases import shortened

MOST_SHOWN = 100
"""Diagnostics in one report; of the others it says how many there are."""
_COLOURS = {"error": "1;31", "warning": "1;33", "info": "1;36"}


def render_report(diagnostics: Sequence[Diagnostic], *, colour: bool = False) -> str:
    """Return all diagnostics as one text, in the style of a compiler, with a count at the end.

    Args:
        diagnostics: What to report, in order.
        colour: Whether to add ANSI colours. Only a terminal should get them.

    """
    shown = most_important(diagnostics)
    blocks = [render_diagnostic(diagnostic, colour=colour) for diagnostic in shown]
    if more := len(diagnostics) - len(shown):
        blocks.append(f"... and {more:,} more")
    return "\n\n".join([*blocks, _count(diagnostics)])


def most_important(diagnostics: Sequence[Diagnostic]) -> list[Diagnostic]:
    """Return as many diagnostics as a report shows, in their order; errors count most."""
    ranks = ("error", "warning", "info")
    by_rank = sorted(enumerate(diagnostics), key=lambda found: ranks.index(found[1].severity))
    return [
        diagnostic for _, diagnostic in sorted(by_rank[:MOST_SHOWN], key=lambda found: found[0])
    ]


def render_diagnostic(diagnostic: Diagnostic, *, colour: bool = False) -> str:
    """Return one diagnostic as text of several lines."""
    paint = _Paint(colour)
    tone = _COLOURS[diagnostic.severity]
    head = paint(tone, f"{diagnostic.severity}[{diagnostic.code}]")
    lines = [f"{head}{paint('1', ': ' + one_line(diagnostic.message))}"]
    if diagnostic.excerpt:
        lines += _excerpt(diagnostic, paint, tone)
    else:
        origin = diagnostic.origin
        if origin is not None and origin.kind != "default" and not _named(diagnostic, origin):
            lines.append(f" {paint('34', '-->')} {_where(origin)}")
        if diagnostic.label:
            lines.append(f"  {paint('34', '=')} {one_line(diagnostic.label)}")
        lines += [
            f"  {paint('34', '=')} {_where(related.origin)}: {one_line(related.label)}"
            for related in diagnostic.related
        ]
    if diagnostic.help:
        lines.append(f"  {paint('34', '=')} {paint('1', 'help')}: {one_line(diagnostic.help)}")
    return "\n".join(lines)


def report_json(diagnostics: Iterable[Diagnostic]) -> str:
    """Return diagnostics as JSON: ``{"ok", "errors", "warnings", "diagnostics": [...]}``.

    With more of them than a report shows, ``more`` says how many are left out.
    """
    import json

    items = list(diagnostics)
    errors = sum(item.severity == "error" for item in items)
    warnings = sum(item.severity == "warning" for item in items)
    shown = most_important(items)
    more = {"more": len(items) - len(shown)} if len(items) > len(shown) else {}
    return json.dumps(
        {
            "ok": not errors,
            "errors": errors,
            "warnings": warnings,
            "diagnostics": [item.as_dict() for item in shown],
        }
        | more,
        indent=2,
        ensure_ascii=False,
    )


def brief(found: Diagnostic) -> str:
    """Return one diagnostic as one line, for a log."""
    place = f" ({found.origin})" if found.origin and found.origin.name not in found.message else ""
    label = f": {found.label}" if found.label else ""
    return one_line(f"[{found.code}] {found.message}{place}{label}; {found.help}")


def one_line(text: str) -> str:
    """Return text without line breaks and without characters that would move a cursor."""
    return "".join(char if char.isprintable() else " " for char in text)


def _excerpt(diagnostic: Diagnostic, paint: _Paint, tone: str) -> list[str]:
    origin = diagnostic.origin
    width = max(len(str(line.number)) for line in diagnostic.excerpt)
    bar, gap = paint("34", "|"), " " * width
    lines = [f"{gap}{paint('34', '-->')} {_where(origin) if origin else ''}", f"{gap} {bar}"]
    previous = 0
    for line in sorted(diagnostic.excerpt, key=lambda line: line.number):
        if previous and line.number > previous + 1:
            lines.append(paint("34", "..."))
        if line.number != previous:
            number = paint("34", str(line.number).rjust(width))
            lines.append(f"{number} {bar} {line.text}".rstrip())
        lines.append(f"{gap} {bar} {_mark(line, paint, tone)}".rstrip())
        previous = line.number
    lines += [
        f"{gap} {paint('34', '=')} {_where(related.origin)}: {one_line(related.label)}"
        for related in diagnostic.related
        if origin is None or related.origin.name != origin.name
    ]
    return lines


def _mark(line: ExcerptLine, paint: _Paint, tone: str) -> str:
    sign = "^" if line.primary else "-"
    text = f"{sign * line.width} {one_line(line.label)}".rstrip()
    return " " * line.start + paint(tone if line.primary else "34", text)


def _named(diagnostic: Diagnostic, origin: Origin) -> bool:
    """Tell whether the message itself names the place."""
    return (
        origin.kind in {"environment", "file"}
        and origin.place.removeprefix("env ") in diagnostic.message
    )


def _where(origin: Origin) -> str:
    return one_line(shortened(str(origin)))


def _count(diagnostics: Sequence[Diagnostic]) -> str:
    counts = []
    for severity in ("error", "warning", "info"):
        number = sum(item.severity == severity for item in diagnostics)
        if number:
            plural = "s" if number > 1 and severity != "info" else ""
            counts.append(f"{number} {severity}{plural}")
    return ", ".join(counts) or "no problems"


class _Paint:
    def __init__(self, colour: bool) -> None:
        self.colour = colour

    def __call__(self, tone: str, text: str) -> str:
        return f"\x1b[{tone}m{text}\x1b[0m" if self.colour else text
