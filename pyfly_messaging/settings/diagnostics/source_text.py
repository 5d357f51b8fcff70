"""The text of a file that is quoted in a report: only what is known to be harmless is shown."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice, takewhile
from typing import Any

from pyfly_messaging.settings.diagnostics.diagnostic import ExcerptLine
from pyfly_messaging.settings.diagnostics.origins import Origin
from pyfly_messaging.settings.text.secrets import (
    MASK,
    holds_secret,
    looks_secret,
    secret_at,
    secret_part,
)

_LINE_END = re.compile(r"\r\n|\r|\n")
_STRUCTURE = frozenset(" \t:,-?[]{}'\"|>")
_WORD = re.compile(r"""["']?([A-Za-z0-9_-]+)""")
_KEY = re.compile(r"""(?<![A-Za-z0-9_.-])([A-Za-z0-9_.-]++)["']?[ \t]*+[:=]([ \t]|$)?""")
_ANCHOR = re.compile(r"(?<![^\s\[{,:])&[^\s,\[\]{}]")
_WIDTH = 110


class SourceText:
    """A text with the positions of its characters and the spans that may be quoted.

    Once it is parsed (`root` is set) everything is masked but structure and the spans that were
    given to `show`; what was given to `hide` is masked all the same. Before, for text that is no
    YAML, only lines that begin with a known harmless key are quoted.

    Attributes:
        name: The file as it was named.
        text: Its content.
        root: The root node, once it is parsed.
        known: The names of all settings, as they are written in YAML.
        secret_keys: Those of them whose values are secret.

    """

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.root: Any = None
        self.known: frozenset[str] = frozenset()
        self.secret_keys: frozenset[str] = frozenset()
        self._starts = [0, *(end.end() for end in _LINE_END.finditer(text))]
        self._spans: list[tuple[int, int]] | None = None
        self._hidden: frozenset[tuple[int, int]] = frozenset()
        self._shown: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def position(self, index: int) -> tuple[int, int]:
        """Return line and column of a character, both from 1."""
        line = bisect_right(self._starts, index)
        return line, index - self._starts[line - 1] + 1

    def index(self, line: int, column: int) -> int:
        """Return the index of a line and column, both from 1."""
        return self._starts[min(line, len(self._starts)) - 1] + column - 1

    def line(self, number: int) -> str:
        """Return a line without its end."""
        start = self._starts[number - 1]
        end = self._starts[number] if number < len(self._starts) else len(self.text)
        return self.text[start:end].rstrip("\r\n")

    def origin(self, start: int, end: int) -> Origin:
        """Return the origin of a span; one that ends after a line break ends before it instead."""
        end = max(start, min(end, len(self.text)))
        while end > start + 1 and self.text[end - 1] in "\n\r \t":
            end -= 1
        line, column = self.position(start)
        end_line, end_column = self.position(end)
        return Origin("file", self.name, "", line, column, end_line, end_column)

    def forget_marks(self) -> None:
        """Forget what `hide` and `show` were told, before the text is bound to other settings."""
        self._hidden = frozenset()
        self._shown.clear()

    def hide(self, spans: Iterable[tuple[int, int]]) -> None:
        """Forbid the spans of nodes to be quoted, whatever else is said about them."""
        self._hidden = self._hidden.union(spans)

    def hides(self, start: int, end: int) -> bool:
        """Tell whether the span of a node was given to `hide`."""
        return (start, end) in self._hidden

    def show(self, start: int, end: int) -> None:
        """Allow the span of a node to be quoted, unless it is a secret by its form."""
        if not holds_secret(self.text[start:end]):
            self._shown[start, end] = [(start, end)]

    def show_until(self, span: tuple[int, int], end: int) -> None:
        """Allow the first part of the span of a node to be quoted."""
        self._shown[span] = [(span[0], end)]

    def show_value(self, start: int, end: int) -> None:
        """Allow the span of a value to be quoted, but not the password of a URL in it."""
        if holds_secret(self.text[start:end]):
            return
        first, last = secret_part(self.text[start:end])
        self._shown[start, end] = [(start, start + first), (start + last, end)]

    def excerpt(self, origin: Origin, label: str = "", *, primary: bool = True) -> ExcerptLine:
        """Return the first line of an origin as it may be shown, with the marked part."""
        end_column = origin.end_column if origin.end_line == origin.line else 0
        text = self.line(origin.line)
        begin = min(origin.column - 1, len(text))
        stop = max(begin, min(end_column - 1, len(text)) if end_column else len(text.rstrip()))
        # The window around the mark, and more than enough on both sides of it.
        window = max(0, begin - 10 * _WIDTH), min(len(text), stop + 10 * _WIDTH)
        pieces = list(self._pieces(origin.line, text, window))
        shown, at, to = _marked(pieces, begin, stop)
        return _line(
            shown,
            at,
            to,
            ExcerptLine(
                number=origin.line, text="", start=0, width=1, label=label, primary=primary
            ),
        )

    def _pieces(
        self, number: int, text: str, window: tuple[int, int]
    ) -> Iterator[tuple[int, int, str]]:
        """Yield (start, end, what to show) for the parts of a line, once parsed in a window."""
        if self.root is None:
            yield from self._unparsed(text)
            return
        offset = self._starts[number - 1]
        done, last = window
        for start, end in self._scalars(offset + done, offset + last):
            inside = max(start - offset, done), min(end - offset, last)
            if inside[0] < done:
                continue
            yield from _structure(text, done, inside[0])
            yield from self._scalar((start, end), offset, text, inside)
            done = inside[1]
        yield from _structure(text, done, last)

    def _scalars(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the spans of the scalars that touch a range, in order."""
        if self._spans is None:
            self._spans = _scalar_spans(self.root)
        first = max(0, bisect_right(self._spans, (start, start)) - 1)
        touching = takewhile(lambda span: span[0] < end, islice(self._spans, first, None))
        return [span for span in touching if span[1] > start]

    def _scalar(
        self, span: tuple[int, int], offset: int, text: str, inside: tuple[int, int]
    ) -> Iterator[tuple[int, int, str]]:
        done = inside[0]
        for start, end in () if span in self._hidden else self._shown.get(span, ()):
            first, last = max(start - offset, done), min(end - offset, inside[1])
            if first >= last:
                continue
            if first > done:
                yield done, first, MASK
            yield first, last, text[first:last]
            done = last
        if done < inside[1]:
            yield done, inside[1], MASK

    def _unparsed(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Quote a line of broken YAML as far as known harmless keys reach."""
        indent = len(text) - len(text.lstrip(" \t\u00a0-"))
        yield 0, indent, text[:indent]
        rest = text[indent:]
        if rest.startswith("#") or not rest:
            return
        first = _WORD.match(rest)
        if first is None or not self._harmless(first[1]):
            bare = not rest.strip(" \t[]{},:-'\"")
            key = 0
            if first is not None and first[1] in self.known:
                key = len(rest) - len(rest[first.end() :].lstrip(" \t:\"'"))
            yield indent, indent + key, rest[:key]
            yield indent + key, len(text), rest[key:] if bare else MASK
            return
        end = len(rest)
        for match in _KEY.finditer(rest):
            if looks_secret(match[1]) or (match[2] and not self._harmless(match[1])):
                end = match.start()
                break
        if (secret := secret_at(rest)) >= 0:
            end = min(end, secret)
        if anchor := _ANCHOR.search(rest, 0, end):
            # An alias may use it where it is secret.
            end = anchor.start()
        if (comment := rest.find(" #", 0, end)) >= 0:
            end = comment
        yield from _without_user_info(rest[:end], indent)
        if end < len(rest) and comment < 0:
            yield indent + end, len(text), MASK

    def _harmless(self, key: str) -> bool:
        name = key.replace("_", "-").lower()
        return name in self.known and name not in self.secret_keys and not looks_secret(name)


def _without_user_info(text: str, offset: int) -> Iterator[tuple[int, int, str]]:
    """Yield text; of each run with an ``@`` in it only what follows the ``@``."""
    done = 0
    for run in re.finditer(r"[^\s\"',\[\]{}]+", text):
        at = run[0].rfind("@") + run.start()
        if at <= run.start():
            continue
        yield offset + done, offset + run.start(), text[done : run.start()]
        yield offset + run.start(), offset + at, MASK
        done = at
    yield offset + done, offset + len(text), text[done:]


def _structure(text: str, start: int, end: int) -> Iterator[tuple[int, int, str]]:
    """Yield what lies between values: punctuation as it is, no comments, the rest masked."""
    position = start
    while position < end:
        if text[position] == "#" and (position == 0 or text[position - 1] in " \t"):
            return
        run = position
        kept = text[run] in _STRUCTURE
        while position < end and (text[position] in _STRUCTURE) == kept:
            position += 1
        yield run, position, text[run:position] if kept else MASK


def _scalar_spans(root: Any) -> list[tuple[int, int]]:
    """Return the spans of all scalar nodes, in order; none of them overlap."""
    found: set[tuple[int, int]] = set()
    seen: set[int] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node.value, list):
            for child in node.value:
                stack.extend(child if isinstance(child, tuple) else (child,))
        elif node.start_mark.index < node.end_mark.index:
            found.add((node.start_mark.index, node.end_mark.index))
    return sorted(found)


def _marked(pieces: list[tuple[int, int, str]], begin: int, stop: int) -> tuple[str, int, int]:
    """Put the pieces together; return what is shown and where the marked part is in it."""
    shown, at, to = "", None, None
    for start, end, text in pieces:
        verbatim = len(text) == end - start and text != MASK
        if at is None and start <= begin < end:
            at = len(shown) + (begin - start if verbatim else 0)
        if to is None and start < stop <= end:
            to = len(shown) + (stop - start if verbatim else len(text))
        shown += text
    at = len(shown) if at is None else at
    return shown.rstrip(), at, max(at, len(shown) if to is None else to)


def _line(shown: str, at: int, to: int, line: ExcerptLine) -> ExcerptLine:
    """Return the line with its text, cut to a window around the mark, measured in cells."""
    left = max(0, at - _WIDTH // 2) if len(shown) > _WIDTH else 0
    view = shown[left : left + _WIDTH]
    cells = [_cell(char) for char in view]
    at, to = min(at - left, len(view)), min(to - left, len(view))
    return replace(
        line,
        text="".join(text for text, _ in cells),
        start=sum(width for _, width in cells[:at]),
        width=max(1, sum(width for _, width in cells[at:to])),
    )


def _cell(char: str) -> tuple[str, int]:
    """Return how a character is shown in a terminal, and how many cells it takes."""
    if char == "\t":
        return "    ", 4
    if char.isascii() and char.isprintable():
        return char, 1
    if not char.isprintable():
        return (" ", 1) if char == "\u00a0" else ("\N{REPLACEMENT CHARACTER}", 1)
    import unicodedata

    if unicodedata.combining(char):
        return char, 0
    return char, 2 if unicodedata.east_asian_width(char) in {"W", "F"} else 1
