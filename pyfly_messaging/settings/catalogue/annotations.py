"""What the type of a field says about its values, also where the field is in somebody else's model.

No value is looked at here.
"""

from __future__ import annotations

import types
from collections.abc import Collection, Iterator, Mapping
from dataclasses import is_dataclass
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import BaseMetadata
from pydantic import BaseModel, BeforeValidator, PlainValidator, SecretBytes, SecretStr
from pydantic import WrapValidator as Wrap
from pydantic.fields import FieldInfo
from pydantic_settings import NoDecode

from pyfly_messaging.settings.catalogue.plain_types import plain_type
from pyfly_messaging.settings.text.plain import is_url_type

UNIONS = {Union, types.UnionType}


def unwrap(annotation: Any) -> tuple[Any, bool, tuple[Any, ...]]:
    """Return the type without Annotated and None, whether None was there, and the metadata."""
    optional, metadata = False, ()
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation, *found = get_args(annotation)
            metadata = (*metadata, *found)
        elif origin in UNIONS:
            args = [arg for arg in get_args(annotation) if arg is not type(None)]
            optional = optional or len(args) < len(get_args(annotation))
            if len(args) != 1:
                return Union[tuple(args)], optional, metadata  # noqa: UP007 - they are values here
            annotation = args[0]
        else:
            return annotation, optional, metadata


def model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model that a type is, None for any other type."""
    base, _, _ = unwrap(annotation)
    return base if isinstance(base, type) and issubclass(base, BaseModel) else None


def content_of(base: Any) -> Any:
    """Return the one type of the items of a list, or of the values of a mapping; None of others."""
    origin, args = get_origin(base), get_args(base)
    if not isinstance(origin, type) or not issubclass(origin, Collection):
        return None
    inner = [arg for arg in (args[1:] if issubclass(origin, Mapping) else args) if arg is not ...]
    if not inner or any(arg != inner[0] for arg in inner) or inner[0] in (Any, object):
        return None
    return inner[0]


def choices_of(base: Any) -> tuple[Any, ...]:
    """Return the only values of a type, where there are such."""
    if get_origin(base) is Literal:
        return get_args(base)
    if isinstance(base, type) and issubclass(base, Enum):
        return tuple(member.value for member in base)
    return ()


def constraints_of(metadata: tuple[Any, ...]) -> Iterator[Any]:
    """Yield the limits of a value (Ge, Gt, Le, Lt, MinLen, MaxLen) among its metadata."""
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from constraints_of(tuple(item.metadata))
        elif isinstance(item, BaseMetadata):
            yield item


def is_mapping(base: Any) -> bool:
    """Tell whether a type is a mapping."""
    origin = get_origin(base) or base
    return isinstance(origin, type) and issubclass(origin, Mapping)


def is_scalar(base: Any) -> bool:
    """Tell whether a type is one of single values."""
    if get_origin(base) in UNIONS:
        return all(map(is_scalar, get_args(base)))
    return bool(choices_of(base)) or plain_type(base) is not None or _hides(base)


def is_as_written(base: Any) -> bool:
    """Tell whether a scalar of a type counts as it is written, whatever YAML would make of it."""
    if base in {SecretStr, SecretBytes}:
        return True
    if choices := choices_of(base):
        return all(isinstance(choice, str) for choice in choices)
    plain = plain_type(base)
    return plain is not None and plain.as_written


def is_url(base: Any) -> bool:
    """Tell whether a type is a URL, or has one somewhere in it."""
    return is_url_type(base) or any(map(is_url, get_args(base)))


def is_secret(base: Any, around: tuple[Any, ...] = ()) -> bool:
    """Tell whether a type hides its value, or has one somewhere in it that does."""
    if _hides(base) or any(is_secret(arg, around) for arg in get_args(base)):
        return True
    if not isinstance(base, type) or base in around:
        return False
    return any(is_secret(part, (*around, base)) for part in _parts(base))


def reads_itself(model: type[BaseModel], name: str, metadata: tuple[Any, ...]) -> bool:
    """Tell whether the author of a field has a say before pydantic: text is then left to them."""
    if any(isinstance(m, BeforeValidator | PlainValidator | Wrap | NoDecode) for m in metadata):
        return True
    return NoDecode in metadata or any(
        found.info.mode != "after" and not {name, "*"}.isdisjoint(found.info.fields)
        for found in model.__pydantic_decorators__.field_validators.values()
    )


def _hides(base: Any) -> bool:
    return hasattr(get_origin(base) or base, "get_secret_value")


def _parts(cls: type) -> Iterator[Any]:
    """Yield the types of what has fields, a type that is hidden for a field that its repr hides."""
    if issubclass(cls, BaseModel):
        for info in cls.model_fields.values():
            yield info.annotation if info.repr else SecretStr
    elif is_dataclass(cls) or hasattr(cls, "__total__") or hasattr(cls, "_fields"):
        try:
            yield from get_type_hints(cls).values()
        except (NameError, TypeError):  # a type that only a type checker sees
            yield SecretStr
