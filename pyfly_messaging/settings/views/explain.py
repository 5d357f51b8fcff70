"""Everything about one setting: what it takes, what it means, what it is and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from pyfly_messaging.settings.catalogue.display import as_text, shown, value_at
from pyfly_messaging.settings.catalogue.lookup import name_parts, setting_path
from pyfly_messaging.settings.catalogue.naming import naming
from pyfly_messaging.settings.catalogue.tree import ANY_NAME, Setting, catalogue
from pyfly_messaging.settings.catalogue.wording import limits, type_label
from pyfly_messaging.settings.diagnostics.origins import Entry
from pyfly_messaging.settings.plugins.extension import describing
from pyfly_messaging.settings.root import MessagingSettings
from pyfly_messaging.settings.text.names import PREFIX, canonical, full, kebab
from pyfly_messaging.settings.text.plain import mask_value
from pyfly_messaging.settings.text.secrets import MASK


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What there is to know about a setting or a section.

    Attributes:
        setting: The full dotted name.
        type: What it takes, in words.
        default: The default as text, empty for a section.
        choices: The only values, where there are such.
        limits: The limits of the value, in words.
        variable: The environment variable.
        yaml: The keys from the root of a file.
        meaning: What it does.
        optional: Whether it can be none.
        secret: Whether its value is never shown.
        deprecated: Reason, since and replacement, empty when it is not.
        children: For a section: name and meaning of what is in it.
        current: The effective value as text, empty without settings.
        origin: Where the effective value comes from.
        overridden: What it overrides: origin and value as text, the nearest first.

    """

    setting: str
    type: str
    default: str = ""
    choices: tuple[Any, ...] = ()
    limits: tuple[str, ...] = ()
    variable: str = ""
    yaml: tuple[str, ...] = ()
    meaning: str = ""
    optional: bool = False
    secret: bool = False
    deprecated: str = ""
    children: tuple[tuple[str, str], ...] = ()
    current: str = ""
    origin: str = ""
    overridden: tuple[tuple[str, str], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the explanation as plain data for JSON."""
        return asdict(self)


def explain(
    setting: str,
    settings: MessagingSettings | None = None,
    settings_cls: type[BaseModel] | None = None,
) -> Explanation:
    """Explain a setting or a section.

    Args:
        setting: Its dotted name, with or without ``pyfly.messaging``, in either spelling, or the
            name of its environment variable. Empty for the whole.
        settings: Loaded settings, for the current value and its origin.
        settings_cls: The class to explain, `MessagingSettings` by default.

    Raises:
        LookupError: There is no such setting; the text suggests one.

    """
    cls = settings_cls or (MessagingSettings if settings is None else describing(settings))
    cls = _with_adapter(setting, cls)
    path = setting_path(setting, cls)
    # A key below options is explained as the options it is one of.
    node = catalogue(cls).find(path) or catalogue(cls).find(path[:-1])
    if node is None:
        raise LookupError(f"{full(path)} is not a setting")
    current, origin, overridden = _current(node, path, settings)
    mark = node.deprecation
    section = node.shape in {"section", "named"}
    around = catalogue(cls).find(path[:-1])
    inside = around is not None and around.shape == "free"
    part = node.info is None and node.shape != "section"
    return Explanation(
        setting=_name(cls, path),
        type="an argument of the client" if inside and node is around else type_label(node),
        default="" if section or inside or part else _default(node),
        choices=node.choices,
        limits=tuple(limits(node)),
        variable="" if section else naming(cls).variable(_variable(cls, path)),
        yaml=(*PREFIX.split("."), *_keys(cls, path)),
        meaning=node.description or (around.description if around is not None and inside else ""),
        optional=node.optional,
        secret=node.secret,
        deprecated=f"{mark.reason} (since {mark.since})"
        + (f"; use {full(mark.target)}" if mark.target else "")
        if mark
        else "",
        children=_children(node),
        current=current,
        origin=origin,
        overridden=overridden,
    )


def render_explanation(explanation: Explanation) -> str:
    """Return an explanation as text of several lines."""
    e = explanation
    rows = [("type", ", ".join((e.type, *e.limits)) + (", or none" if e.optional else ""))]
    if not e.children:
        rows += [("default", e.default)] if e.default else []
        rows += [("variable", e.variable)]
    rows.append(("in YAML", ": ".join(e.yaml) + ":"))
    if e.secret:
        rows.append(("secret", "its value is never shown"))
    if e.deprecated:
        rows.append(("deprecated", e.deprecated))
    if e.current:
        rows += [("current", e.current), ("from", e.origin)]
        rows += [("overrides", f"{origin} = {value}") for origin, value in e.overridden]
    if e.children:
        width = max(len(name) for name, _ in e.children)
        rows += [("", f"{name.ljust(width)}  {meaning}") for name, meaning in e.children]
    body = "\n".join(f"  {name.ljust(10)}  {value}".rstrip() for name, value in rows)
    return f"{e.setting}\n  {e.meaning}\n{body}" if e.meaning else f"{e.setting}\n{body}"


def _with_adapter(setting: str, settings_cls: type[BaseModel]) -> type[BaseModel]:
    """Return the class with the section of an installed adapter that is asked for, or with all."""
    parts = name_parts(setting, settings_cls)
    if parts and canonical(parts[0]) in catalogue(settings_cls).children:
        return settings_cls
    from pyfly_messaging.settings.plugins.extension import with_adapters

    return with_adapters(settings_cls, parts[:1] or None)


def _placeholders(path: tuple[str, ...]) -> tuple[str, ...]:
    return tuple("<name>" if part == ANY_NAME else part for part in path)


def _in_list(settings_cls: type[BaseModel], path: tuple[str, ...]) -> list[int]:
    """Return which parts of a path are the items of a list."""
    root = catalogue(settings_cls)
    lists = [n for n in range(len(path)) if (node := root.find(path[:n])) and node.shape == "items"]
    return [n for n in lists if path[n] == ANY_NAME]


def _name(settings_cls: type[BaseModel], path: tuple[str, ...]) -> str:
    items = _in_list(settings_cls, path)
    name = ""
    for number, part in enumerate(_placeholders(path)):
        name += "[]" if number in items else f".{kebab(part)}"
    return f"{PREFIX}{name}"


def _variable(settings_cls: type[BaseModel], path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the path that a variable can set: of a list always the whole."""
    items = _in_list(settings_cls, path)
    return _placeholders(path[: items[0]] if items else path)


def _keys(settings_cls: type[BaseModel], path: tuple[str, ...]) -> Iterator[str]:
    """Yield the keys from the root of a file, the first one in an item of a list after a dash."""
    items, dash = _in_list(settings_cls, path), ""
    for number, part in enumerate(_placeholders(path)):
        if number in items:
            dash = "- "
        else:
            yield dash + kebab(part)
            dash = ""


def _default(node: Setting) -> str:
    if node.default is PydanticUndefined:
        return "must be given"
    return as_text(node, shown(node, node.default))


def _children(node: Setting) -> tuple[tuple[str, str], ...]:
    section = node.item or (node.element if node.shape == "items" else None) or node
    return tuple(
        (child.name, child.description)
        for child in section.children.values()
        if child.deprecation is None
    )


def _current(
    node: Setting, path: tuple[str, ...], settings: MessagingSettings | None
) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    if settings is None or node.shape in {"section", "named"} or ANY_NAME in path:
        return "", "", ()
    value = value_at(settings, path)
    if value is PydanticUndefined:
        return "", "", ()
    entries: list[Entry] = settings.provenance.entries.get(path, [])
    plain = shown(node, value)
    if entries and entries[0].shown == MASK:
        plain = entries[0].shown
    origin = settings.provenance.effective(path)
    if isinstance(value, Mapping) and value:
        # Each key has an origin of its own, and may be the content of a secret file.
        given = {key: settings.provenance.winner((*path, key)) for key in value}
        plain = {
            key: entry.shown if entry is not None else mask_value(value[key], str(key))
            for key, entry in given.items()
        }
        origin = next((entry.origin for entry in given.values() if entry is not None), origin)
    found = [(str(entry.origin), as_text(node, entry.shown)) for entry in entries[1:]]
    return as_text(node, plain), str(origin), tuple(found)
