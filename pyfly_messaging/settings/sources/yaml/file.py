"""A YAML file as a layer: the section ``pyfly: messaging:`` and nothing else of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from pyfly_messaging.settings.binding.binder import Binder
from pyfly_messaging.settings.binding.given import Given, Key
from pyfly_messaging.settings.binding.layers import Layer
from pyfly_messaging.settings.catalogue.tree import Setting
from pyfly_messaging.settings.diagnostics.codes import CODES
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic, Related, Report
from pyfly_messaging.settings.diagnostics.source_text import SourceText
from pyfly_messaging.settings.sources.discovery import read_text
from pyfly_messaging.settings.sources.yaml.nodes import (
    Converter,
    MappingNode,
    Node,
    ScalarNode,
    compose,
    entries,
)
from pyfly_messaging.settings.sources.yaml.secret_uses import hidden_spans
from pyfly_messaging.settings.text.lookalikes import lookalike
from pyfly_messaging.settings.text.names import canonical
from pyfly_messaging.settings.text.scalars import resolve

LEVELS = ("pyfly", "messaging")
_HALF_KNOWN = 2


class YamlFile:
    """One file, read and parsed once.

    Attributes:
        source: Its text, for reports; None when it could not be read.
        lost: Whether so much is wrong that nothing of it is known.

    """

    def __init__(self, path: Path, report: Report) -> None:
        self._name = str(path)
        self._node: Node | None = None
        self.source = read_text(path, report)
        self.lost = self.source is None

    def layer(self, root: Setting, environ: Mapping[str, str], report: Report) -> Layer:
        """Return what the file gives to the settings of a catalogue."""
        layer = Layer(self._name)
        if self.source is None:
            return layer
        self.source.forget_marks()
        self.source.known, self.source.secret_keys = _known_names(root)
        if self._node is None:
            # What is said about broken YAML depends on the settings that are known.
            failed: list[Diagnostic] = []
            self._node = compose(self.source, failed.append)
            for problem in failed:
                report(problem)
            self.lost = bool(failed)
        if self._node is not None:
            _FileBinder(root, report).bind(self._node, self.source, layer, environ)
        return layer


class _FileBinder:
    """Finds the section of this library in a file, and binds it."""

    def __init__(self, root: Setting, report: Report) -> None:
        self._root = root
        self._report = report

    def bind(
        self, node: Node, source: SourceText, layer: Layer, environ: Mapping[str, str]
    ) -> None:
        """Put what the section gives into a layer."""
        if "*" in source.text and "&" in source.text:
            source.hide(hidden_spans(node, self._root, LEVELS))
        section = self._section(node, source)
        if section is None:
            return
        key, messaging = section
        given = Converter(source, self._report).convert(messaging, key)
        if given is not None:
            Binder(self._root, layer, self._report, environ).bind(self._root, given, ())

    def _section(self, root: Node, source: SourceText) -> tuple[Key, Node] | None:
        """Return the section of this library, or None after reporting why there is none."""
        node, outer = root, Key("", source.origin(0, 0))
        around: MappingNode | None = None
        for level in (*LEVELS, ""):
            if isinstance(node, ScalarNode) and resolve(node.value) is None:
                if around is not None:
                    # Nothing is indented below the key: what stands beside it may be meant.
                    self._misplaced(around, outer.text, source)
                return None
            if not level:
                break
            if not isinstance(node, MappingNode):
                self._not_a_mapping(node, outer, source)
                return None
            if self._invisible(node, source):
                return None
            found = self._child(node, level, source)
            if found is None:
                self._misplaced(node, level, source)
                return None
            around, (outer, node) = node, found
        return outer, node

    def _invisible(self, node: MappingNode, source: SourceText) -> bool:
        """Report a key that is indented by characters which only look like spaces."""
        for key, _ in entries(node, source):
            odd = lookalike(key.text[:1])
            if odd is not None and not odd[1].endswith("quote"):
                if key.span is not None:
                    source.show(*key.span)
                self._report(_misplaced(key, "", odd, None))
                return True
        return False

    def _child(self, node: MappingNode, level: str, source: SourceText) -> tuple[Key, Node] | None:
        found = [(key, value) for key, value in entries(node, source) if key.text == level]
        for key, _ in found:
            if key.span is not None:
                source.show(*key.span)
        if len(found) > 1:
            from pyfly_messaging.settings.binding.complaints import twice

            self._report(twice(found[0][0], found[1][0], ()))
        return found[0] if found else None

    def _not_a_mapping(self, node: Node, outer: Key, source: SourceText) -> None:
        start, end = node.start_mark.index, node.end_mark.index
        what = "a list" if isinstance(node.value, list) else "text"
        if outer.text:
            message, code = f"{outer.text}: is a section, not {what}", "CFG110"
            help_ = "write keys below it, indented"
        else:
            message, code = f"the file is {what}, not a mapping", "CFG014"
            help_ = CODES["CFG014"].cure
        text = node.value if isinstance(node, ScalarNode) and node.style is None else ""
        origin = source.origin(start, end)
        given = Given("scalar", origin, text, text, plain=True, span=(start, end), source=source)
        if text and self._joined(given):
            return
        self._report(
            Diagnostic(
                code=code,
                message=message,
                setting=outer.text,
                origin=given.origin,
                label="expected keys with values",
                help=help_,
            )
        )

    def _joined(self, given: Given) -> bool:
        """Report ``provider:kafka`` and ``provider kafka`` for what they are."""
        from pyfly_messaging.settings.binding.complaints import no_mapping

        problem = no_mapping(given, self._root, ())
        if problem is not None:
            self._report(problem)
        return problem is not None

    def _misplaced(self, node: MappingNode, level: str, source: SourceText) -> None:
        """Report what was most likely meant for the missing level; other sections are others'."""
        from pyfly_messaging.settings.text.suggest import closest

        for key, value in entries(node, source):
            odd = lookalike(key.text)
            near = closest(key.text, [level]) if key.text != level else None
            if odd is not None or near or self._ours(key, value, level, source):
                if key.span is not None:
                    source.show(*key.span)
                self._report(_misplaced(key, level, odd, near))
                return

    def _ours(self, key: Key, value: Node, level: str, source: SourceText) -> bool:
        """Tell whether a section that stands too high is most likely meant for this library."""
        name = canonical(key.text)
        if name.replace("_", "").replace(".", "").startswith("pyflymessaging"):
            return True
        if key.text == level:
            return False
        if level == LEVELS[0] and name == LEVELS[1]:
            return isinstance(value, MappingNode) and self._knows(self._root, value, source)
        child = self._root.children.get(name)
        if child is None:
            return False
        if name == "provider":
            return isinstance(value, ScalarNode)
        return isinstance(value, MappingNode) and self._knows(child, value, source)

    def _knows(self, setting: Setting, node: MappingNode, source: SourceText) -> bool:
        names = [canonical(key.text) for key, _ in entries(node, source)]
        known = sum(name in setting.children for name in names)
        return known > 0 and known * _HALF_KNOWN >= len(names)


def _misplaced(key: Key, level: str, odd: tuple[int, str] | None, near: str | None) -> Diagnostic:
    if odd is not None:
        return Diagnostic(
            code="CFG008",
            message=f"{odd[1]} in the key {key.text!r}",
            origin=key.origin,
            label="this is no plain text",
            help=CODES["CFG008"].cure,
        )
    if near:
        return Diagnostic(
            code="CFG101",
            message=f"unknown key {key.text!r}",
            setting=key.text,
            origin=key.origin,
            label=f"there is no section {level!r} here",
            help=f'did you mean "{level}"?',
        )
    outer = "pyfly: messaging:" if level == LEVELS[0] and key.text != LEVELS[1] else "pyfly:"
    if level == LEVELS[1]:
        outer = "messaging:"
    if canonical(key.text).startswith(("pyfly.", "pyfly_")):
        return Diagnostic(
            code="CFG025",
            message=f"{key.text!r} is one key for several levels",
            origin=key.origin,
            label="nobody reads this",
            help="write one key a line, each level indented below the other",
        )
    return Diagnostic(
        code="CFG025",
        message=f"{key.text!r} stands outside of pyfly: messaging:",
        origin=key.origin,
        label="nobody reads this",
        help=f"{key.text} belongs under {outer}",
    )


@lru_cache(maxsize=64)
def _known_names(root: Setting) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of all settings, and those of the secret ones."""
    names: set[str] = set(LEVELS)
    secret: set[str] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        names |= {child.name for child in node.children.values()}
        secret |= {child.name for child in node.children.values() if child.secret}
        stack += [*node.children.values(), *((node.item,) if node.item else ())]
    return frozenset(names), frozenset(secret)


__all__ = ["LEVELS", "Related", "YamlFile"]
