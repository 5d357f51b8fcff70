"""``config codes``: what the codes of the reports stand for."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.text import Text

from pyfly_messaging.cli.console import put, say_json
from pyfly_messaging.cli.options import AsJson
from pyfly_messaging.cli.tables import facts, headline, plain, rows
from pyfly_messaging.settings.diagnostics.codes import CODES, Code
from pyfly_messaging.settings.plugins.installed import distribution, usable_entry_points
from pyfly_messaging.settings.text.suggest import closest

TONES = {"error": "red", "warning": "yellow", "info": "cyan"}
_CODE = re.compile(r"(?i:CFG|ENV)\d+|[A-Z]{2,}\d+")


def codes(as_json: AsJson = False) -> None:
    """List the codes of all problems; `config explain CODE` tells more."""
    if as_json:
        say_json([code_data(name) for name in CODES])
    else:
        put(rows(_lines(), flexible=2), wrap=False)


def is_code(text: str) -> bool:
    """Tell whether text has the form of a code, of this library or of an adapter of others."""
    return _CODE.fullmatch(text) is not None


def unknown_code(name: str) -> str:
    """Return what to say about a code that this library does not have."""
    if near := closest(name, CODES):
        return f'there is no code {name}; did you mean "{near}"?'
    others = [f"{point.name} ({distribution(point)})" for point in usable_entry_points()]
    if name.startswith(("CFG", "ENV")) or not others:
        return f"there is no code {name}; `config codes` lists them"
    return (
        f"{name} is no code of this library, but an adapter may have its own; installed: "
        f"{', '.join(others)}. The report says what is wrong, the adapter's documentation more"
    )


def code_data(name: str) -> dict[str, str]:
    """Return what there is to know about a code, for JSON."""
    code = CODES[name]
    return {
        "code": name,
        "severity": code.severity,
        "title": code.title,
        "cause": code.cause,
        "cure": code.cure,
    }


def print_code(name: str) -> None:
    """Print what there is to know about a code."""
    code = CODES[name]
    put(
        headline(name, code.title, f"bold {TONES[code.severity]}"),
        facts([("severity", code.severity), ("cause", code.cause), ("what to do", code.cure)]),
    )


def _lines() -> Iterator[list[Text]]:
    for name, code in CODES.items():
        yield [plain(name, "bold"), _severity(code), plain(code.title)]


def _severity(code: Code) -> Text:
    return plain(code.severity, TONES[code.severity])
