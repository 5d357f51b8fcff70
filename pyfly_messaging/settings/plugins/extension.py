"""The settings class with the sections of adapters by others as further fields."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, TypeVar, cast

from pydantic import BaseModel, Field, create_model

from pyfly_messaging.settings.models.whole import WholeSettings
from pyfly_messaging.settings.plugins.installed import Adapter, adapters

ModelT = TypeVar("ModelT", bound=BaseModel)


def with_adapters(settings_cls: type[ModelT], names: Iterable[str] | None = None) -> type[ModelT]:
    """Return a settings class that also has the sections of installed adapters.

    Args:
        settings_cls: The class to extend; it is returned as it is when there is nothing to add.
        names: The adapters, however they are spelled; all that are installed by default.

    """
    return extended(settings_cls, adapters(names))


def describing(settings: WholeSettings) -> type[WholeSettings]:
    """Return the class that describes settings with the sections of others that they have."""
    names = settings._others
    return with_adapters(type(settings), names) if names else type(settings)


def extended(settings_cls: type[ModelT], found: Iterable[Adapter]) -> type[ModelT]:
    """Return a settings class with the sections of adapters, the same one for the same adapters.

    Of an adapter that cannot be used nobody knows the settings: its section takes anything.
    """
    new = tuple(adapter for adapter in found if adapter.field not in settings_cls.model_fields)
    if not new:
        return settings_cls
    fields = tuple((adapter.field, _model(adapter), _description(adapter)) for adapter in new)
    return cast("type[ModelT]", _made(settings_cls, fields))


_Fields = tuple[tuple[str, type[BaseModel] | None, str], ...]


@lru_cache(maxsize=32)
def _made(settings_cls: type[BaseModel], fields: _Fields) -> type[BaseModel]:
    sections: dict[str, Any] = {
        name: (
            dict[str, Any] if model is None else model,
            # A load gives every adapter its section, if an empty one: what must be given is then
            # missed there. This is for what is made without a load.
            Field(
                default_factory=dict if model is None else model.model_construct,
                description=description,
            ),
        )
        for name, model, description in fields
    }
    return create_model(
        settings_cls.__name__,
        __base__=settings_cls,
        __module__=settings_cls.__module__,
        __doc__=settings_cls.__doc__,
        **sections,
    )


def _model(adapter: Adapter) -> type[BaseModel] | None:
    return None if adapter.plugin is None else adapter.plugin.settings


def _description(adapter: Adapter) -> str:
    if adapter.plugin is None:
        return f"Not known: {adapter.problem}."
    if adapter.plugin.description:
        return adapter.plugin.description
    return (adapter.plugin.settings.__doc__ or "").strip().partition("\n")[0]
