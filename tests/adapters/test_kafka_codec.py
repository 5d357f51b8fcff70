"""What becomes of a message on its way into a Kafka record, and of a record on its way out."""

from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from pyfly_messaging.adapters.kafka.codec import decode, encode, encode_headers
from pyfly_messaging.message import Message

TEXT = st.text(st.characters(codec="utf-8"))


def record(
    value: bytes | None = b"value",
    key: bytes | None = None,
    headers: tuple[tuple[str, bytes | None], ...] = (),
) -> Any:
    """Return a record as aiokafka gives it."""
    return ConsumerRecord("orders", 0, 5, 0, 0, key, value, None, 0, 0, headers)


@given(st.binary(), st.none() | st.binary(), st.dictionaries(TEXT.filter(bool), TEXT))
def test_a_message_survives_the_way_through_a_record(
    value: bytes, key: bytes | None, headers: dict[str, str]
) -> None:
    """Value, key and headers come out as they went in."""
    message = Message("orders", value, key, headers)
    sent = encode(message)
    assert decode([record(sent.value, sent.key, tuple(sent.headers or ()))]) == [message]


def test_no_headers_are_none() -> None:
    """A message without headers is sent with none at all."""
    assert encode(Message("orders", b"")).headers is None


def test_text_that_is_not_unicode_is_refused() -> None:
    """A header with a lone surrogate cannot be carried and raises ValueError."""
    with pytest.raises(ValueError, match="surrogates not allowed"):
        encode_headers({"name": "\ud800"})


def test_a_tombstone_is_an_empty_value() -> None:
    """A record without a value arrives as an empty one, with its key."""
    assert decode([record(None, b"key")]) == [Message("orders", b"", b"key")]


def test_a_binary_header_is_hex() -> None:
    """A header value that is not UTF-8 arrives as hex."""
    assert decode([record(headers=(("trace", b"\xff\x00"),))])[0].headers == {"trace": "ff00"}


def test_a_header_without_a_value_is_empty() -> None:
    """A header whose value is missing arrives as an empty text."""
    assert decode([record(headers=(("flag", None),))])[0].headers == {"flag": ""}


def test_of_headers_with_one_name_the_last_wins() -> None:
    """A name that is there twice keeps its last value."""
    assert decode([record(headers=(("a", b"1"), ("a", b"2")))])[0].headers == {"a": "2"}
