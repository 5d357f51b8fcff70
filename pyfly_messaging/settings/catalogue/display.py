"""Values as they may be shown to people: formatted by their type, secrets masked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from pyfly_messaging.settings.catalogue.masking import hides, masked
from pyfly_messaging.settings.catalogue.tree import Setting
from pyfly_messaging.settings.diagnostics.origins import Path
from pyfly_messaging.settings.models.whole import WholeSettings
from pyfly_messaging.settings.text.durations import format_duration
from pyfly_messaging.settings.text.secrets import MASK
from pyfly_messaging.settings.text.sizes import format_size


def shown(setting: Setting, value: Any) -> Any:
    """Return a value as plain data that may be shown: durations as text, secrets masked."""
    if value is PydanticUndefined:
        return None
    if is_duration(setting) and isinstance(value, int | float):
        return format_duration(value)
    if is_size(setting) and isinstance(value, int):
        return format_size(value)
    if isinstance(value, SecretStr) and not hides(setting):
        value = value.get_secret_value()
    return masked(setting, value)


def is_duration(setting: Setting) -> bool:
    """Tell whether a setting is a duration."""
    return setting.kind is not None and setting.kind.label.startswith("duration")


def is_size(setting: Setting) -> bool:
    """Tell whether a setting is a size in bytes."""
    return setting.kind is not None and setting.kind.label == "size"


def as_text(setting: Setting | None, value: Any) -> str:
    """Return a value that may be shown as text: text in quotes, unless it has a unit."""
    if value is None:
        return "none"
    if value == MASK:
        return MASK
    if isinstance(value, str):
        unit = setting is not None and (is_duration(setting) or is_size(setting))
        bare = value == "[]" or unit
        return value if bare or MASK in value else json.dumps(value, ensure_ascii=False)
    if isinstance(value, int | float | bool | list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def value_at(settings: BaseModel, path: Path) -> Any:
    """Return the value of a setting or of a part of it, PydanticUndefined when there is none."""
    value: Any = settings
    for part in path:
        if isinstance(value, Mapping):
            value = value.get(part, PydanticUndefined)
        elif isinstance(part, str):
            others = value._others if isinstance(value, WholeSettings) else {}
            value = getattr(value, attribute(value, part), others.get(part, PydanticUndefined))
        else:
            inside = isinstance(value, Sequence) and part < len(value)
            value = value[part] if inside else PydanticUndefined
        if value is PydanticUndefined:
            return value
    return value


def attribute(model: Any, key: str) -> str:
    """Return the attribute for a key of the input, which differs only for aliases."""
    fields = getattr(type(model), "model_fields", {})
    if key in fields:
        return key
    return next((name for name, info in fields.items() if info.validation_alias == key), key)
