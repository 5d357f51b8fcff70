"""Sizes: numbers of bytes, or text with a unit such as ``512KiB``, ``64MiB``, ``1GiB``."""

from __future__ import annotations

import math
import re

UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_FACTORS = {unit.lower(): factor for unit, factor in UNITS.items()}
_TEXT = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)(b|kib|mib|gib)?")

EXPECTED = "a size: bytes, or a number with a unit (512KiB, 64MiB, 1GiB)"


def parse_size(value: object) -> int:
    """Return ``value`` in bytes.

    Raises:
        ValueError: It is no size, is negative, or is not a whole number of bytes. The message does
            not repeat the value.

    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        # One error for whatever is no size, as for all other values.
        raise ValueError(f"expected {EXPECTED}")  # noqa: TRY004
    if isinstance(value, str):
        match = _TEXT.fullmatch(value.strip().lower())
        if match is None:
            raise ValueError(f"expected {EXPECTED}")
        number = float(match[1]) if "." in match[1] else int(match[1])
        value = number * _FACTORS[match[2] or "b"]
    if not math.isfinite(value) or value != int(value):
        raise ValueError("a size is a whole number of bytes")
    if value < 0:
        raise ValueError("a size cannot be negative")
    return int(value)


def format_size(size: int) -> str:
    """Return ``size`` as short text that `parse_size` reads back: ``67108864`` as ``64MiB``."""
    for unit in ("GiB", "MiB", "KiB"):
        if size >= UNITS[unit] and size % UNITS[unit] == 0:
            return f"{size // UNITS[unit]}{unit}"
    return str(size)
