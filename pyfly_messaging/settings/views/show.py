"""All effective values, each with its origin and what it overrides. Secrets are masked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from pyfly_messaging.settings.catalogue.display import as_text, shown, value_at
from pyfly_messaging.settings.catalogue.tree import Setting, catalogue
from pyfly_messaging.settings.diagnostics.origins import Entry, Origin
from pyfly_messaging.settings.plugins.extension import describing
from pyfly_messaging.settings.root import MessagingSettings
from pyfly_messaging.settings.text.names import dotted
from pyfly_messaging.settings.text.plain import mask_value
from pyfly_messaging.settings.text.secrets import MASK


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One effective value.

    Attributes:
        setting: Dotted name below ``pyfly.messaging``.
        value: The value as plain data that may be shown.
        text: The value as text.
        origin: Where it comes from.
        overridden: What it overrides, the nearest first.

    """

    setting: str
    value: Any
    text: str
    origin: Origin
    overridden: tuple[Entry, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the value as plain data for JSON."""
        return {
            "setting": self.setting,
            "value": self.value,
            "origin": str(self.origin),
            "overrides": [
                {"origin": str(entry.origin), "value": entry.shown} for entry in self.overridden
            ],
        }


def effective_values(settings: MessagingSettings) -> list[Shown]:
    """Return every setting with its effective value, in the order of the models.

    Of ``listeners`` only what is really set appears.
    """
    return list(_walk(settings, catalogue(describing(settings)), (), everything=True))


def render_values(values: list[Shown], *, origins: bool = False) -> str:
    """Return effective values as text, one a line, with their origins if asked for."""
    width = max((len(value.setting) for value in values), default=0)
    if not origins:
        return "\n".join(f"{value.setting.ljust(width)}  {value.text}" for value in values)
    middle = min(40, max((len(value.text) for value in values), default=0))
    lines = []
    for value in values:
        lines.append(f"{value.setting.ljust(width)}  {value.text.ljust(middle)}  {value.origin}")
        indent = " " * (width + middle + 6)
        lines += [
            f"{indent}overrides {entry.origin} = {as_text(None, entry.shown)}"
            for entry in value.overridden
        ]
    return "\n".join(lines)


def _walk(
    settings: MessagingSettings, node: Setting, path: tuple[str, ...], *, everything: bool
) -> Iterator[Shown]:
    for child in node.children.values():
        place = (*path, child.key)
        if child.shape == "section":
            yield from _walk(settings, child, place, everything=everything)
        elif child.item is not None:
            names = value_at(settings, place)
            for name in names if isinstance(names, Mapping) else ():
                yield from _walk(settings, child.item, (*place, name), everything=False)
        elif child.deprecation is None and (everything or _is_set(settings, path, child.key)):
            yield from _leaf(settings, child, place)


def _is_set(settings: MessagingSettings, section: tuple[str, ...], key: str) -> bool:
    model = value_at(settings, section)
    return isinstance(model, BaseModel) and key in model.model_fields_set


def _leaf(settings: MessagingSettings, node: Setting, path: tuple[str, ...]) -> Iterator[Shown]:
    value = value_at(settings, path)
    entries = settings.provenance.entries
    if node.shape == "free" and isinstance(value, Mapping) and value:
        for key, item in value.items():
            found = entries.get((*path, key), [])
            plain = found[0].shown if found else mask_value(item, str(key))
            yield _shown((*path, str(key)), plain, None, settings, found)
        return
    found = entries.get(path, [])
    plain = shown(node, value)
    if found and value is not None and (node.shape == "items" or MASK in str(found[0].shown)):
        # What was given may be the content of a secret file, which the value does not know.
        plain = found[0].shown
    yield _shown(path, plain, node, settings, found)


def _shown(
    path: tuple[str, ...],
    plain: Any,
    node: Setting | None,
    settings: MessagingSettings,
    entries: list[Entry],
) -> Shown:
    return Shown(
        setting=dotted(path),
        value=plain,
        text=as_text(node, plain),
        origin=settings.provenance.effective(path),
        overridden=tuple(entries[1:]),
    )
