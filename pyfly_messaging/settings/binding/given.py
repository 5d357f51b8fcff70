"""What was given, before its meaning is known: a neutral tree with the origin of each part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel

from pyfly_messaging.settings.diagnostics.origins import Origin
from pyfly_messaging.settings.diagnostics.source_text import SourceText

GivenKind: TypeAlias = Literal["scalar", "list", "mapping", "object"]
Span: TypeAlias = tuple[int, int]


@dataclass(slots=True)
class Key:
    """The key of a mapping.

    Attributes:
        text: As it is written.
        origin: Where.
        span: First and last index in the text, when it comes from one.
        bare: Whether it stands in braces without a colon: ``{a, b: c}``.
        secret: Whether it is the alias of what must not be shown; its text is left out.

    """

    text: str
    origin: Origin
    span: Span | None = None
    bare: bool = False
    secret: bool = False


@dataclass(slots=True)
class Given:
    """A value with its origin.

    Attributes:
        kind: What it is; an ``object`` is passed on as it is.
        origin: Where it is written.
        value: A scalar, list or object as Python sees it.
        text: A scalar as it is written, None for one that was never text.
        items: The items of a list.
        entries: The entries of a mapping, with duplicates.
        span: First and last index in the text, when it comes from one.
        plain: Whether it is written in YAML without quotes.
        block: Whether it is written in YAML as a block, after ``|`` or ``>``.
        source: The text it comes from.
        secret: Whether it must not be shown, whatever the setting.

    """

    kind: GivenKind
    origin: Origin
    value: Any = None
    text: str | None = None
    items: list[Given] | None = None
    entries: list[tuple[Key, Given]] | None = None
    span: Span | None = None
    plain: bool = False
    block: bool = False
    source: SourceText | None = None
    secret: bool = False

    @property
    def is_null(self) -> bool:
        """Whether this is YAML's null, or None."""
        return self.kind == "scalar" and self.value is None

    @property
    def what(self) -> str:
        """What kind of thing it is, in words."""
        if self.kind == "mapping":
            return "a section"
        if self.kind == "list":
            return "a list"
        if isinstance(self.value, bool):
            return "true or false"
        if isinstance(self.value, int | float):
            return "a number"
        return "nothing" if self.value is None else "text"

    def plain_value(self) -> Any:
        """Return the value as Python data, for what no setting describes."""
        if self.entries is not None:
            return {key.text: item.plain_value() for key, item in self.entries}
        if self.items is not None:
            return [item.plain_value() for item in self.items]
        return self.value


def from_python(value: Any, origin: Origin) -> Given:
    """Return Python data as a tree, all of it with one origin."""
    if isinstance(value, Mapping):
        entries = [
            (Key(str(key), origin), from_python(item, origin)) for key, item in value.items()
        ]
        return Given("mapping", origin, entries=entries)
    if isinstance(value, list | tuple):
        return Given("list", origin, value, items=[from_python(item, origin) for item in value])
    if value is None or isinstance(value, str | int | float | bool):
        return Given("scalar", origin, value, text=value if isinstance(value, str) else None)
    return Given("object", origin, value)


def is_model(given: Given) -> bool:
    """Tell whether a complete section was given as an instance of its model."""
    return given.kind == "object" and isinstance(given.value, BaseModel)


def show_key(key: Key, item: Given) -> None:
    """Allow a key to be quoted in reports."""
    if key.span is not None and item.source is not None:
        item.source.show(*key.span)


def from_keywords(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> Given:
    """Return keyword arguments as a tree in which each part has its own name as its origin."""
    entries = []
    for name, value in values.items():
        inner = (*path, str(name))
        origin = Origin("keyword", ".".join(inner))
        given = (
            from_keywords(value, inner)
            if isinstance(value, Mapping)
            else from_python(value, origin)
        )
        entries.append((Key(str(name), origin), given))
    return Given("mapping", Origin("keyword", ".".join(path)), entries=entries)
