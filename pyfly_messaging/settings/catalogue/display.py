"""Values as they may be shown to people: formatted by their type, secrets masked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic_core import PydanticUndefined

from pyfly_messaging.settings.catalogue.tree import Setting
from pyfly_messaging.settings.text.durations import format_duration
from pyfly_messaging.settings.text.secrets import MASK, mask_url, mask_value


def shown(setting: Setting, value: Any) -> Any:
    """Return a value as plain data that may be shown: durations as text, secrets masked."""
    if value is None or value is PydanticUndefined:
        return None
    if isinstance(value, SecretStr) and setting.key == "url":
        return mask_url(value.get_secret_value())
    if setting.secret or isinstance(value, SecretStr | SecretBytes):
        return MASK
    if isinstance(value, Enum):
        value = value.value
    if is_duration(setting) and isinstance(value, int | float):
        return format_duration(value)
    if setting.shape == "list" and isinstance(value, list | tuple):
        return ",".join(str(item) for item in value) or "[]"
    if isinstance(value, BaseModel):
        return type(value).__name__
    if isinstance(value, Mapping):
        return mask_value(value)
    return mask_value(value, setting.key)


def is_duration(setting: Setting) -> bool:
    """Tell whether a setting is a duration."""
    return setting.kind is not None and setting.kind.label.startswith("duration")


def as_text(setting: Setting | None, value: Any) -> str:
    """Return a value that may be shown as text: text in quotes, unless it is a duration."""
    if value is None:
        return "none"
    if value == MASK:
        return MASK
    if isinstance(value, str):
        bare = value == "[]" or (setting is not None and is_duration(setting))
        return value if bare or MASK in value else json.dumps(value, ensure_ascii=False)
    if isinstance(value, int | float | bool | list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def value_at(settings: BaseModel, path: tuple[str, ...]) -> Any:
    """Return the value of a setting, PydanticUndefined when there is no such place."""
    value: Any = settings
    for part in path:
        if isinstance(value, Mapping):
            value = value.get(part, PydanticUndefined)
        else:
            value = getattr(value, _attribute(value, part), PydanticUndefined)
        if value is PydanticUndefined:
            return value
    return value


def _attribute(model: Any, key: str) -> str:
    """Return the attribute for a key of the input, which differs only for aliases."""
    fields = getattr(type(model), "model_fields", {})
    if key in fields:
        return key
    return next((name for name, info in fields.items() if info.validation_alias == key), key)
