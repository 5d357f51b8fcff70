"""Durations: numbers of seconds, or text with units such as ``500ms``, ``10s``, ``5m``, ``1h``."""

from __future__ import annotations

import math
import re

UNITS: dict[str, float] = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = r"(\d+(?:\.\d+)?)(ms|s|m|h|d)"
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)")
_TEXT = re.compile(rf"({_PART})+")

EXPECTED = "a duration: seconds, or a number with a unit (500ms, 10s, 5m, 1h)"


def parse_duration(value: object) -> float:
    """Return ``value`` in seconds.

    Takes a number of seconds or text: a bare number (seconds), or numbers with the units ``ms``,
    ``s``, ``m``, ``h`` and ``d``, the larger first (``1h30m``).

    Raises:
        ValueError: It is no duration, is negative, or is not finite. The message does not
            repeat the value.

    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        # One error for whatever is no duration, as for all other values.
        raise ValueError(f"expected {EXPECTED}")  # noqa: TRY004
    seconds = _parse_text(value) if isinstance(value, str) else float(value)
    if not math.isfinite(seconds):
        raise ValueError("a duration must be finite")
    if seconds < 0:
        raise ValueError("a duration cannot be negative")
    return seconds


def format_duration(seconds: float) -> str:
    """Return ``seconds`` as short text that `parse_duration` reads back: ``90`` as ``90s``."""
    if seconds == 0:
        return "0"
    if seconds < 1 and (milliseconds := round(seconds * 1000, 6)) == int(milliseconds):
        return f"{int(milliseconds)}ms"
    for unit in ("h", "m"):
        if seconds >= UNITS[unit] and seconds % UNITS[unit] == 0:
            return f"{int(seconds // UNITS[unit])}{unit}"
    return f"{seconds:g}s" if float(f"{seconds:g}") == seconds else f"{seconds!r}s"


def _parse_text(text: str) -> float:
    text = text.strip().lower()
    if _NUMBER.fullmatch(text):
        return float(text)
    if not _TEXT.fullmatch(text):
        raise ValueError(f"expected {EXPECTED}")
    parts = re.findall(_PART, text)
    order = [list(UNITS).index(unit) for _, unit in parts]
    if order != sorted(set(order), reverse=True):
        raise ValueError("units go from large to small and only once each, as in 1h30m")
    return sum(float(number) * UNITS[unit] for number, unit in parts)
