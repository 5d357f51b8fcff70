"""Every record of ours is safe, and says what it said."""

from __future__ import annotations

import ast
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyfly_messaging
from pyfly_messaging.logs import get_logger

from .samples import CONTROL, HOSTILE, NASTY, Mute

PACKAGE = Path(pyfly_messaging.__file__).parent


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    """What a handler of the standard library writes of the logger `pyfly_messaging.some`."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)


logger = get_logger("pyfly_messaging.some")


def test_ordinary_record_keeps_its_parts(caplog: pytest.LogCaptureFixture) -> None:
    """Template and arguments stay: tools group records by them."""
    logger.warning("topic %s: %d in %.3g s", "orders", 3, 0.5)
    (record,) = caplog.records
    assert (record.msg, record.args) == ("topic %s: %d in %.3g s", ("orders", 3, 0.5))


def test_arguments_are_escaped(output: io.StringIO) -> None:
    """An argument, however it is formatted, and the message itself stay on one line."""
    logger.warning("%s %r %s", NASTY, NASTY, NASTY.encode(errors="replace"))
    logger.warning(NASTY)
    first, second, end = output.getvalue().split("\n")
    assert not CONTROL.search(first + second)
    assert second.startswith("\\x1b[31mred\\x1b[0m\\nERROR forged\\r")
    assert end == ""


@pytest.mark.parametrize("value", ["x" * 10**7, b"x" * 10**7, ValueError("x" * 10**7)])
def test_long_arguments_are_cut(value: object, output: io.StringIO) -> None:
    """What one argument says is bounded, and what comes after it is still there."""
    logger.warning("got %s, and %d more", value, 7)
    assert len(output.getvalue()) < 2_000
    assert output.getvalue().endswith(", and 7 more\n")


def test_many_arguments_are_cut(output: io.StringIO) -> None:
    """The whole message is bounded, too."""
    logger.warning("%s" * 100, *["x" * 900] * 100)
    assert len(output.getvalue()) < 2_100


@pytest.mark.parametrize("kind", HOSTILE)
def test_any_exception_can_be_an_argument(kind: str, output: io.StringIO) -> None:
    """An exception whose text cannot be had is logged nevertheless."""
    logger.warning("%s failed: %s", "it", HOSTILE[kind])
    assert output.getvalue().startswith("it failed: ")


def test_arguments_that_cannot_be_formatted(output: io.StringIO) -> None:
    """An object whose `repr` raises costs its values, and not the line."""
    logger.warning("got %r", [Mute(SystemExit())])
    logger.warning("too few: %s %s", "one")  # noqa: PLE1206 - that is what is tried here
    assert output.getvalue() == (
        "got %r (no arguments: SystemExit)\ntoo few: %s %s (no arguments: TypeError)\n"
    )


def test_traceback_is_safe_and_the_exception_stays(
    output: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    """Formatters print our traceback; who wants the exception itself finds it."""
    error = ValueError("line\nERROR forged")
    try:
        raise error
    except ValueError:
        logger.exception("failed")
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    text = output.getvalue()
    assert text.startswith("failed\nTraceback (most recent call last):\n  File ")
    assert text.endswith("ValueError: line\n    ERROR forged\n")


def test_traceback_of_a_text_that_is_not_printable(output: io.StringIO) -> None:
    """A text that could steer a terminal is escaped in the traceback."""
    try:
        raise ValueError(NASTY)
    except ValueError:
        logger.exception("failed")
    assert not CONTROL.search(output.getvalue().replace("\n", ""))


def test_no_exception_is_none(output: io.StringIO) -> None:
    """`exc_info=True` outside of any handling prints what it always did."""
    logger.error("failed", exc_info=True)
    assert output.getvalue() == "failed\nNoneType: None\n"


def test_nothing_is_done_for_what_is_not_logged() -> None:
    """A record below the level costs nothing."""

    class Counting(Exception):
        asked = 0

        def __str__(self) -> str:
            Counting.asked += 1
            return ""

    logger.debug("failed: %s", Counting())
    assert Counting.asked == 0


def test_every_module_gets_its_logger_here() -> None:
    """Outside of `logs` no module makes a logger of ours by itself."""
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "logs":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("getLogger"):
                assert not node.args or "pyfly" not in ast.unparse(node.args[0]), path
