"""The commented reference configuration: every setting at its default, written from the models."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError
from pydantic_core import PydanticUndefined

from pyfly_messaging.settings.catalogue.display import shown, value_at
from pyfly_messaging.settings.catalogue.masking import hides
from pyfly_messaging.settings.catalogue.tree import Setting, catalogue
from pyfly_messaging.settings.catalogue.wording import expectation
from pyfly_messaging.settings.models.provider import BUILT_IN
from pyfly_messaging.settings.root import MessagingSettings
from pyfly_messaging.settings.text.names import canonical
from pyfly_messaging.settings.text.plain import mask_value

MUST_BE_GIVEN = "Must be given."
_WIDTH = 96
_BROKERS = ("kafka", "rabbitmq", "memory")
_PLAIN = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@")
_WORDS = {"", "~", "null", "true", "false", "yes", "no", "on", "off"}


def reference_yaml(
    provider: str | None = None,
    *,
    schema: str = "",
    settings_cls: type[BaseModel] | None = None,
) -> str:
    """Return a commented ``pyfly.yaml`` with every setting at its default.

    Settings without a default stand in comments. Loading the text gives the defaults.

    Args:
        provider: Write this provider, and of the brokers only its section.
        schema: Path or address of the JSON Schema for the editor's modeline.
        settings_cls: The class to describe, `MessagingSettings` by default.

    """
    settings_cls = settings_cls or _class_for(provider)
    lines = [f"# yaml-language-server: $schema={schema}"] if schema else []
    lines += ["pyfly:", "  messaging:"]
    for child in catalogue(settings_cls).children.values():
        if provider is not None and child.key in _BROKERS and child.key != provider:
            continue
        if provider is not None and child.key == "provider":
            lines += _comment(child, 4, child.default)
            lines += [f"    provider: {provider}", ""]
            continue
        lines += [*_setting(child, 4, child.default), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def must_be_given(provider: str | None) -> list[str]:
    """Return the settings of a provider without a default, by their dotted names."""
    children = catalogue(_class_for(provider)).children
    section = None if provider is None else children.get(canonical(provider).lower())
    leaves = section.leaves() if section is not None and section.shape == "section" else ()
    optional = [node.path for node in _sections(section) if node.default is None]
    return [
        leaf.dotted
        for leaf in leaves
        if leaf.default is PydanticUndefined
        and not any(leaf.path[: len(path)] == path for path in optional)
    ]


def _sections(section: Setting | None) -> Iterator[Setting]:
    for child in section.children.values() if section is not None else ():
        if child.shape == "section":
            yield child
            yield from _sections(child)


def _class_for(provider: str | None) -> type[BaseModel]:
    if provider is None or provider in BUILT_IN:
        return MessagingSettings
    from pyfly_messaging.settings.plugins.extension import with_adapters

    return with_adapters(MessagingSettings, (provider,))


def _setting(setting: Setting, indent: int, default: Any) -> Iterator[str]:
    if setting.deprecation is not None:
        return
    yield from _comment(setting, indent, default)
    space = " " * indent
    if setting.shape == "section" and default is None:
        yield f"{space}# {setting.name}:"
        return
    if setting.shape == "section":
        yield f"{space}{setting.name}:"
        for child in setting.children.values():
            yield from _setting(child, indent + 2, _default_in(default, child))
        return
    value = _value(setting, default)
    yield f"{space}{setting.name}: {value}" if value else f"{space}# {setting.name}:"
    if setting.path == ("listeners",):
        yield f"{space}#  notification-service-on-order-event:"
        yield f"{space}#    concurrency: 8"
        yield f"{space}#    retries: 5"


def _default_in(section: Any, child: Setting) -> Any:
    """Return the default of a setting, which that of its section may say differently."""
    found = value_at(section, (child.key,)) if isinstance(section, BaseModel) else section
    return child.default if found is PydanticUndefined or found is section else found


def _comment(setting: Setting, indent: int, default: Any) -> Iterator[str]:
    text = setting.description
    if setting.shape not in {"section", "named", "free"} and setting.kind is None:
        text = f"{text} ({expectation(setting)})"
    if setting.shape != "section" and default is PydanticUndefined:
        text = f"{text} {MUST_BE_GIVEN}"
    prefix = " " * indent + "# "
    yield from textwrap.wrap(
        text.strip(),
        _WIDTH,
        initial_indent=prefix,
        subsequent_indent=prefix,
        break_on_hyphens=False,
    )


def _value(setting: Setting, default: Any) -> str:
    """Return the default as YAML, empty when there is none that a file could have."""
    if default is None or default is PydanticUndefined or hides(setting):
        return ""
    if isinstance(default, SecretStr):  # of ours: everybody knows it
        return default.get_secret_value()
    if setting.kind is not None:
        plain = shown(setting, default)
        return str(plain) if setting.shape == "list" else _scalar(plain)
    plain = mask_value(default)
    return _scalar(plain) if _is_read_as(setting, plain, default) else ""


def _is_read_as(setting: Setting, plain: Any, default: Any) -> bool:
    """Tell whether what would stand in the file is read as the default, which can be anything."""
    if setting.info is None or isinstance(default, bool | int | float | str):
        return bool(plain == default)
    try:
        read = TypeAdapter(setting.info.rebuild_annotation()).validate_python(plain)
    except (ValidationError, PydanticSchemaGenerationError):
        return False
    return bool(read == default)


def _scalar(plain: Any) -> str:
    if isinstance(plain, str):
        safe = set(plain) <= _PLAIN and plain.lower() not in _WORDS and ": " not in plain
        return plain if safe else json.dumps(plain)
    return json.dumps(plain)
