"""Scalars by the core schema of YAML 1.2: ``no`` and ``off`` are text, and so are dates."""

from __future__ import annotations

import re

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOLEANS = {
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False
}  # fmt: skip
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = {"0o": (re.compile(r"0o[0-7]+"), 8), "0x": (re.compile(r"0x[0-9a-fA-F]+"), 16)}
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MOST_DIGITS = 4000
"""Python refuses to read longer numbers (PYTHONINTMAXSTRDIGITS); they stay text."""


def resolve(text: str) -> str | int | float | bool | None:
    """Return what a plain scalar means."""
    if text in _NULL:
        return None
    if (boolean := _BOOLEANS.get(text)) is not None:
        return boolean
    if len(text) > _MOST_DIGITS or not (text[0].isascii() and text[0] in "+-.0123456789"):
        return text
    if _INT.fullmatch(text):
        return int(text)
    if (based := _BASED.get(text[:2])) is not None and based[0].fullmatch(text):
        return int(text[2:], based[1])
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", "").lower())
    return text
