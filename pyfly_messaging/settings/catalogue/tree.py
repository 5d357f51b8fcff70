"""The catalogue of settings: what exists, read from the models once for each class."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from annotated_types import BaseMetadata
from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pyfly_messaging.settings.models.deprecation import Deprecation
from pyfly_messaging.settings.models.types import Kind
from pyfly_messaging.settings.text.names import canonical, dotted, kebab
from pyfly_messaging.settings.text.secrets import looks_secret

Shape: TypeAlias = Literal["section", "named", "scalar", "list", "free", "any"]
ANY_NAME = "*"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Setting:
    """One setting, or one section of settings.

    Attributes:
        key: The name in the model's input (the field's name, or its alias).
        path: The keys from the root; ``*`` stands for the names of a mapping.
        shape: A ``section`` has children; ``named`` is a mapping of names to sections; ``list`` and
            ``scalar`` are leaves; ``free`` is a mapping with any keys; ``any`` is left to pydantic.
        info: The field, except for the root and for the entries of a mapping.
        model: The model of a section.
        children: The settings of a section, by canonical name.
        item: What each entry of a ``named`` mapping is.
        kind: What the value is, where the type says so.
        choices: The only values, where there are such.
        optional: Whether it can be None.
        secret: Whether its value must never be shown.
        as_written: Whether a scalar counts as it is written (``0123`` stays ``0123``).
        deprecation: Its mark, when it should no longer be used.
        constraints: The limits of the value.

    """

    key: str
    path: tuple[str, ...]
    shape: Shape
    info: FieldInfo | None = None
    model: type[BaseModel] | None = None
    children: Mapping[str, Setting] = field(default_factory=dict)
    item: Setting | None = None
    kind: Kind | None = None
    base: Any = None
    choices: tuple[Any, ...] = ()
    optional: bool = False
    secret: bool = False
    as_written: bool = False
    deprecation: Deprecation | None = None
    constraints: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        """The name as it is written in YAML."""
        return kebab(self.key)

    @property
    def dotted(self) -> str:
        """The path as people write it: ``kafka.bootstrap-servers``."""
        return dotted(self.path)

    @property
    def default(self) -> Any:
        """The default, or PydanticUndefined for a setting that must be given."""
        if self.info is None:
            return PydanticUndefined
        return self.info.get_default(call_default_factory=True, validated_data={})

    @property
    def description(self) -> str:
        """What the setting means."""
        return (self.info.description if self.info else None) or ""

    def names(self) -> list[str]:
        """Return the names of the children as they are written in YAML."""
        return [child.name for child in self.children.values() if child.deprecation is None]

    def leaves(self) -> Iterator[Setting]:
        """Yield all settings below that hold a value, those of named entries with ``*``."""
        for child in self.children.values():
            if child.shape == "section":
                yield from child.leaves()
            elif child.item is not None:
                yield from child.item.leaves()
            else:
                yield child

    def find(self, path: tuple[str | int, ...]) -> Setting | None:
        """Return the setting at a path in canonical names, or None."""
        node: Setting | None = self
        for part in path:
            if node is None or node.shape not in {"section", "named"}:
                return None
            node = node.item if node.shape == "named" else node.children.get(canonical(str(part)))
        return node


@lru_cache(maxsize=64)
def catalogue(model: type[BaseModel]) -> Setting:
    """Return the settings of a model as a tree."""
    return Setting(
        key="", path=(), shape="section", model=model, children=_children(model, (), (model,))
    )


def _children(
    model: type[BaseModel], path: tuple[str, ...], parents: tuple[type[BaseModel], ...]
) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    for name, info in model.model_fields.items():
        key = info.validation_alias if isinstance(info.validation_alias, str) else name
        found[canonical(key)] = _setting(key, info, (*path, key), parents)
    return found


def _setting(
    key: str, info: FieldInfo, path: tuple[str, ...], parents: tuple[type[BaseModel], ...]
) -> Setting:
    base, optional, metadata = _unwrap(info.annotation)
    metadata = (*metadata, *info.metadata)
    deprecation = next((item for item in metadata if isinstance(item, Deprecation)), None)
    common: dict[str, Any] = {
        "key": key,
        "path": path,
        "info": info,
        "optional": optional,
        "base": base,
        "deprecation": deprecation,
    }
    if (model := _model(base)) is not None and model not in parents:
        children = _children(model, path, (*parents, model))
        return Setting(shape="section", model=model, children=children, **common)
    args = get_args(base)
    if get_origin(base) is dict and len(args) == 2 and (model := _model(args[1])) is not None:
        inner = (*path, ANY_NAME)
        children = _children(model, inner, (*parents, model))
        item = Setting(key=ANY_NAME, path=inner, shape="section", model=model, children=children)
        return Setting(shape="named", item=item, **common)
    kind = next((item for item in metadata if isinstance(item, Kind)), None)
    constraints = tuple(_constraints(metadata))
    return Setting(
        shape=_leaf_shape(base, kind),
        kind=kind,
        choices=_choices(base),
        secret=base in {SecretStr, SecretBytes} or looks_secret(key),
        as_written=kind.as_written if kind else _is_text(base),
        constraints=constraints,
        **common,
    )


def _constraints(metadata: tuple[Any, ...]) -> Iterator[Any]:
    """Yield the limits of a value (Ge, Gt, Le, Lt, MinLen, MaxLen) among its metadata."""
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from _constraints(tuple(item.metadata))
        elif isinstance(item, BaseMetadata):
            yield item


def _leaf_shape(base: Any, kind: Kind | None) -> Shape:
    origin = get_origin(base) or base
    if kind is not None and kind.many:
        return "list"
    if origin is dict or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return "free"
    if kind is not None or origin is Literal or _is_text(base) or base in {int, float, bool}:
        return "scalar"
    return "any"


def _model(annotation: Any) -> type[BaseModel] | None:
    base, _, _ = _unwrap(annotation)
    return base if isinstance(base, type) and issubclass(base, BaseModel) else None


def _is_text(base: Any) -> bool:
    if base in {str, SecretStr, SecretBytes}:
        return True
    choices = _choices(base)
    return bool(choices) and all(isinstance(choice, str) for choice in choices)


def _choices(base: Any) -> tuple[Any, ...]:
    if get_origin(base) is Literal:
        return get_args(base)
    if isinstance(base, type) and issubclass(base, Enum):
        return tuple(member.value for member in base)
    return ()


def _unwrap(annotation: Any) -> tuple[Any, bool, tuple[Any, ...]]:
    """Return the type without Annotated and None, whether None was there, and the metadata."""
    optional, metadata = False, ()
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation, *found = get_args(annotation)
            metadata = (*metadata, *found)
        elif origin in {Union, types.UnionType}:
            args = [arg for arg in get_args(annotation) if arg is not type(None)]
            optional = optional or len(args) < len(get_args(annotation))
            if len(args) != 1:
                return annotation, optional, metadata
            annotation = args[0]
        else:
            return annotation, optional, metadata
