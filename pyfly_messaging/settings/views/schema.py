"""The JSON Schema of ``pyfly.yaml`` for editors: draft 7, which yaml-language-server reads."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from pyfly_messaging.settings.catalogue.display import shown
from pyfly_messaging.settings.catalogue.tree import Setting, catalogue
from pyfly_messaging.settings.catalogue.wording import expectation
from pyfly_messaging.settings.models.provider import providers
from pyfly_messaging.settings.root import MessagingSettings
from pyfly_messaging.settings.text.plain import mask_value

DRAFT = "http://json-schema.org/draft-07/schema#"
_PLACEHOLDER = {"type": "string", "pattern": r"\$\{"}
_TYPES = {int: "integer", float: "number", bool: "boolean"}
_LIMITS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def json_schema(settings_cls: type[BaseModel] | None = None) -> dict[str, Any]:
    """Return the schema of a file: what the loader takes, with descriptions and defaults.

    Both spellings of a key are known, and not both at once. Any value may be a ``${PLACEHOLDER}``.
    Sections of others below ``pyfly:`` and beside it are left alone, as the loader does.

    Args:
        settings_cls: The class to describe, by default `MessagingSettings` with the sections of the
            adapters that are installed.

    """
    if settings_cls is None:
        from pyfly_messaging.settings.plugins.extension import with_adapters

        settings_cls = with_adapters(MessagingSettings)
    messaging = _section(catalogue(settings_cls))
    messaging["description"] = "Settings of pyfly-messaging."
    return {
        "$schema": DRAFT,
        "title": "pyfly.yaml",
        "type": ["object", "null"],
        "properties": {
            "pyfly": {"type": ["object", "null"], "properties": {"messaging": messaging}}
        },
    }


def schema_text() -> str:
    """Return the schema of `MessagingSettings` as the text of its file, ``pyfly.schema.json``."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _section(setting: Setting) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    duplicates: list[dict[str, Any]] = []
    for child in setting.children.values():
        schema = _setting(child)
        properties[child.name] = schema
        if child.key != child.name:
            properties[child.key] = schema
            both = {"type": "object", "required": [child.name, child.key]}
            duplicates.append({"not": both})
    section: dict[str, Any] = {
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": False,
    }
    return section | ({"allOf": duplicates} if duplicates else {})


def _setting(setting: Setting) -> dict[str, Any]:
    head: dict[str, Any] = {}
    if setting.description:
        head["description"] = setting.description
    if setting.deprecation is not None:
        head["deprecated"] = True
        head["description"] = f"Deprecated: {setting.deprecation.reason}."
    if setting.shape == "section":
        return head | _section(setting)
    if setting.item is not None:
        return head | {"type": ["object", "null"], "additionalProperties": _section(setting.item)}
    head["description"] = f"{head.get('description', '')} Takes {expectation(setting)}.".strip()
    if (default := setting.default) is not PydanticUndefined and not setting.secret:
        head["default"] = shown(setting, default)
    if setting.shape == "free":
        return head | {"type": ["object", "null"]}
    return head | _leaf(setting)


def _leaf(setting: Setting) -> dict[str, Any]:
    options: list[dict[str, Any]] = []
    if setting.path == ("provider",) and setting.kind is not None:
        # The loader takes more than the built-in ones only where another adapter is installed.
        options.append({"enum": list(providers())})
    elif setting.shape == "items" and setting.element is not None:
        options.append({"type": "array", "items": _section(setting.element)})
    elif setting.shape == "list" and setting.kind is None:
        item = _leaf(setting.element) if setting.element is not None else {}
        options += [{"type": ["string", "number", "boolean"]}, {"type": "array", "items": item}]
    elif setting.choices:
        options.append({"enum": list(map(mask_value, setting.choices))})
        if not setting.as_written:
            options.append({"enum": [str(choice) for choice in setting.choices]})
    elif setting.kind is not None:
        schema = setting.kind.schema
        options += schema["anyOf"] if set(schema) == {"anyOf"} else [schema]
    elif setting.as_written:
        options.append({"type": ["string", "number", "boolean"]})
    elif setting.base in _TYPES:
        options.append({"type": _TYPES[setting.base]})
    else:
        return {}
    limited = [_limited(option, setting) for option in options]
    return {"anyOf": [*limited, _PLACEHOLDER, {"type": "null"}]}


def _limited(schema: dict[str, Any], setting: Setting) -> dict[str, Any]:
    if schema.get("type") not in ("integer", "number"):  # a list of types is not hashable
        return schema
    found = dict(schema)
    for constraint in setting.constraints:
        for name, keyword in _LIMITS.items():
            if (limit := getattr(constraint, name, None)) is not None:
                found[keyword] = limit
    return found
