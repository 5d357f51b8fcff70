"""Phrases for people, the same wherever a report needs them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_LONGEST = 1000


def one_of(words: Iterable[Any]) -> str:
    """Return words as a list for people."""
    return ", ".join(str(word) for word in words)


def shortened(text: str) -> str:
    """Return a text that a report can hold: the middle of a very long one is left out."""
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}...{text[-half:]}"


def got(value: object) -> str:
    """Return a value that is no secret as the end of "got …", never long."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        value = value[:100]
    text = repr(value) if isinstance(value, str | int | float) else type(value).__name__
    return text if len(text) <= 60 else f"{text[:50]}...{text[-1:]}"
