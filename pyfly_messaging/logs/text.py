"""Text of others as one line: escaped, cut, and never the end of the program that asks for it."""

from __future__ import annotations

import re
from typing import Any

LINE_LIMIT = 2_000
"""Characters of a log line's message."""

TEXT_LIMIT = 1_000
"""Characters of an exception's text, in a log line and in the header of a dead letter. Brokers
bound the size of headers (RabbitMQ: one frame of 128 KiB for all of them)."""

NAME_LIMIT = 200
"""Characters of the module and of the name of a class."""

# Control characters (C0, DEL, C1: escape sequences begin with one), what ends a line or turns its
# direction (Unicode's line separators and bidirectional controls), and lone surrogates, which
# UTF-8 cannot encode.
_UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)

# The class's own, whatever its metaclass makes of the attributes.
_module_of = type.__dict__["__module__"].__get__
_name_of = type.__dict__["__qualname__"].__get__


def one_line(text: str, limit: int = LINE_LIMIT) -> str:
    """Return text with control characters escaped, and cut so that ``limit`` characters are left.

    What is left out is counted behind them. No more than ``limit`` characters are looked at.
    """
    # As methods of str, because a subclass may have others.
    length, head = str.__len__(text), str.__getitem__(text, slice(limit))
    safe = _UNSAFE.sub(_escape, head)
    if len(safe) > limit:
        head, safe = _fitting(head, limit)
    if len(head) < length:
        return f"{safe}… ({length - len(head):,} more characters)"
    return safe


def text_of(value: object, limit: int = TEXT_LIMIT) -> str:
    """Return what an exception says, or ``str()`` of another value, as one line."""
    return one_line(raw_text_of(value), limit)


def raw_text_of(value: object) -> str:
    """Return ``str(value)``, or why there is none.

    A ``__str__`` is code of others that is called while a message is settled. It runs outside of
    every handler, so ``SystemExit`` and ``KeyboardInterrupt`` are not the handler's wish to end.
    """
    try:
        return str(value)
    except BaseException as broken:  # noqa: BLE001 - its failure must not lose a message
        return f"(its text is not available: {qualified_name(type(broken))})"


def describe(error: BaseException, limit: int = TEXT_LIMIT) -> str:
    """Return an exception as one line: its class, and what it says."""
    name, text = qualified_name(type(error)), text_of(error, limit)
    return f"{name}: {text}" if text else name


def qualified_name(cls: type) -> str:
    """Return the name of a class as logs, headers and ``fatal_exceptions`` write it."""
    module, name = module_name(cls), class_name(cls)
    return name if module == "builtins" else f"{module}.{name}"


def module_name(cls: type) -> str:
    """Return the name of a class's module; ``builtins`` if it is no text."""
    module = _module_of(cls)
    return one_line(module, NAME_LIMIT) if _is_text(module) else "builtins"


def class_name(cls: type) -> str:
    """Return the name of a class without its module."""
    return one_line(_name_of(cls), NAME_LIMIT)


def _is_text(value: Any) -> bool:
    return issubclass(type(value), str)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _fitting(text: str, limit: int) -> tuple[str, str]:
    """Return the beginning of a text that is not too long when it is escaped, and that escaped."""
    parts: list[str] = []
    for character in text:
        part = _UNSAFE.sub(_escape, character)
        limit -= len(part)
        if limit < 0:
            break
        parts.append(part)
    return text[: len(parts)], "".join(parts)
