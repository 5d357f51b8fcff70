"""The few shapes of output: a headline, facts below each other, rows of columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pyfly_messaging.settings.diagnostics.report import one_line

COLUMN_GAP = 2
"""Blanks between two columns."""


def plain(text: str, style: str = "") -> Text:
    """Return text as it is: without markup, without characters that would move a cursor."""
    return Text(one_line(text), style=style)


def headline(word: str, rest: str, style: str = "bold green") -> Text:
    """Return a first line: a word that says it all, then what it is about."""
    return Text.assemble((word, style), ": ", plain(rest, "bold"))


def facts(rows: Iterable[tuple[str, str | Text]]) -> Padding:
    """Return names and values below each other; long values are wrapped in their column."""
    table = Table.grid(padding=(0, COLUMN_GAP))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(plain(name, "dim"), value if isinstance(value, Text) else plain(value))
    return indented(table)


def indented(what: RenderableType) -> Padding:
    """Return something, two columns to the right."""
    return Padding(what, (0, 0, 0, 2), expand=False)


def rows(lines: Iterable[Sequence[Text]], *, flexible: int) -> Table:
    """Return rows of columns without lines around them.

    Args:
        lines: The rows.
        flexible: Number of the first column that may be wrapped; those before it are not.

    """
    table = Table.grid(padding=(0, COLUMN_GAP))
    for number, line in enumerate(lines):
        if not number:
            for column in range(len(line)):
                table.add_column(no_wrap=column < flexible, overflow="fold")
        table.add_row(*line)
    return table
