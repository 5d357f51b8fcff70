"""Tracebacks for a log: like Python's, and within limits."""

from __future__ import annotations

import tracemalloc

import pytest

from pyfly_messaging.logs.trace import TRACE_LIMIT, trace_of

from .samples import CONTROL, HOSTILE, NASTY

# The last exception that is begun may go beyond the limit.
_LIMIT = 2 * TRACE_LIMIT


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """Return an exception with a traceback."""
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def test_it_looks_like_pythons() -> None:
    """Frames, class, text and cause are told as Python tells them."""
    text = trace_of(raised(KeyError("inner"), raised(ValueError("root"))))
    lines = text.split("\n")
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].startswith(f'  File "{__file__}", line ')
    assert lines[2] == "    raise error from cause"
    assert lines[-1] == "KeyError: 'inner'"
    assert text.index("ValueError: root") < text.index("was the direct cause of") < len(text)


def test_context_is_told_unless_suppressed() -> None:
    """What was handled when an exception was raised is told, unless `from None` says no."""
    error = ValueError("later")
    error.__context__ = KeyError("earlier")
    assert "KeyError: 'earlier'\n\nDuring handling of the above exception" in trace_of(error)
    error.__suppress_context__ = True
    assert trace_of(error) == "ValueError: later"


def test_text_cannot_forge_a_line() -> None:
    """Lines of a text, a note and a member are indented, and the rest of them is escaped."""
    error = ExceptionGroup(NASTY, [ValueError(NASTY)])
    error.add_note(NASTY)
    text = trace_of(raised(error))
    assert not CONTROL.search(text.replace("\n", ""))
    assert not [line for line in text.split("\n") if line.startswith("ERROR forged")]
    assert "\n    ERROR forged" in text


@pytest.mark.parametrize("kind", HOSTILE)
def test_any_exception_has_one(kind: str) -> None:
    """Nothing that an exception does when it is looked at gets out."""
    assert not CONTROL.search(trace_of(HOSTILE[kind]).replace("\n", ""))


def test_long_chain_is_cut() -> None:
    """Of 3,000 causes the last ones are told."""
    error = ValueError("0")
    for number in range(1, 3_000):
        error = raised(ValueError(str(number)), error)  # type: ignore[assignment]
    text = trace_of(error)
    assert text.startswith("(what came before is left out)")
    assert text.endswith("ValueError: 2999")
    assert text.count("Traceback") == 10


def test_chain_that_bites_its_tail() -> None:
    """A cause that is its own cause is told once."""
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert trace_of(one).count("ValueError: one") == 1


def test_deep_recursion_is_cut() -> None:
    """Of a thousand frames the innermost are told."""

    def dive(depth: int) -> None:
        if depth:
            dive(depth - 1)
        else:
            raise ValueError("bottom")

    try:
        dive(500)
    except ValueError as error:
        text = trace_of(error)
    assert "frames are left out)" in text
    assert text.count("\n") < 100
    assert text.endswith("ValueError: bottom")


def test_large_group_is_cut() -> None:
    """Of 100,000 members ten are told, and the others counted."""
    members = [ValueError(str(number)) for number in range(100_000)]
    text = trace_of(ExceptionGroup("many", members))
    assert "  +- 10 of 100000\n  | ValueError: 9\n  +- 99,990 more exceptions" in text
    assert len(text) < 1_000


def test_groups_within_groups_are_cut() -> None:
    """A tree of groups is told within the limit, however deep and wide."""
    error: Exception = ValueError("leaf " * 1_000)
    for _ in range(500):
        error = ExceptionGroup("level", [error] * 12)
    assert len(trace_of(error)) < _LIMIT


def test_huge_text_and_notes_are_cut() -> None:
    """Nothing is built of a text beyond the limit."""
    error = ValueError("\x1b" * 10_000_000)
    note = "n\n" * 5_000_000
    error.__notes__ = [note] * 10_000
    tracemalloc.start()
    try:
        text = trace_of(error)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "(9,990 more notes)" in text
    assert len(text) < 10 * _LIMIT
    assert peak < 5_000_000


def test_strange_notes_are_left_out() -> None:
    """Notes that are no list are none."""
    error = ValueError("text")
    error.__notes__ = 7  # type: ignore[assignment]
    assert trace_of(error) == "ValueError: text"
