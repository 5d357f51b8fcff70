"""Binding: what was given meets what exists. Unknown keys, duplicates and wrong shapes end here."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr

from pyfly_messaging.settings.binding.duplicates import distinct
from pyfly_messaging.settings.binding.given import Given, Key, is_model, show_key
from pyfly_messaging.settings.binding.layers import Layer
from pyfly_messaging.settings.binding.leaf_values import LeafReader, UnreadableError
from pyfly_messaging.settings.catalogue.tree import Setting
from pyfly_messaging.settings.diagnostics.diagnostic import Report
from pyfly_messaging.settings.diagnostics.origins import Entry, Path
from pyfly_messaging.settings.models.deprecation import Deprecation
from pyfly_messaging.settings.text.names import canonical, canonical_name
from pyfly_messaging.settings.text.plain import mask_value


class Binder:
    """Binds what one source gives to the settings of a catalogue.

    Args:
        root: The catalogue.
        layer: Where the values go.
        report: Where problems go.
        placeholders: The variables for ``${NAME}``, or None to leave placeholders alone.

    """

    def __init__(
        self,
        root: Setting,
        layer: Layer,
        report: Report,
        placeholders: Mapping[str, str] | None = None,
    ) -> None:
        self.root = root
        self.layer = layer
        self.report = report
        self.placeholders = placeholders

    def bind(self, setting: Setting, given: Given, path: Path) -> None:
        """Bind a value to a setting of any shape."""
        if is_model(given) or (given.kind == "object" and setting.shape in {"section", "named"}):
            self.layer.put(path, given.value, Entry(given.origin, "..."))
        elif setting.shape == "section":
            self._section(setting, given, path)
        elif setting.shape == "named":
            self._named(setting, given, path)
        elif setting.shape == "items" and not given.is_null:
            self._items(setting, given, path)
        else:
            self._leaf(setting, given, path)

    def _section(self, setting: Setting, given: Given, path: Path) -> None:
        entries = self._entries(setting, given, path)
        if entries is None:
            return
        self.layer.places.setdefault(path, given.origin)
        for name, (key, item) in distinct(entries, canonical, path, self.report).items():
            child = setting.children.get(name)
            if child is None:
                self._unknown(setting, key, item, path)
                continue
            show_key(key, item)
            self.layer.places.setdefault((*path, child.key), key.origin)
            self.bind(child, item, (*path, child.key))

    def _named(self, setting: Setting, given: Given, path: Path) -> None:
        entries = self._entries(setting, given, path)
        if entries is None or setting.item is None:
            return
        self.layer.section(path)
        for name, (key, item) in distinct(entries, canonical_name, path, self.report).items():
            show_key(key, item)
            inner = (*path, name)
            self.layer.places.setdefault(inner, key.origin)
            self.layer.section(inner)
            self.bind(setting.item, item, inner)

    def _items(self, setting: Setting, given: Given, path: Path) -> None:
        """Bind each item of a list of sections as a section by its number."""
        if given.kind == "object":
            self.layer.put(path, given.value, Entry(given.origin, mask_value(given.value)))
            return
        if given.items is None or setting.element is None:
            from pyfly_messaging.settings.binding.complaints import wrong_shape

            self.report(wrong_shape(setting, given, path))
            return
        self.layer.drop(path)
        items = []
        for number, item in enumerate(given.items):
            inner = (*path, number)
            self.layer.section(inner)
            self.bind(setting.element, item, inner)
            items.append(self.layer.section(path)[number])
        shown = [self.layer.shown((*path, number), item) for number, item in enumerate(items)]
        self.layer.put(path, items, Entry(given.origin, shown))

    def _entries(
        self, setting: Setting, given: Given, path: Path
    ) -> list[tuple[Key, Given]] | None:
        if given.entries is None and not given.is_null:
            from pyfly_messaging.settings.binding.complaints import section_expected

            self.report(section_expected(setting, given, path))
        return given.entries

    def _unknown(self, setting: Setting, key: Key, item: Given, path: Path) -> None:
        from pyfly_messaging.settings.binding.complaints import bare_key, unknown_key

        if key.bare:
            # What stands there may be a secret that a slip made a key.
            self.report(bare_key(key, path))
            return
        show_key(key, item)
        if not path:
            self.layer.strangers.add(key.text)
        self.report(unknown_key(self.root, setting, key, item, path))

    def _leaf(self, setting: Setting, given: Given, path: Path) -> None:
        if given.is_null:
            self._null(setting, given, path)
            return
        reader = LeafReader(setting, path, self.report, self.placeholders)
        try:
            value = reader.read(given)
        except UnreadableError:
            return
        shown = reader.shown(value)
        if setting.base is SecretStr and isinstance(value, str):
            # pydantic-settings can be told to log what sources return.
            value = SecretStr(value)
        origin = given.origin.through(reader.via) if reader.via else given.origin
        if setting.shape == "free" and isinstance(value, dict):
            self.layer.section(path).update(value)
            self.layer.places[path] = origin
        else:
            self.layer.put(path, value, Entry(origin, shown))
        self.layer.entries |= reader.parts
        if setting.deprecation is not None:
            self._deprecated(setting.deprecation, path)

    def _null(self, setting: Setting, given: Given, path: Path) -> None:
        if given.text is not None and not given.text.strip():
            from pyfly_messaging.settings.binding.complaints import no_value

            self.report(no_value(setting, given, path))
        elif setting.optional:
            self.layer.put(path, None, Entry(given.origin, None))
        else:
            self.layer.resets[path] = given.origin

    def _deprecated(self, mark: Deprecation, path: Path) -> None:
        from pyfly_messaging.settings.binding.complaints import deprecated

        self.report(deprecated(mark, self.layer.entries[path].origin, path))
        if not mark.target or self.root.find(mark.target) is None:
            return
        value = self.layer.section(path[:-1])[path[-1]]
        entry = self.layer.drop(path)
        if entry is not None and mark.target not in self.layer.entries:
            self.layer.put(mark.target, value, entry)
