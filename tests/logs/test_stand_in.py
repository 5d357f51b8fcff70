"""The exception of a record does no harm to a formatter that makes its own text of it."""

from __future__ import annotations

import io
import json
import logging
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pyfly_messaging.logs import get_logger
from pyfly_messaging.logs.stand_in import stand_in_for
from pyfly_messaging.logs.trace import trace_of

from .samples import HOSTILE, NASTY


class _Json(logging.Formatter):
    """Makes its own text of the exception, as formatters that write JSON do."""

    def format(self, record: logging.LogRecord) -> str:
        assert record.exc_info
        cls, error, _ = record.exc_info
        assert cls is not None
        return json.dumps(
            {
                "error": str(error),
                "kind": f"{cls.__module__}:{cls.__qualname__}",
                "repr": repr(error),
                "trace": self.formatException(record.exc_info),
            }
        )


logger = get_logger("pyfly_messaging.some")


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    """What a JSON handler writes of the logger `pyfly_messaging.some`."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Json())
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)


def raised(error: BaseException) -> BaseException:
    """Return an exception with a traceback."""
    try:
        raise error
    except BaseException as caught:
        return caught


def written(error: BaseException, output: io.StringIO) -> dict[str, str]:
    """Log an exception; return what is written."""
    logger.error("failed", exc_info=(type(error), error, None))
    fields: dict[str, str] = json.loads(output.getvalue())
    return fields


def exits(*_: Any) -> Any:
    """End the process."""
    raise SystemExit("ended by an exception that was looked at")


def late(result: Any) -> Callable[..., Any]:
    """Answer once, and end the process from then on."""
    answers = [result]
    return lambda *_: answers.pop() if answers else exits()


def of_class(name: str, attribute: object) -> Exception:
    """Return an exception whose class has this attribute."""
    cls: type[Exception] = type("Odd", (Exception,), {name: attribute})
    return cls("text")


_PROPERTIES = (
    *("__notes__", "__cause__", "__context__", "__suppress_context__", "__traceback__"),
    "__class__",
)


@pytest.mark.parametrize("place", ["itself", "cause", "context", "member"])
@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        *((name, property(exits)) for name in _PROPERTIES),
        *((name, property(late(None))) for name in _PROPERTIES),
        *((name, exits) for name in ("__getattribute__", "__getattr__", "__bool__", "__len__")),
        *((name, exits) for name in ("__str__", "__repr__")),
        ("__bool__", late(True)),
    ],
)
def test_attributes_that_are_code(
    place: str, name: str, attribute: object, output: io.StringIO
) -> None:
    """No attribute of an exception, or of what belongs to it, ends the process."""
    odd = of_class(name, attribute)
    error: Exception = ValueError("outer")
    if place == "itself":
        error = odd
    elif place == "member":
        error = ExceptionGroup("outer", [odd])
    else:
        setattr(error, f"__{place}__", odd)
    assert written(error, output)["kind"].endswith(
        {"itself": ":Odd", "member": ":ExceptionGroup"}.get(place, "builtins:ValueError")
    )


def test_members_that_are_code(output: io.StringIO) -> None:
    """A group that does not show its members ends nothing."""
    cls: type[ExceptionGroup[Exception]] = type(
        "Odd", (ExceptionGroup,), {"exceptions": property(exits)}
    )
    assert written(cls("group", [ValueError()]), output)["error"].startswith("group")


def test_names_that_are_looked_for(output: io.StringIO) -> None:
    """An object that ends the process when its names are looked for is not asked again."""
    missing = AttributeError("missing", name="colour", obj=of_class("__dir__", exits))
    assert written(missing, output)["error"] == "missing"


@pytest.mark.parametrize("kind", HOSTILE)
def test_any_exception_is_written(kind: str, output: io.StringIO) -> None:
    """Whatever an exception does when it is looked at, its line is written."""
    assert written(HOSTILE[kind], output)["trace"]


def _notes(*notes: object) -> Exception:
    error = ValueError("noted")
    error.__notes__ = list(notes)  # type: ignore[arg-type]
    return error


def _caused(length: int) -> Exception:
    error = ValueError("first")
    for _ in range(length):
        later = ValueError("link")
        later.__cause__ = error
        error = later
    return error


@pytest.mark.parametrize(
    "error",
    [
        ValueError("y" * 30_000_000),
        ValueError("short", "y" * 30_000_000),
        SyntaxError("odd", ("file", 1, 1, "y" * 3_000_000)),
        _notes("n" * 3_000_000),
        _notes(*["note"] * 100_000),
        _notes(of_class("__str__", exits)),
        _caused(100_000),
        ExceptionGroup("many", [ValueError(str(number)) for number in range(100_000)]),
        type("X" * 3_000_000, (Exception,), {})("long name"),
    ],
    ids=lambda error: type(error).__name__[:20],
)
def test_large_exceptions_are_cut(error: Exception, output: io.StringIO) -> None:
    """What a formatter makes of a large exception is bounded."""
    logger.error("failed", exc_info=(type(error), error, None))
    assert 0 < len(output.getvalue()) < 60_000


def test_deep_recursion_is_cut() -> None:
    """Of many frames the innermost stay in the stand-in."""

    def one(depth: int) -> None:
        other(depth - 1)

    def other(depth: int) -> None:
        if depth <= 0:
            raise ValueError("bottom")
        one(depth)

    with pytest.raises(ValueError, match="bottom") as deep:
        one(400)
    shown = stand_in_for(deep.value, trace_of(deep.value))
    text = logging.Formatter().formatException((type(shown), shown, shown.__traceback__))
    assert len(text) < 5_000
    assert text.endswith("ValueError: bottom")


def test_control_characters_are_escaped() -> None:
    """A text that could steer a terminal is escaped in the stand-in."""
    shown = stand_in_for(ValueError(NASTY), "")
    assert str(shown).startswith("\\x1b[31mred\\x1b[0m\n    ERROR forged\\r")


def test_a_stand_in_says_what_it_stands_for() -> None:
    """Tools that group exceptions find class, module, text and frames; the rest is a note."""
    error = raised(ValueError("y" * 3_000))
    error.__cause__ = KeyError("root")
    shown = stand_in_for(error, trace_of(error))
    assert (type(shown).__name__, type(shown).__module__) == ("ValueError", "builtins")
    assert shown.__traceback__ is error.__traceback__
    assert str(shown).endswith("1,000 more characters)")
    assert shown.__notes__ == [trace_of(error)]


class Coded(Exception):
    """Has attributes and a text of its own, as those of many clients."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        return f"code {self.code}\nsecond line"


def _ordinary() -> Iterator[BaseException]:
    yield Coded(7)
    yield KeyError("key")
    yield OSError(2, "No such file", "name")
    yield UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid")
    yield AttributeError("'NoneType' object has no attribute 'x'", name="x", obj=None)
    yield sqlite3.OperationalError("no such table")
    yield ExceptionGroup("group", [ValueError("member"), TimeoutError()])
    yield GeneratorExit()
    yield _notes("a note")
    yield _caused(5)


@pytest.mark.parametrize("error", list(_ordinary()), ids=lambda error: type(error).__name__)
def test_ordinary_exceptions_are_kept(error: BaseException) -> None:
    """An exception that does no harm is the one that tools find in the record."""
    error = raised(error)
    assert stand_in_for(error, trace_of(error)) is error


def test_an_interrupt_of_the_user_is_not_swallowed() -> None:
    """What a log handler raises itself, as Ctrl-C would, is not taken for the exception's."""

    class Interrupted(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise KeyboardInterrupt

    handler = Interrupted()
    logger.addHandler(handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            logger.error("failed", exc_info=(ValueError, ValueError("text"), None))
    finally:
        logger.removeHandler(handler)
