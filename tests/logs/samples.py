"""Exceptions that do their worst when they are looked at."""

from __future__ import annotations

import re
from typing import Any, NoReturn

# What no line of a log and no header may have.
CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)

NASTY = "\x1b[31mred\x1b[0m\nERROR forged\r\x00\x7f\x9b\u2028\u2029\u202e\u2066\ud800"


class Mute(Exception):
    """Raises an exception of choice when its text is asked for."""

    def __init__(self, refusal: BaseException) -> None:
        super().__init__()
        self.refusal = refusal

    def __str__(self) -> str:
        raise self.refusal

    __repr__ = __str__


class Endless(Exception):
    """Never comes to the end of its text."""

    def __str__(self) -> str:
        return str(self)


class NoText(Exception):
    """Has a text that is no text."""

    def __str__(self) -> str:
        return 7  # type: ignore[return-value]  # noqa: PLE0307 - that is what is tried here


class Trap(str):
    """A text that does not want to be handled."""

    __slots__ = ()

    def _refuse(self, *_: Any) -> NoReturn:
        raise SystemExit("trapped")

    __getitem__ = __len__ = __format__ = __str__ = encode = _refuse  # type: ignore[assignment]


class Trapped(Exception):
    """Has a text of its own class."""

    def __str__(self) -> str:
        return Trap("a trap")


class Masked(Exception):
    """Says that it is of another class, and that only by raising."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise SystemExit("masked")

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit("not to be looked at")


class _Meta(type):
    def __getattribute__(cls, name: str) -> Any:
        if name in ("__module__", "__qualname__", "__name__"):
            raise SystemExit("no name")
        return super().__getattribute__(name)


class Nameless(Exception, metaclass=_Meta):
    """Of a class that does not tell its name."""


# By name, because pytest looks at what tests are parametrized with.
HOSTILE: dict[str, BaseException] = {
    "exits": Mute(SystemExit(1)),
    "interrupts": Mute(KeyboardInterrupt()),
    "fails": Mute(RuntimeError()),
    "raises itself": Mute(ValueError()),
    "recursion": Endless(),
    "no text": NoText(),
    "text of its own class": Trapped(),
    "attributes that exit": Masked("masked"),
    "class that exits": Nameless("nameless"),
    "name of lines": type("evil\n\x1b[2Jname", (Exception,), {"__module__": 7})("odd"),
}
