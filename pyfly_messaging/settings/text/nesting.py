"""How deep and how large nested data may be: whatever follows it to its end needs an end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MOST_DEPTH = 100
"""Levels of nesting."""
MOST_NODES = 10_000
"""Values; what is used several times counts each time."""


@dataclass(frozen=True, slots=True)
class Excess:
    """What is wrong with nested data.

    Attributes:
        message: What is wrong.
        path: The keys that lead there; empty where no single place is wrong.

    """

    message: str
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Open:
    """A collection that is looked into.

    Attributes:
        value: The collection.
        key: The key that it is under, None for an item of a list.
        rest: What in it was not looked at yet.

    """

    value: object
    key: str | None
    rest: Iterator[tuple[str | None, object]]


def excess(value: object) -> Excess | None:
    """Return why data cannot be followed to its end, None when it can.

    Mappings, lists and tuples are looked into. They may contain themselves.
    """
    levels = [_Open(value, None, _parts(value))]
    count = 1
    while levels:
        key, inner = next(levels[-1].rest, (None, _END))
        if inner is _END:
            levels.pop()
            continue
        count += 1
        if count > MOST_NODES:
            return Excess(f"more than {MOST_NODES} values")
        if not isinstance(inner, Mapping | list | tuple):
            continue
        if any(inner is level.value for level in levels):
            keys = (*(level.key for level in levels), key)
            return Excess("it contains itself", tuple(key for key in keys if key is not None))
        if len(levels) >= MOST_DEPTH:
            return Excess(f"nested deeper than {MOST_DEPTH} levels")
        levels.append(_Open(inner, key, _parts(inner)))
    return None


_END = object()


def _parts(value: object) -> Iterator[tuple[str | None, object]]:
    if isinstance(value, Mapping):
        return ((str(key), item) for key, item in value.items())
    return ((None, item) for item in value) if isinstance(value, list | tuple) else iter(())
