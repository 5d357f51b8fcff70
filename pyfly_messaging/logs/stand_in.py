"""The exception that a log record carries: the original, or a stand-in that does no harm.

Formatters make their own text of an exception: those that write JSON call ``formatException``, and
others look at its attributes. An exception whose attributes are code of others would run it there,
and one with 30 MB of text would write them.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from pyfly_messaging.logs.text import class_name, module_name, one_line, raw_text_of
from pyfly_messaging.logs.trace import (
    FRAMES_LIMIT,
    NOTES_LIMIT,
    TEXT_LIMIT,
    TRACE_LIMIT,
    text_lines,
)

EXCEPTIONS_LIMIT = 30
"""Causes, contexts and members of groups, all together, of an exception that is kept."""

# Who looks at an exception calls these without asking for them.
_HOOKS = frozenset(
    {
        *("__getattribute__", "__getattr__", "__class__", "__bool__", "__len__"),
        *("__cause__", "__context__", "__suppress_context__", "__traceback__", "__notes__"),
        *("args", "exceptions"),
    }
)
_HEAP_TYPE = 1 << 9  # of `__flags__`: a class that is no static one of the interpreter

# Those of the interpreter, whatever a class puts in their place.
_slot = {
    name: BaseException.__dict__[name].__get__
    for name in ("__cause__", "__context__", "__traceback__", "__dict__")
}
_members_of = BaseExceptionGroup.__dict__["exceptions"].__get__


def stand_in_for(error: BaseException, trace: str) -> BaseException:
    """Return the exception itself if it is harmless, otherwise a stand-in.

    It is harmless when it is of ordinary classes, bounded and printable, with all causes, contexts
    and members. A ``__str__`` or ``__repr__`` is code of others, too: it is tried once. The
    stand-in has the name and the module of the class, the cut text and the innermost frames, so
    that tools group it as they would the original, and ``trace`` as a note if there is more to say.
    """
    try:
        if _is_harmless(error):
            return error
    except BaseException:  # noqa: BLE001, S110 - what the exception does when it is looked at
        pass
    cls = type(error)
    name = class_name(cls)
    names = {"__module__": module_name(cls), "__qualname__": name}
    stand_in: BaseException = type(name.rpartition(".")[2], (Exception,), names)(
        "\n".join(text_lines(raw_text_of(error)))
    )
    if _notes_of(error) or any(True for _ in _related(error)):
        stand_in.add_note(trace)
    return stand_in.with_traceback(_innermost(_slot["__traceback__"](error)))


def _is_harmless(error: BaseException) -> bool:
    seen: set[int] = set()
    pending = [error]
    while pending:
        one = pending.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if len(seen) > EXCEPTIONS_LIMIT or not _is_plain(one):
            return False
        pending += _related(one)
    # What else formatters look at: the fields of syntax errors, names like a missing one.
    whole = traceback.TracebackException(type(error), error, _slot["__traceback__"](error))
    return sum(map(len, whole.format())) <= TRACE_LIMIT


def _is_plain(error: BaseException) -> bool:
    cls = type(error)
    if type(cls) is not type or not _is_named_plainly(cls):
        return False
    if any(_HOOKS & vars(base).keys() for base in cls.__mro__ if base.__flags__ & _HEAP_TYPE):
        return False
    notes = _notes_of(error)
    if type(notes) is not list and notes != ():
        return False
    return len(notes) <= NOTES_LIMIT and all(map(_is_bounded, (str(error), repr(error), *notes)))


def _is_named_plainly(cls: type) -> bool:
    # A module that is no text is a surprise for formatters.
    return (cls.__module__, cls.__qualname__) == (module_name(cls), class_name(cls))


def _is_bounded(text: object) -> bool:
    if type(text) is not str or len(text) > TEXT_LIMIT:
        return False
    line = text.replace("\n", " ").replace("\t", " ")
    return one_line(line, TEXT_LIMIT) == line


def _related(error: BaseException) -> Iterator[BaseException]:
    """Yield the causes of an exception and, not more than matter, its members."""
    for name in ("__cause__", "__context__"):
        if (other := _slot[name](error)) is not None:
            yield other
    if issubclass(type(error), BaseExceptionGroup):
        yield from _members_of(error)[: EXCEPTIONS_LIMIT + 1]


def _notes_of(error: BaseException) -> Any:
    return dict.get(_slot["__dict__"](error), "__notes__", ())


def _innermost(frames: TracebackType | None) -> TracebackType | None:
    beyond = sum(1 for _ in traceback.walk_tb(frames)) - FRAMES_LIMIT
    while frames is not None and beyond > 0:
        frames, beyond = frames.tb_next, beyond - 1
    return frames
