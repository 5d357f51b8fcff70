"""What the places that use a value say about it: one that hides it hides it everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pyfly_messaging.settings.binding.given import Span
from pyfly_messaging.settings.catalogue.masking import may_quote
from pyfly_messaging.settings.catalogue.tree import Setting
from pyfly_messaging.settings.text.names import canonical
from pyfly_messaging.settings.text.secrets import looks_secret

MOST_USES = 100_000
"""Uses that are looked at. Of a text with more of them, no value is quoted."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a node is used.

    Attributes:
        setting: What it sets, None when no setting is known there.
        outer: The keys that still have to follow before the section of this library begins; None
            away from them.
        secret: Whether a key around it looks secret.

    """

    setting: Setting | None
    outer: tuple[str, ...] | None
    secret: bool = False

    def below(self, name: str, catalogue: Setting) -> _Place:
        """Return the place of the value of a key."""
        if self.outer == ():
            setting = self.setting
            if setting is None or setting.shape not in {"section", "named"}:
                return _Place(setting, (), self.secret or looks_secret(name))
            named = setting.shape == "named"
            return _Place(setting.item if named else setting.children.get(canonical(name)), ())
        if self.outer and self.outer[0] == name:
            outer = self.outer[1:]
            return _Place(None if outer else catalogue, outer)
        return _Place(None, None, self.secret or looks_secret(name))

    def item(self) -> _Place:
        """Return the place of an item of a list."""
        if self.outer:
            return _Place(None, None)
        if self.setting is not None and self.setting.shape == "items":
            return _Place(self.setting.element, self.outer, self.secret)
        return self

    def may_quote(self, text: str) -> bool:
        """Tell whether a scalar may be quoted, as far as this place is concerned."""
        if self.secret:
            return False
        if self.outer != ():
            return True
        return self.setting is not None and may_quote(self.setting, text)


def hidden_spans(root: Node, catalogue: Setting, outer: tuple[str, ...]) -> frozenset[Span]:
    """Return the spans of the scalars that may not be quoted, because one of their uses hides them.

    An alias or a merge gives one node to several places, and a report can quote it at any of them.
    In the sections of others the names of the keys tell what is secret.

    Args:
        root: The root node of a text.
        catalogue: All settings.
        outer: The keys around the section of this library.

    """
    hidden: set[Span] = set()
    seen: set[tuple[int, _Place]] = set()
    stack = [(root, _Place(None, outer))]
    while stack:
        node, place = stack.pop()
        if (id(node), place) in seen:
            continue
        seen.add((id(node), place))
        if len(seen) > MOST_USES:
            return _all_spans(root)
        if not isinstance(node, ScalarNode):
            stack += _parts(node, place, catalogue)
        elif not place.may_quote(node.value):
            hidden.add(_span(node))
    return frozenset(hidden)


def _parts(node: Node, place: _Place, catalogue: Setting) -> Iterator[tuple[Node, _Place]]:
    """Yield what is in a mapping or a list, with the place of each part."""
    if isinstance(node, SequenceNode):
        yield from ((item, place.item()) for item in node.value)
        return
    for key, value in node.value:
        if not isinstance(key, ScalarNode):
            yield key, _Place(None, () if place.outer == () else None)
            yield value, place.below("?", catalogue)
        elif key.value != "<<":
            yield value, place.below(key.value, catalogue)
        else:
            merged = value.value if isinstance(value, SequenceNode) else [value]
            yield from ((each, place) for each in merged)


def _all_spans(root: Node) -> frozenset[Span]:
    """Return the spans of all scalars that are values."""
    found: set[Span] = set()
    seen: set[int] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, ScalarNode):
            found.add(_span(node))
        elif id(node) not in seen:
            seen.add(id(node))
            pairs = isinstance(node, MappingNode)
            stack += [value for _, value in node.value] if pairs else node.value
    return frozenset(found)


def _span(node: Node) -> Span:
    return node.start_mark.index, node.end_mark.index
