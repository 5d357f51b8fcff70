"""Any value as plain data that may be shown: what JSON has words for, with secrets masked."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Set
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any
from urllib.parse import unquote

from pydantic import BaseModel

from pyfly_messaging.settings.text.secrets import (
    MASK,
    looks_secret,
    mask_secrets,
    mask_url,
    names_url,
    secret_part,
    show_url,
)

_DEEPEST = 20
"""Whatever lies deeper is left out: it may contain itself."""
_HIDDEN = "secret"
"""The name by which a field goes that its author keeps out of the repr."""


def mask_value(value: object, name: str = "") -> Any:
    """Return ``value`` as plain data that may be shown under ``name``.

    What looks secret by its name or its type is masked at any depth, and so are the passwords of
    URLs. A model becomes a mapping, any collection a list, and what no word fits the name of its
    type.
    """
    return _plain(value, name, 0)


def texts(value: object, depth: int = 0) -> Iterator[str]:
    """Yield all text and all numbers in a value, secrets too: to look for, never to show."""
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes | bytearray):
        yield value.decode(errors="replace")
    elif value is None or isinstance(value, bool) or depth > _DEEPEST:
        return
    elif (entries := _entries(value)) is not None:
        for _, _, item in entries:
            yield from texts(item, depth + 1)
    elif isinstance(value, Collection):
        for item in value:
            yield from texts(item, depth + 1)
    else:
        yield str(value)


def hidden_texts(value: object, shown: object) -> Iterator[str]:
    """Yield what is in a value and not in what is shown of it, as messages may spell it."""
    for text in set(texts(value)).difference(texts(shown)):
        password = text[slice(*secret_part(text))]
        # Where a user cannot be told from a password, a URL type may tell them apart elsewhere.
        for each in {text, text.strip(), password, password.rpartition(":")[2]} - {""}:
            yield from {each, repr(each)[1:-1], unquote(each)}


def is_url_type(cls: object) -> bool:
    """Tell whether a class is one of pydantic's URLs, whose text shows the password."""
    return isinstance(cls, type) and hasattr(cls, "unicode_string")


def _plain(value: Any, name: str, depth: int) -> Any:
    if value is None:
        return None
    if name and looks_secret(name):
        return MASK
    if type(value) is str:  # most are
        shown = show_url(value) if names_url(name) else mask_url(value)
        return mask_secrets(shown)
    if hasattr(value, "get_secret_value"):
        return MASK
    if isinstance(value, Enum):
        return _plain(value.value, "", depth)
    if isinstance(value, str):
        return _plain(str(value), name, depth)
    if isinstance(value, bool | int | float):
        return _number(value)
    if depth > _DEEPEST:
        return "..."
    if (entries := _entries(value)) is not None:
        return {str(key): _plain(item, names, depth + 1) for key, names, item in entries}
    if isinstance(value, Collection) and not isinstance(value, bytes | bytearray | memoryview):
        items = [_plain(item, "", depth + 1) for item in value]
        return sorted(items, key=str) if isinstance(value, Set) else items
    return _other(value, depth)


def _number(value: float) -> Any:
    if isinstance(value, int):
        return bool(value) if isinstance(value, bool) else int(value)
    return float(value) if math.isfinite(value) else str(value)


def _entries(value: Any) -> Iterator[tuple[object, str, Any]] | None:
    """Return the keys of what has such, each with all its names and its value."""
    if isinstance(value, Mapping):
        return ((key, str(key), item) for key, item in value.items())
    if isinstance(value, BaseModel):
        return _fields(value)
    if is_dataclass(value) and not isinstance(value, type):
        return (
            (field.name, field.name if field.repr else _HIDDEN, getattr(value, field.name, None))
            for field in fields(value)
        )
    if isinstance(value, tuple) and (names := getattr(value, "_fields", None)) is not None:
        return ((key, key, item) for key, item in zip(names, value, strict=False))
    return None


def _fields(model: BaseModel) -> Iterator[tuple[str, str, Any]]:
    infos = type(model).model_fields
    for key, item in vars(model).items():
        info = infos.get(key)
        if info is not None and not info.repr:
            yield key, _HIDDEN, item
        else:
            alias = info.validation_alias if info is not None else None
            yield key, f"{key} {alias}" if isinstance(alias, str) else key, item
    for key, item in (model.model_extra or {}).items():
        yield key, key, item


def _other(value: Any, depth: int) -> Any:
    """Return a value that is neither a scalar of JSON nor a collection."""
    if is_url_type(type(value)):
        return show_url(str(value))
    if isinstance(value, type) or callable(value):
        return getattr(value, "__qualname__", type(value).__name__)
    from pydantic_core import to_jsonable_python

    try:
        # The text of an object that pydantic does not know may hold anything.
        plain = to_jsonable_python(value, fallback=lambda other: type(other).__name__)
    except (ValueError, TypeError, RecursionError):
        return type(value).__name__
    return _plain(plain, "", depth + 1)
