"""``config show``: every effective value, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import typer
from rich.text import Text

from pyfly_messaging.cli.console import complain, put, say_json, width
from pyfly_messaging.cli.options import NO_VALUE, AsJson, File, Profiles, split
from pyfly_messaging.cli.reading import settings_or_exit
from pyfly_messaging.cli.tables import COLUMN_GAP, plain, rows
from pyfly_messaging.settings.catalogue.display import as_text
from pyfly_messaging.settings.views.show import Shown, effective_values


def show(
    path: File = None,
    origin: Annotated[
        bool, typer.Option("--origin", metavar=NO_VALUE, help="Say where each value comes from.")
    ] = False,
    given: Annotated[
        bool, typer.Option("--given", metavar=NO_VALUE, help="Leave out what nobody has set.")
    ] = False,
    profile: Profiles = None,
    as_json: AsJson = False,
) -> None:
    """Show every effective value, and with --origin where it comes from.

    The origin is a place in a file, a variable, or the default; below it stands what it
    overrides. Secrets are masked. A wrong configuration exits with 78 and its report, as
    validate does.
    """
    settings = settings_or_exit(path, split(profile), as_json=as_json)
    values = [
        value for value in effective_values(settings) if not given or value.origin.kind != "default"
    ]
    if as_json:
        say_json(
            {
                "files": list(settings.provenance.files),
                "profiles": list(settings.profiles),
                "settings": [value.as_dict() for value in values],
            }
        )
        return
    if values:
        put(rows(_lines(values, origin=origin), flexible=1), wrap=False)
    warnings = sum(note.severity == "warning" for note in settings.notes)
    if warnings:
        number = f"{warnings} warning{'s' if warnings > 1 else ''}"
        complain(f"{number}: `pyfly-messaging config validate` tells more")


def _lines(values: Sequence[Shown], *, origin: bool) -> Iterator[list[Text]]:
    """Yield rows: setting, value and origin, or the origin below the value where that is too wide.

    A place in a file stays in one piece, so that a terminal can make a link of it.
    """
    below = origin and _width(values) > width(wrap=False)
    for value in values:
        tone = "dim" if value.origin.kind == "default" else ""
        line = [plain(value.setting, "cyan"), plain(value.text, tone or "bold")]
        place = plain(str(value.origin), tone)
        yield [*line, place] if origin and not below else line
        if not origin:
            continue
        if below and not tone:
            yield [plain(""), place]
        for entry in value.overridden:
            text = f"  overrides {entry.origin} = {as_text(None, entry.shown)}"
            yield [*([plain("")] * (1 if below else 2)), plain(text, "dim")]


def _width(values: Sequence[Shown]) -> int:
    """Return how wide the rows are with the origins beside the values."""
    columns = zip(*((v.setting, v.text, str(v.origin)) for v in values), strict=True)
    return sum(max(map(len, column)) + COLUMN_GAP for column in columns) - COLUMN_GAP
