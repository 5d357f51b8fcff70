"""The catalogue of settings: what exists, read from the models once for each class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, TypeAlias, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pyfly_messaging.settings.catalogue.annotations import (
    choices_of,
    constraints_of,
    content_of,
    is_as_written,
    is_mapping,
    is_scalar,
    is_secret,
    is_url,
    model_of,
    reads_itself,
    unwrap,
)
from pyfly_messaging.settings.models.deprecation import Deprecation
from pyfly_messaging.settings.models.types import Kind
from pyfly_messaging.settings.text.names import canonical, dotted, kebab
from pyfly_messaging.settings.text.secrets import looks_secret, names_url

Shape: TypeAlias = Literal["section", "named", "items", "scalar", "list", "free", "any"]
ANY_NAME = "*"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Setting:
    """One setting, or one section of settings.

    Attributes:
        key: The name in the model's input (the field's name, or its alias).
        path: The keys from the root; ``*`` stands for the names of a mapping.
        shape: A ``section`` has children; ``named`` is a mapping of names to sections, ``items`` a
            list of sections; ``list`` and ``scalar`` are leaves; ``free`` is a mapping with any
            keys; ``any`` is left to pydantic.
        info: The field, except for the root and for the entries of a mapping.
        model: The model of a section.
        children: The settings of a section, by canonical name.
        item: What each entry of a ``named`` mapping is.
        element: What each item of a list is, and each value of a free mapping, where it is known.
        kind: What the value is, where the type says so.
        choices: The only values, where there are such.
        optional: Whether it can be None.
        secret: Whether its value must never be shown.
        url: Whether it is a URL, which is shown without its password.
        as_written: Whether a scalar counts as it is written (``0123`` stays ``0123``).
        custom: Whether its author reads it before pydantic does, so that text is left as it is.
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
    element: Setting | None = None
    kind: Kind | None = None
    base: Any = None
    choices: tuple[Any, ...] = ()
    optional: bool = False
    secret: bool = False
    url: bool = False
    as_written: bool = False
    custom: bool = False
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
        try:
            return self.info.get_default(call_default_factory=True, validated_data={})
        except (LookupError, TypeError, ValueError, OSError):
            return None  # a factory of others that needs more than there is here

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
            if node is None:
                return None
            node = node._below(part)
        return node

    def _below(self, part: str | int) -> Setting | None:
        if self.shape == "section":
            return self.children.get(canonical(str(part)))
        if self.shape == "named":
            return self.item
        # In a list there is nothing by a name.
        return self.element if self.shape == "free" or _is_number(part) else None


@lru_cache(maxsize=64)
def catalogue(model: type[BaseModel]) -> Setting:
    """Return the settings of a model as a tree."""
    return _section(model, "", (), ())


def _section(
    model: type[BaseModel], key: str, path: tuple[str, ...], parents: tuple[type[BaseModel], ...]
) -> Setting:
    """Return a section that is no field: the root, an entry of a mapping, an item of a list."""
    children = _children(model, path, (*parents, model))
    return Setting(key=key, path=path, shape="section", model=model, children=children)


def _children(
    model: type[BaseModel], path: tuple[str, ...], parents: tuple[type[BaseModel], ...]
) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    for name, info in model.model_fields.items():
        key = info.validation_alias if isinstance(info.validation_alias, str) else name
        found[canonical(key)] = _setting(key, name, info, (*path, key), parents)
    return found


def _setting(
    key: str,
    name: str,
    info: FieldInfo,
    path: tuple[str, ...],
    parents: tuple[type[BaseModel], ...],
) -> Setting:
    base, optional, metadata = unwrap(info.annotation)
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
    if (model := model_of(base)) is not None and model not in parents:
        children = _children(model, path, (*parents, model))
        return Setting(shape="section", model=model, children=children, **common)
    inner = (*path, ANY_NAME)
    if get_origin(base) is dict and (model := model_of(content_of(base))) is not None:
        item = _section(model, ANY_NAME, inner, parents)
        return Setting(shape="named", item=item, **common)
    custom = reads_itself(parents[-1], name, metadata)
    leaf = _leaf(base, metadata, inner, parents, custom=custom)
    return replace(
        leaf,
        **common,
        secret=leaf.secret or looks_secret(key) or info.repr is False,
        url=is_url(base) or names_url(key),
    )


def _leaf(
    base: Any,
    metadata: tuple[Any, ...],
    inner: tuple[str, ...],
    parents: tuple[type[BaseModel], ...],
    *,
    custom: bool = False,
) -> Setting:
    """Return what the type of a value says about it."""
    kind = next((item for item in metadata if isinstance(item, Kind)), None)
    element = None if kind is not None or custom else _element(base, inner, parents)
    shape = _leaf_shape(base, kind, element)
    return Setting(
        key=ANY_NAME,
        path=inner[:-1],
        shape=shape,
        kind=kind,
        base=base,
        element=element,
        custom=custom,
        choices=choices_of(base),
        # In a list of sections each setting knows by itself whether it is a secret.
        secret=shape != "items" and is_secret(base),
        url=is_url(base),
        as_written=kind.as_written if kind is not None else _is_as_written(base, element),
        constraints=tuple(constraints_of(metadata)),
    )


def _element(
    base: Any, path: tuple[str, ...], parents: tuple[type[BaseModel], ...]
) -> Setting | None:
    """Return what is in a list, or what the values of a mapping are, where all are of one type."""
    if (content := content_of(base)) is None:
        return None
    inner, optional, metadata = unwrap(content)
    if (model := model_of(inner)) is None:
        return replace(_leaf(inner, metadata, (*path, ANY_NAME), parents), optional=optional)
    return None if model in parents or optional else _section(model, ANY_NAME, path, parents)


def _leaf_shape(base: Any, kind: Kind | None, element: Setting | None) -> Shape:
    if kind is not None and kind.many:
        return "list"
    if is_mapping(base):
        return "free"
    if kind is not None or is_scalar(base):
        return "scalar"
    if element is None:
        return "any"
    if element.shape == "section":
        return "items"
    return "list" if element.shape == "scalar" else "any"


def _is_as_written(base: Any, element: Setting | None) -> bool:
    return is_as_written(base) if element is None or is_mapping(base) else element.as_written


def _is_number(part: str | int) -> bool:
    return isinstance(part, int) or part == ANY_NAME
