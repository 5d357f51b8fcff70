"""The traceback of an exception for a log: bounded, and made of lines that cannot be forged."""

from __future__ import annotations

import traceback

from pyfly_messaging.logs.text import describe, one_line, qualified_name, raw_text_of

FRAMES_LIMIT = 20
"""Frames of one exception; the innermost are kept."""

CHAIN_LIMIT = 10
"""Exceptions in one chain of causes and contexts, beginning with the last that was raised."""

GROUP_LIMIT = 10
"""Members shown of one exception group."""

DEPTH_LIMIT = 3
"""Exception groups within each other."""

NOTES_LIMIT = 10
"""Notes of one exception."""

TEXT_LIMIT = 2_000
"""Characters of one exception's text, and of one note."""

FRAME_LINE_LIMIT = 300
"""Characters of one line about a frame."""

TRACE_LIMIT = 20_000
"""Characters of the whole, after which no other exception is begun."""

_CAUSE = "The above exception was the direct cause of the following exception:"
_CONTEXT = "During handling of the above exception, another exception occurred:"
_LEFT_OUT = "(what came before is left out)"


def trace_of(error: BaseException) -> str:
    """Return an exception much as Python prints it, within the limits above.

    Lines within an exception's text are indented, so none of them can pass for a line of the log.
    """
    try:
        return "\n".join(_Trace().chain(error, 0))
    except BaseException as broken:  # noqa: BLE001 - attributes of an exception can be code, too
        return f"{describe(error)}\n(no traceback: {qualified_name(type(broken))})"


class _Trace:
    """One traceback: what may still be written of it."""

    def __init__(self) -> None:
        self._left = TRACE_LIMIT

    def chain(self, error: BaseException, depth: int) -> list[str]:
        """Return an exception after its causes."""
        blocks: list[list[str]] = []
        seen: set[int] = set()
        link: BaseException | None = error
        while link is not None:
            if len(seen) == CHAIN_LIMIT or id(link) in seen or (seen and self._left <= 0):
                blocks.append([_LEFT_OUT])
                break
            seen.add(id(link))
            blocks.append(self._block(link, depth))
            if link.__cause__ is not None:
                how, link = _CAUSE, link.__cause__
            else:
                how, link = _CONTEXT, None if link.__suppress_context__ else link.__context__
            if link is not None:
                blocks.append(["", how, ""])
        return [line for block in reversed(blocks) for line in block]

    def _block(self, error: BaseException, depth: int) -> list[str]:
        """Return one exception without its causes."""
        lines = [*_frames(error), *_headline(error), *_notes(error)]
        self._left -= sum(map(len, lines))
        if issubclass(type(error), BaseExceptionGroup):
            lines += self._members(error.exceptions, depth)  # type: ignore[attr-defined]
        return lines

    def _members(self, members: tuple[BaseException, ...], depth: int) -> list[str]:
        lines: list[str] = []
        shown = 0
        for member in members[: GROUP_LIMIT if depth < DEPTH_LIMIT else 0]:
            if self._left <= 0:
                break
            shown += 1
            lines.append(f"  +- {shown} of {len(members)}")
            self._left -= len(lines[-1]) + 8 * depth
            lines += [f"  | {line}" for line in self.chain(member, depth + 1)]
        if shown < len(members):
            lines.append(f"  +- {len(members) - shown:,} more exceptions")
        return lines


def _frames(error: BaseException) -> list[str]:
    if error.__traceback__ is None:
        return []
    lines = ["Traceback (most recent call last):"]
    count = sum(1 for _ in traceback.walk_tb(error.__traceback__))
    if count > FRAMES_LIMIT:
        lines.append(f"  ({count - FRAMES_LIMIT:,} frames are left out)")
    frames = traceback.walk_tb(error.__traceback__)
    for frame in traceback.StackSummary.extract(frames, limit=-FRAMES_LIMIT).format():
        lines += [one_line(line, FRAME_LINE_LIMIT) for line in frame.rstrip("\n").split("\n")]
    return lines


def _headline(error: BaseException) -> list[str]:
    name, (first, *rest) = qualified_name(type(error)), text_lines(raw_text_of(error))
    return [f"{name}: {first}" if first or rest else name, *rest]


def _notes(error: BaseException) -> list[str]:
    notes = getattr(error, "__notes__", ())
    if type(notes) is not list:
        return []
    lines = [line for note in notes[:NOTES_LIMIT] for line in ("", *text_lines(raw_text_of(note)))]
    if len(notes) > NOTES_LIMIT:
        lines.append(f"({len(notes) - NOTES_LIMIT:,} more notes)")
    return lines


def text_lines(text: str) -> list[str]:
    """Return the beginning of a text in escaped lines, all but the first indented."""
    length, head = str.__len__(text), str.__getitem__(text, slice(TEXT_LIMIT))
    first, *rest = (one_line(line, TEXT_LIMIT) for line in head.replace("\r\n", "\n").split("\n"))
    if length > TEXT_LIMIT:
        rest.append(f"… ({length - TEXT_LIMIT:,} more characters)")
    return [first, *(f"    {line}" for line in rest)]
