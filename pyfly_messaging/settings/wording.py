"""Words for values and expectations, the same in reports, in `explain` and in the schema."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pyfly_messaging.settings.catalogue import Setting

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
_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def lookalike(text: str, *, quotes_inside: bool = True) -> tuple[int, str] | None:
    """Return position and name of a character that only looks like a plain one."""
    if text.isascii():
        return None
    match = (_ANYWHERE if quotes_inside else _AROUND).search(text)
    return (match.start(), _INVISIBLE.get(match[0], "a typographic quote")) if match else None


def one_of(words: Iterable[Any]) -> str:
    """Return words as a list for people."""
    return ", ".join(str(word) for word in words)


def type_label(setting: Setting) -> str:
    """Return what kind of value a setting takes, without its limits."""
    if setting.shape == "section":
        return "section"
    if setting.shape == "named":
        return "sections by name"
    if setting.choices:
        return f"one of: {one_of(setting.choices)}"
    if setting.kind is not None:
        return setting.kind.label
    if setting.shape == "free":
        return "keys with values"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return names.get(setting.base, "secret text" if setting.secret else "value")


def limits(setting: Setting) -> list[str]:
    """Return the limits of a value in words."""
    found = []
    for constraint in setting.constraints:
        for name, words in _LIMITS.items():
            if (limit := getattr(constraint, name, None)) is not None:
                found.append(f"{words} {limit:g}")
        if (length := getattr(constraint, "max_length", None)) is not None:
            found.append(f"at most {length} characters")
        if (length := getattr(constraint, "min_length", None)) is not None:
            found.append(f"at least {length} characters")
    return found


def expectation(setting: Setting) -> str:
    """Return what a setting takes, as the end of "expected …"."""
    label = type_label(setting)
    return f"{label} ({' and '.join(found)})" if (found := limits(setting)) else label


def got(value: object) -> str:
    """Return a value that is no secret as the end of "got …", never long."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value) if isinstance(value, str | int | float) else type(value).__name__
    return text if len(text) <= 60 else f"{text[:50]}...{text[-1:]}"
