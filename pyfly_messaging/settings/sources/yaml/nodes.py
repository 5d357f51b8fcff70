"""YAML text to nodes, and nodes to data with origins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pyfly_messaging.settings.binding.given import Given, Key
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic, Report
from pyfly_messaging.settings.diagnostics.source_text import SourceText
from pyfly_messaging.settings.text.names import canonical
from pyfly_messaging.settings.text.nesting import MOST_DEPTH, MOST_NODES
from pyfly_messaging.settings.text.scalars import resolve

MOST_PARSED = 20_000
"""Keys and values in a file, whatever section they belong to."""
_CORE = "tag:yaml.org,2002:"
_PLAIN_TAGS = {_CORE + name for name in ("int", "float", "bool", "null", "timestamp", "merge")}
_SCALAR_TAGS = _PLAIN_TAGS | {_CORE + "str"}
_COLLECTION_TAGS = {_CORE + "map", _CORE + "seq"}


class TooManyError(Exception):
    """A text has too many keys and values; with the place of the first one too many."""


class _Composer(Composer):
    """Composes nodes, and gives up in time on a text that would take long."""

    nodes = levels = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Return the next node."""
        self.nodes += 1
        self.levels += 1
        if self.nodes > MOST_PARSED:
            raise TooManyError(self.parser.peek_event().start_mark.index)
        if self.levels > 2 * MOST_DEPTH:
            raise RecursionError
        node = super().compose_node(parent, index)
        self.levels -= 1
        return node


def compose(source: SourceText, report: Report) -> Node | None:
    """Return the root node of a text, or None for an empty one or after a problem was reported."""
    yaml = YAML(typ="safe", pure=True)
    # The warning about an anchor that is used twice would print lines of the file.
    yaml.Composer = _Composer
    yaml.composer.warn_double_anchors = False
    try:
        root: Node | None = yaml.compose(source.text)
    except YAMLError as error:
        from pyfly_messaging.settings.sources.yaml.syntax import explain

        problem = explain(error, source)
    except TooManyError as error:
        from pyfly_messaging.settings.sources.yaml.syntax import explain_size

        problem = explain_size(error.args[0], MOST_PARSED, source)
    except (RecursionError, ValueError):
        # A ValueError comes from impossible numbers in a directive or in an escape.
        from pyfly_messaging.settings.sources.yaml.syntax import explain_crash

        problem = explain_crash(source)
    else:
        source.root = root
        return root
    report(problem)
    return None


def entries(node: MappingNode, source: SourceText) -> Iterator[tuple[Key, Node]]:
    """Yield the keys and value nodes of a mapping, as they are written.

    A key that is no text, or that must not be shown, is called ``?``.
    """
    for key, value in node.value:
        start, end = key.start_mark.index, key.end_mark.index
        secret = source.hides(start, end)
        text = key.value if isinstance(key, ScalarNode) and not secret else "?"
        bare = not value.value and ":" not in source.text[end : value.end_mark.index + 1]
        yield Key(text, source.origin(start, end), (start, end), bare, secret), value


class Converter:
    """Turns the nodes of one text into data with origins, within limits."""

    def __init__(self, source: SourceText, report: Report) -> None:
        self._source = source
        self._report = report
        self._open: list[Node] = []
        self._count = 0
        self._given_up = False

    def convert(self, node: Node, key: Key) -> Given | None:
        """Return the data of a node, or None after a problem was reported."""
        self._count += 1
        if node in self._open or len(self._open) >= MOST_DEPTH or self._count > MOST_NODES:
            self._give_up(node, key)
            return None
        self._open.append(node)
        try:
            return self._convert(node, key)
        finally:
            self._open.pop()

    def _convert(self, node: Node, key: Key) -> Given | None:
        source = self._source
        start, end = node.start_mark.index, node.end_mark.index
        origin = source.origin(start, end) if source.text[start:end].strip() else key.origin
        if isinstance(node, MappingNode) and node.tag in _COLLECTION_TAGS:
            found = list(self._entries(node))
            return Given("mapping", origin, entries=found, span=(start, end), source=source)
        if isinstance(node, SequenceNode) and node.tag in _COLLECTION_TAGS:
            items = [self.convert(item, key) for item in node.value]
            kept = [item for item in items if item is not None]
            return Given("list", origin, items=kept, span=(start, end), source=source)
        if not isinstance(node, ScalarNode) or node.tag not in _SCALAR_TAGS:
            self._tagged(node, key)
            return None
        text: str = node.value
        plain = node.style is None
        if plain and not text and getattr(node, "anchor", None):
            self._anchored(node, key)
            return None
        value = resolve(text) if plain and node.tag in _PLAIN_TAGS else text
        return Given(
            "scalar",
            origin,
            value,
            text,
            span=(start, end),
            plain=plain,
            block=node.style in {"|", ">"},
            source=source,
            secret=source.hides(start, end),
        )

    def _entries(self, node: MappingNode) -> Iterator[tuple[Key, Given]]:
        merged: list[tuple[Key, Node]] = []
        own: set[str] = set()
        for key, value in entries(node, self._source):
            if key.text == "<<":
                merged += self._merge(value, key)
                continue
            if key.secret:
                from pyfly_messaging.settings.binding.complaints import secret_key

                self._report(secret_key(key))
                continue
            own.add(canonical(key.text))
            given = self.convert(value, key)
            if given is not None:
                yield key, given
        for key, value in merged:
            if not key.secret and canonical(key.text) not in own:
                own.add(canonical(key.text))
                given = self.convert(value, key)
                if given is not None:
                    yield key, given

    def _merge(self, value: Node, key: Key) -> Iterator[tuple[Key, Node]]:
        """Yield what ``<<`` brings, the first of several mappings first; all of it counts."""
        sources = value.value if isinstance(value, SequenceNode) else [value]
        for source in sources:
            if not isinstance(source, MappingNode):
                from pyfly_messaging.settings.binding.complaints import not_mergeable

                span = source.start_mark.index, source.end_mark.index
                self._report(not_mergeable(self._source.origin(*span)))
            elif source not in self._open:
                self._count += 1 + len(source.value)
                if self._count > MOST_NODES:
                    self._give_up(source, key)
                    return
                yield from entries(source, self._source)

    def _give_up(self, node: Node, key: Key) -> None:
        if self._given_up:
            return
        self._given_up = True
        loop = node in self._open
        deep = len(self._open) >= MOST_DEPTH
        self._report(
            Diagnostic(
                code="CFG016",
                message="an alias refers to what it stands in"
                if loop
                else f"nested deeper than {MOST_DEPTH} levels"
                if deep
                else f"aliases multiply to more than {MOST_NODES} values",
                origin=key.origin,
                label="here",
                help="write the values out, without aliases",
            )
        )

    def _tagged(self, node: Node, key: Key) -> None:
        mark = node.start_mark
        self._show(key)
        self._report(
            Diagnostic(
                code="CFG009",
                message=f"the value of {key.text!r} has a YAML tag",
                origin=self._source.origin(mark.index, node.end_mark.index),
                label="values are plain data, tags have no meaning here",
                help="remove the tag (for an environment variable write ${NAME}); a text that "
                'begins with "!" needs quotes',
            )
        )

    def _show(self, key: Key) -> None:
        if key.span is not None:
            self._source.show(*key.span)

    def _anchored(self, node: Node, key: Key) -> None:
        mark = node.start_mark
        self._show(key)
        self._report(
            Diagnostic(
                code="CFG005",
                message=f"the value of {key.text!r} begins with '&' and needs quotes",
                origin=self._source.origin(mark.index, mark.index + 1),
                label="YAML reads '&' as the beginning of an anchor",
                help='put the value in quotes: "&..."',
            )
        )


__all__ = ["Converter", "MappingNode", "Node", "ScalarNode", "compose", "entries"]
