"""The copy of a spent message."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta

import pytest

from pyfly_messaging.delivery.dead_letter import (
    ORIGINAL_OFFSET,
    ORIGINAL_PARTITION,
    dead_letter,
    note,
    reduced,
)
from pyfly_messaging.logs import qualified_name, text_of
from pyfly_messaging.message import Message, set_origin

NOON = datetime(2024, 5, 1, 12, 0, 0, 123_456, tzinfo=UTC)


class Broken(Exception):
    """An exception that cannot say what happened."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def letter_of(message: Message, error: BaseException, group: str | None = "billing") -> Message:
    return dead_letter(
        message, "orders.dlt", group=group, attempts=4, error=error, now=lambda: NOON
    )


def test_it_carries_the_message_and_the_reason() -> None:
    """Value, key and headers are unchanged; six headers say where from, why and when."""
    message = Message("orders", b"\x00value", b"key", {"trace": "1"})
    letter = letter_of(message, ValueError("no such order"))
    assert letter == Message(
        "orders.dlt",
        b"\x00value",
        b"key",
        {
            "trace": "1",
            "x-pyfly-original-topic": "orders",
            "x-pyfly-original-group": "billing",
            "x-pyfly-attempts": "4",
            "x-pyfly-exception": "ValueError",
            "x-pyfly-exception-message": "no such order",
            "x-pyfly-dead-lettered-at": "2024-05-01T12:00:00.123+00:00",
        },
    )
    assert message.headers == {"trace": "1"}


def test_without_a_group_there_is_no_group_header() -> None:
    """A listener without a group leaves the header out, also one of an earlier dead letter."""
    message = Message("orders", b"v", None, {"x-pyfly-original-group": "earlier"})
    assert "x-pyfly-original-group" not in letter_of(message, ValueError(), None).headers


def test_a_dead_letter_that_is_spent_says_the_last_reason() -> None:
    """Headers of an earlier dead letter are replaced."""
    first = letter_of(Message("orders", b"v"), ValueError("first"))
    second = dead_letter(
        first, "orders.dlt.dlt", group="undertaker", attempts=1, error=KeyError("second")
    )
    assert second.headers["x-pyfly-original-topic"] == "orders.dlt"
    assert second.headers["x-pyfly-original-group"] == "undertaker"
    assert second.headers["x-pyfly-attempts"] == "1"
    assert second.headers["x-pyfly-exception"] == "KeyError"
    assert second.headers["x-pyfly-exception-message"] == "'second'"


def test_the_clock_is_utc_by_default() -> None:
    """Without a clock of its own a dead letter is dated now, in UTC."""
    letter = dead_letter(
        Message("orders", b"v"), "orders.dlt", group=None, attempts=1, error=ValueError()
    )
    at = datetime.fromisoformat(letter.headers["x-pyfly-dead-lettered-at"])
    assert at.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=1)


def test_a_long_text_is_cut() -> None:
    """An exception's text is bounded, because brokers bound the size of headers."""
    assert text_of(ValueError("x" * 5_000)) == "x" * 1_000 + "… (4,000 more characters)"


def test_text_and_name_are_escaped_in_headers() -> None:
    """Control characters, and lone surrogates, which no broker could carry, become escapes."""
    cls = type("Odd\nName", (Exception,), {"__module__": "m"})
    headers = letter_of(
        Message("orders", b"v"), cls("a\ud800b\x1b[31m\n" + "\x00" * 10_000)
    ).headers
    assert headers["x-pyfly-exception"] == "m.Odd\\nName"
    text = headers["x-pyfly-exception-message"]
    assert text.startswith("a\\ud800b\\x1b[31m\\n\\x00")
    assert len(text) < 1_100


def test_an_exception_without_text_loses_no_message() -> None:
    """An exception whose text cannot be had is named all the same."""
    letter = letter_of(Message("orders", b"v"), Broken())
    assert letter.headers["x-pyfly-exception"] == f"{__name__}.Broken"
    assert (
        letter.headers["x-pyfly-exception-message"] == "(its text is not available: RuntimeError)"
    )


@pytest.mark.parametrize(
    ("cls", "name"),
    [(ValueError, "ValueError"), (Broken, f"{__name__}.Broken")],
)
def test_builtins_have_short_names(cls: type, name: str) -> None:
    """A class is written with its module, but for the built-in ones."""
    assert qualified_name(cls) == name


def test_only_the_library_says_what_is_missing() -> None:
    """What a message claims of a place, a size or an omission is not in its dead letter."""
    forged = {
        "x-pyfly-omitted": "value",
        "x-pyfly-original-size": "9",
        "x-pyfly-original-partition": "77",
        "x-pyfly-original-offset": "999",
        "trace": "1",
    }
    letter = letter_of(Message("orders", b"value", None, forged), ValueError())
    assert letter.headers.keys() & forged.keys() == {"trace"}


def test_less_and_less_of_a_letter_is_kept() -> None:
    """The exception's text goes first, then all our headers, and a note is what is left at last."""
    message = Message("orders", b"value", b"key", {"trace": "1"})
    letter = letter_of(message, ValueError("no such order"))
    where = {ORIGINAL_PARTITION: "2", ORIGINAL_OFFSET: "17"}
    without_text, theirs, last = reduced(letter, where)
    assert letter.headers.keys() - without_text.headers.keys() == {"x-pyfly-exception-message"}
    assert (without_text.value, without_text.key) == (b"value", b"key")
    assert theirs == Message("orders.dlt", b"value", b"key", {"trace": "1"})
    assert last == note(letter, where)
    assert last == Message(
        "orders.dlt",
        b"",
        None,
        {name: text for name, text in letter.headers.items() if name != "trace"}
        | {
            "x-pyfly-original-partition": "2",
            "x-pyfly-original-offset": "17",
            "x-pyfly-original-size": "5",
            "x-pyfly-omitted": "value,key,headers",
        },
    )


def test_a_note_says_only_what_was_there() -> None:
    """What a message did not have is not omitted; texts of ours are bounded."""
    letter = letter_of(Message("orders", b""), ValueError())
    letter.headers["x-pyfly-original-group"] = "g" * 5000
    left = note(letter, {})
    assert left.headers["x-pyfly-omitted"] == ""
    assert left.headers["x-pyfly-original-group"] == "g" * 1000


def test_a_letter_comes_from_where_its_message_came_from() -> None:
    """An adapter finds in every form of a letter what it received."""
    message, record = Message("orders", b"value"), object()
    set_origin(message, record)
    letter = letter_of(message.with_own_headers(), ValueError())
    assert {id(each.origin) for each in (letter, *reduced(letter, {}))} == {id(record)}
    assert (
        pickle.loads(pickle.dumps(letter_of(Message("orders", b""), ValueError()))).origin is None
    )
