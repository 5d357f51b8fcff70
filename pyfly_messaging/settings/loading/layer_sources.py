"""The sources that `MessagingSettings` gives to pydantic-settings, one for each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from pyfly_messaging.settings.binding.layers import Layer
from pyfly_messaging.settings.catalogue.naming import naming as naming_of
from pyfly_messaging.settings.catalogue.tree import catalogue
from pyfly_messaging.settings.loading.load import Load, current_load
from pyfly_messaging.settings.sources.inputs import (
    Inputs,
    current_inputs,
    with_changes,
    with_overrides,
)
from pyfly_messaging.settings.text.names import canonical
from pyfly_messaging.settings.text.nesting import excess


class LayerSource(PydanticBaseSettingsSource):
    """One layer of the configuration: a file, the environment, keyword arguments."""

    def __init__(self, settings_cls: type[BaseSettings], load: Load, layer: Layer) -> None:
        super().__init__(settings_cls)
        self.load = load
        self.layer = layer
        self.__name__ = f"pyfly:{layer.name}"

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return what the layer says about a field."""
        return self.layer.values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return all that the layer says."""
        self.load.take(self.layer, self.settings_sources_data)
        return self.layer.values

    def __repr__(self) -> str:
        return f"LayerSource({self.layer.name!r})"


def begin(settings_cls: type[BaseModel], values: Mapping[str, Any]) -> Load:
    """Begin the load of a settings class: read all layers.

    Args:
        settings_cls: The class.
        values: What its constructor was called with: settings, and the arguments of
            pydantic-settings, which begin with an underscore.

    """
    options = {name: value for name, value in values.items() if name.startswith("_")}
    named = {name: value for name, value in values.items() if not name.startswith("_")}
    keywords = with_overrides(current_inputs().overrides, named)
    sources = (options.get("_build_sources") or ((), {}))[0]
    prepared = [source.load for source in sources if isinstance(source, LayerSource)]
    inputs = _inputs(options, settings_cls)
    naming = naming_of(settings_cls, options)
    load = prepared[0] if prepared else Load(settings_cls, inputs, keywords, naming)
    known = load.root.children
    load.arguments = options | {
        known[canonical(name)].key: value
        for name, value in keywords.items()
        if canonical(name) in known and excess(value) is None
    }
    return load


def layer_sources(settings_cls: type[BaseSettings]) -> tuple[LayerSource, ...]:
    """Return a source for each layer of the load that has begun, the highest precedence first."""
    load = current_load.get()
    if load is None or load.root is not catalogue(settings_cls):
        load = Load(settings_cls, current_inputs(), current_inputs().overrides)
    return tuple(LayerSource(settings_cls, load, layer) for layer in load.layers)


def _inputs(options: dict[str, Any], settings_cls: type[BaseModel]) -> Inputs:
    """Return where to look, with what pydantic-settings' own arguments say about it."""
    config: Mapping[str, Any] = settings_cls.model_config
    inputs = with_changes(
        current_inputs(), secrets_dir=options.pop("_secrets_dir", config.get("secrets_dir"))
    )
    named = config.get("env_file") or inputs.dotenv
    dotenv = options.pop("_env_file", named)
    # The library reads these itself; pydantic-settings would read the file a second time.
    options["_env_file"] = None
    if isinstance(dotenv, Sequence) and not isinstance(dotenv, str):
        return replace(inputs, dotenv=tuple(dotenv))
    return replace(inputs, dotenv=(dotenv,) if dotenv else ())
