"""Text of others becomes one line, whatever it is."""

from __future__ import annotations

import pytest

from pyfly_messaging.logs import describe, one_line, qualified_name, text_of

from .samples import CONTROL, HOSTILE, NASTY, Endless, Mute, Nameless, NoText, Trapped


def test_ordinary_text_stays_as_it_is() -> None:
    """Letters of any script, spaces and backslashes are not touched."""
    text = "Größe 30 °C, 東京, C:\\new, 🎉 'quoted'"
    assert one_line(text) == text


@pytest.mark.parametrize("code", [*range(32), *range(127, 160), 0x61C, 0x200E, 0x200F, 0xD800])
def test_control_characters_are_escaped(code: int) -> None:
    """Control characters are written as Python writes them."""
    assert one_line(f"a{chr(code)}b") == f"a{ascii(chr(code))[1:-1]}b"


def test_escape_sequences_are_shown() -> None:
    """What would colour a terminal, turn a line or begin a new one is seen as what it is."""
    assert one_line(NASTY) == (
        "\\x1b[31mred\\x1b[0m\\nERROR forged\\r\\x00\\x7f\\x9b\\u2028\\u2029\\u202e\\u2066\\ud800"
    )


def test_escaping_twice_changes_nothing() -> None:
    """A line is its own line."""
    assert one_line(one_line(NASTY)) == one_line(NASTY)


def test_long_text_is_cut_and_counted() -> None:
    """What is left out is counted."""
    assert one_line("x" * 1_300, 100) == "x" * 100 + "… (1,200 more characters)"


def test_escapes_do_not_exceed_the_limit() -> None:
    """The limit is one of what is written, and no escape is cut in two."""
    assert one_line("\x1b" * 100, 10) == "\\x1b\\x1b… (98 more characters)"
    assert one_line("\x1b\x1b", 8) == "\\x1b\\x1b"


@pytest.mark.parametrize("kind", HOSTILE)
def test_any_exception_becomes_one_line(kind: str) -> None:
    """No exception keeps its line from being made, and none gets out while it is made."""
    error = HOSTILE[kind]
    assert not CONTROL.search(describe(error))
    assert type(text_of(error)) is str


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("one\ntwo"), "ValueError: one\\ntwo"),
        (TimeoutError(), "TimeoutError"),
        (Mute(SystemExit(3)), f"{Mute.__module__}.Mute: (its text is not available: SystemExit)"),
        (NoText(), f"{Mute.__module__}.NoText: (its text is not available: TypeError)"),
        (Endless(), f"{Mute.__module__}.Endless: (its text is not available: RecursionError)"),
        (Trapped(), f"{Mute.__module__}.Trapped: a trap"),
    ],
)
def test_an_exception_is_one_line(error: BaseException, text: str) -> None:
    """An exception is described by its name and its text, or why it has none."""
    assert describe(error) == text


def test_names_of_classes() -> None:
    """A class is written with its module, but for the built-in ones, whatever it says itself."""
    assert qualified_name(ValueError) == "ValueError"
    assert qualified_name(Mute) == f"{Mute.__module__}.Mute"
    assert qualified_name(Nameless).endswith("Nameless")
    assert len(qualified_name(type("x" * 100_000, (), {}))) < 1_000
