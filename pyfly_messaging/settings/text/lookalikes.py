"""Characters that only look like plain ones: typographic quotes, invisible spaces."""

from __future__ import annotations

import re

_INVISIBLE = {
    "\u00a0": "a non-breaking space",
    "\u2007": "a figure space",
    "\u202f": "a narrow non-breaking space",
    "\u200b": "an invisible zero-width space",
    "\u200c": "an invisible zero-width character",
    "\u200d": "an invisible zero-width character",
    "\u2060": "an invisible word joiner",
    "\ufeff": "an invisible byte-order mark",
}
_QUOTES = "\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb"
_ANYWHERE = re.compile(f"[{''.join(_INVISIBLE)}{_QUOTES}]")
_AROUND = re.compile(f"[{''.join(_INVISIBLE)}]|^[{_QUOTES}]|[{_QUOTES}]$")


def lookalike(text: str, *, quotes_inside: bool = True) -> tuple[int, str] | None:
    """Return position and name of a character that only looks like a plain one."""
    if text.isascii():
        return None
    match = (_ANYWHERE if quotes_inside else _AROUND).search(text)
    return (match.start(), _INVISIBLE.get(match[0], "a typographic quote")) if match else None
