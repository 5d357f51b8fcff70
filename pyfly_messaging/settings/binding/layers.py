"""A layer: what one source gives, as data for pydantic and as a record of origins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyfly_messaging.settings.diagnostics.origins import Entry, Origin, Path
from pyfly_messaging.settings.text.plain import mask_value


@dataclass(slots=True)
class Layer:
    """The values of one source.

    Attributes:
        name: The source, as people know it.
        values: Nested data, by the keys of the models.
        entries: Origin and printable value of each setting that is given.
        places: Where sections are written.
        strangers: Names at the top that no setting has, for the adapters of others among them.
        resets: Settings that are taken back to their default (``url: null``): what layers of lower
            precedence say about them does not count.

    """

    name: str
    values: dict[Any, Any] = field(default_factory=dict)
    entries: dict[Path, Entry] = field(default_factory=dict)
    places: dict[Path, Origin] = field(default_factory=dict)
    resets: dict[Path, Origin] = field(default_factory=dict)
    strangers: set[str] = field(default_factory=set)

    def put(self, path: Path, value: Any, entry: Entry) -> None:
        """Set the value of a setting."""
        self.section(path[:-1])[path[-1]] = value
        self.entries[path] = entry

    def section(self, path: Path) -> dict[Any, Any]:
        """Return the data of a section, made when it is missing."""
        values = self.values
        for part in path:
            inner = values.setdefault(part, {})
            if not isinstance(inner, dict):
                inner = values[part] = {}
            values = inner
        return values

    def get(self, path: Path) -> Any:
        """Return the value of a setting or of a part of it, None when it is not there."""
        value: Any = self.values
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def shown(self, path: Path, value: Any) -> Any:
        """Return data at a path as it may be shown, each part of it as its entry says."""
        if (entry := self.entries.get(path)) is not None:
            return entry.shown
        if isinstance(value, dict):
            return {key: self.shown((*path, key), item) for key, item in value.items()}
        return mask_value(value)

    def drop(self, path: Path) -> Entry | None:
        """Take a setting out again, with all that is below it; return its entry."""
        values: Any = self.values
        for part in path[:-1]:
            values = values.get(part) if isinstance(values, dict) else None
        value = values.pop(path[-1], None) if isinstance(values, dict) else None
        entry = self.entries.pop(path, None)
        if isinstance(value, dict | list | tuple):
            for found in [found for found in self.entries if found[: len(path)] == path]:
                del self.entries[found]
        return entry


def foreign(name: str, values: Mapping[str, Any]) -> Layer:
    """Return what a source of somebody else gives, as a layer: all of it comes from there."""
    layer = Layer(name, dict(values))
    stack: list[tuple[Path, Mapping[str, Any]]] = [((), values)]
    while stack:
        path, inner = stack.pop()
        for key, value in inner.items():
            if isinstance(value, Mapping):
                stack.append(((*path, key), value))
            else:
                origin = Origin("source", name)
                layer.entries[*path, key] = Entry(origin, mask_value(value, str(key)))
    return layer


def take_back(layers: Sequence[Layer]) -> dict[Path, Origin]:
    """Drop from each layer what one of higher precedence takes back to its default.

    In a file such a ``null`` has to take something back: by itself it would mean nothing, and who
    wrote it surely meant something. Those that take nothing back are returned.
    """
    resets: dict[Path, Origin] = {}
    idle: dict[Path, Origin] = {}
    for layer in layers:
        for path in resets:
            if layer.drop(path) is not None:
                idle.pop(path, None)
        resets |= layer.resets
        idle |= {path: at for path, at in layer.resets.items() if at.kind == "file"}
    return idle


def choose_forms(
    layers: Sequence[Layer], section: str, forms: Mapping[str, frozenset[str]]
) -> None:
    """Of several forms in which one thing can be set, keep the one with the highest precedence.

    An operator who sets ``…__RABBITMQ__HOST`` overrules the ``url`` of a file, and does not say
    something else beside it. A form counts where its leading setting is given: a password alone
    beside a URL of lower precedence is left to the check that reports both.

    Args:
        layers: The highest precedence first.
        section: The section that has the forms.
        forms: By the name of its leading setting, the names that belong to a form.

    """
    chosen: set[str] = set()
    for layer in layers:
        given = {path[1] for path in layer.entries if path[0] == section and len(path) == 2}
        if chosen:
            for form in forms.keys() - chosen:
                for name in forms[form] & given:
                    layer.drop((section, name))
        else:
            chosen = forms.keys() & given
