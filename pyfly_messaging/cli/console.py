"""Where output goes: colour on terminals only, results on stdout, complaints on stderr."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import Any, TextIO

from rich.console import Console, RenderableType

from pyfly_messaging.settings.diagnostics.report import one_line

_TEXT_WIDTH = 100
"""How wide text is wrapped where there is no terminal."""
_ENDLESS = 10_000


def wants_colour(stream: TextIO) -> bool:
    """Tell whether a stream gets colour: a terminal does; NO_COLOR and FORCE_COLOR overrule."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in {"", "0"}:
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def put(*what: RenderableType, wrap: bool = True) -> None:
    """Print parts of the result below each other, fitted to the terminal.

    Args:
        what: The parts.
        wrap: Whether text that does not go to a terminal is wrapped as well. Lists are not, so
            that each line is one entry for grep.

    """
    colour = wants_colour(sys.stdout)
    out = Console(
        file=sys.stdout,
        force_terminal=colour,
        color_system="auto" if colour else None,
        width=width(wrap=wrap),
        markup=False,
        highlight=False,
        emoji=False,
    )
    with out.capture() as captured:
        out.print(*what, sep="\n")
    # Tables fill their last column with blanks.
    lines = (line.rstrip() for line in captured.get().splitlines())
    sys.stdout.write("\n".join(lines) + "\n")


def width(*, wrap: bool = True) -> int:
    """Return how wide a line may be; where there is no terminal and no wrapping, endless."""
    if sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    return _TEXT_WIDTH if wrap else _ENDLESS


def say(text: str) -> None:
    """Print a line of the result."""
    sys.stdout.write(f"{one_line(text)}\n")


def say_json(data: Any) -> None:
    """Print the result as JSON."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False, default=str) + "\n")


def complain(text: str) -> None:
    """Print text that is no result, of one or more lines."""
    sys.stderr.write(f"{text}\n")
