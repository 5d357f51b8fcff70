"""The commented reference configuration: every setting at its default, written from the models."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

from pydantic import BaseModel, SecretStr

from pyfly_messaging.settings.catalogue.display import shown
from pyfly_messaging.settings.catalogue.tree import Setting, catalogue
from pyfly_messaging.settings.catalogue.wording import expectation
from pyfly_messaging.settings.models.provider import BUILT_IN
from pyfly_messaging.settings.root import MessagingSettings

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
    if settings_cls is None:
        settings_cls = MessagingSettings
        if provider is not None and provider not in BUILT_IN:
            from pyfly_messaging.settings.plugins.extension import with_adapters

            settings_cls = with_adapters(MessagingSettings, (provider,))
    lines = [f"# yaml-language-server: $schema={schema}"] if schema else []
    lines += ["pyfly:", "  messaging:"]
    for child in catalogue(settings_cls).children.values():
        if provider is not None and child.key in _BROKERS and child.key != provider:
            continue
        if provider is not None and child.key == "provider":
            lines += _comment(child, 4)
            lines += [f"    provider: {provider}", ""]
            continue
        lines += [*_setting(child, 4), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _setting(setting: Setting, indent: int) -> Iterator[str]:
    if setting.deprecation is not None:
        return
    yield from _comment(setting, indent)
    space = " " * indent
    if setting.shape == "section":
        yield f"{space}{setting.name}:"
        for child in setting.children.values():
            yield from _setting(child, indent + 2)
    elif setting.shape in {"named", "free"}:
        yield f"{space}{setting.name}: {{}}"
        if setting.item is not None:
            yield f"{space}#  notification-service-on-order-event:"
            yield f"{space}#    concurrency: 8"
            yield f"{space}#    retries: 5"
    else:
        value = _value(setting)
        yield f"{space}{setting.name}: {value}" if value else f"{space}# {setting.name}:"


def _comment(setting: Setting, indent: int) -> Iterator[str]:
    text = setting.description
    if setting.shape not in {"section", "named", "free"} and setting.kind is None:
        text = f"{text} ({expectation(setting)})"
    prefix = " " * indent + "# "
    yield from textwrap.wrap(
        text, _WIDTH, initial_indent=prefix, subsequent_indent=prefix, break_on_hyphens=False
    )


def _value(setting: Setting) -> str:
    """Return the default as YAML, empty when there is none."""
    default = setting.default
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    plain = shown(setting, default)
    if plain is None:
        return ""
    if setting.shape == "list":
        return str(plain)
    if isinstance(plain, str):
        safe = set(plain) <= _PLAIN and plain.lower() not in _WORDS and ": " not in plain
        return plain if safe else json.dumps(plain)
    return json.dumps(plain)
