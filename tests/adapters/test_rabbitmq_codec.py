"""Messages as AMQP carries them."""

import logging
from typing import Any

import pytest
from aiormq import spec
from hypothesis import given
from hypothesis import strategies as st
from pamqp.header import ContentHeader

from pyfly_messaging import Message
from pyfly_messaging.adapters.rabbitmq.codec import (
    KEY,
    LONGEST_NAME,
    Delivery,
    decode,
    encode,
    fitting,
    without_value,
)
from pyfly_messaging.delivery.dead_letter import dead_letter
from pyfly_messaging.errors import PublishError

ROOM = 130_000

texts = st.text(st.characters(exclude_categories=["Cs"]))
names = texts.filter(lambda name: 1 <= len(name.encode()) < LONGEST_NAME)


def arrived(properties: spec.Basic.Properties, body: bytes = b"") -> Delivery:
    """Return what arrives of a message, after the client has written and read it."""
    header = ContentHeader()
    header.unmarshal(ContentHeader(0, len(body), properties).marshal())
    return Delivery(1, "topic", "exchange", header.properties.headers, body)


@given(key=st.none() | st.binary(), headers=st.dictionaries(names, texts))
def test_key_and_headers_come_back(key: bytes | None, headers: dict[str, str]) -> None:
    """Every key and every text in headers comes back as it was."""
    properties = encode(key, headers, "id", ROOM)
    assert decode(arrived(properties, b"v"), "topic") == Message("topic", b"v", key, headers)


@pytest.mark.parametrize("marks", ["", "'", "''", "'x", "x"])
def test_a_header_named_like_the_key_comes_back(marks: str) -> None:
    """A header that has the name of the one which carries the key is told from it."""
    headers = {KEY + marks: "mine"}
    for key in (None, b"key"):
        message = decode(arrived(encode(key, headers, "id", ROOM)), "topic")
        assert message == Message("topic", b"", key, headers)


def test_a_readable_key_is_readable_on_the_wire() -> None:
    """A key that is UTF-8 travels as text, for people and other clients; another as bytes."""
    assert encode(b"customer-42", None, "id", ROOM).headers == {KEY: "customer-42"}
    assert encode(b"\xff", None, "id", ROOM).headers == {KEY: bytearray(b"\xff")}


def test_messages_are_persistent() -> None:
    """Every message survives a restart of the broker."""
    assert encode(None, None, "id", ROOM).delivery_mode == 2


def test_the_brokers_own_count_is_left_out() -> None:
    """The header that RabbitMQ adds to a redelivery is no header of the message."""
    delivery = Delivery(1, "t", "e", {"x-delivery-count": 3, "a": "b"}, b"")
    assert decode(delivery, "t").headers == {"a": "b"}
    published = Delivery(1, "t", "e", {"x-delivery-count": "mine"}, b"")
    assert decode(published, "t").headers == {"x-delivery-count": "mine"}


def test_headers_that_do_not_fit_are_refused() -> None:
    """A name that would be cut, headers above one frame and such a key are refused."""
    encode(None, {"n" * 128: ""}, "id", ROOM)
    with pytest.raises(PublishError, match="129 bytes"):
        encode(None, {"n" * 129: ""}, "id", ROOM)
    with pytest.raises(PublishError, match="header name"):
        encode(None, {"ü" * 65: ""}, "id", ROOM)
    with pytest.raises(PublishError, match="at most 130000"):
        encode(None, {"a": "v" * ROOM}, "id", ROOM)
    with pytest.raises(PublishError, match="the key has"):
        encode(b"k" * ROOM, None, "id", ROOM)


def test_text_that_is_no_text_is_a_wrong_argument() -> None:
    """A header that cannot be written as UTF-8 is a ValueError, as for Kafka."""
    with pytest.raises(ValueError, match="surrogates"):
        encode(None, {"a": "\ud800"}, "id", ROOM)


def letter_of(headers: dict[str, str], key: bytes | None = None) -> Message:
    """Return a message as it is dead-lettered."""
    message = Message("orders", b"value", key, headers)
    return dead_letter(message, "orders.dlt", group="g", attempts=3, error=ValueError("no"))


@given(
    headers=st.dictionaries(texts, texts, max_size=5),
    key=st.none() | st.binary(max_size=300),
    room=st.integers(50, 700),
)
def test_dead_letters_always_fit(headers: dict[str, str], key: bytes | None, room: int) -> None:
    """What is left of a dead letter can be published in whatever room there is, and says so."""
    letter = letter_of(headers, key)
    kept = fitting(letter, room)
    encode(kept.key, kept.headers, "id", room)
    omitted = kept.headers.get("x-pyfly-omitted", "").split(",")
    assert (kept.key == letter.key) == ("key" not in omitted)
    theirs = {name: text for name, text in kept.headers.items() if name != "x-pyfly-omitted"}
    assert (theirs == letter.headers) == ("headers" not in omitted)
    assert set(theirs.values()) <= set(letter.headers.values())
    assert (kept.topic, kept.value) == (letter.topic, letter.value)


def test_a_dead_letter_leaves_out_the_largest(caplog: pytest.LogCaptureFixture) -> None:
    """Of headers that do not fit the largest are left out, and the log names them."""
    letter = letter_of({"a": "1", "huge": "x" * 1000, "b": "2"}, b"key")
    with caplog.at_level(logging.WARNING):
        kept = fitting(letter, 1000)
    assert kept.key == b"key"
    assert letter.headers.keys() - kept.headers.keys() == {"huge"}
    assert kept.headers["x-pyfly-omitted"] == "headers"
    assert "without the headers 'huge' of its message" in caplog.text
    assert fitting(letter, 2000) is letter


def test_a_dead_letter_leaves_out_a_key_before_our_headers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A key that leaves no room for ours is left out; the headers of its message stay."""
    letter = letter_of({"a": "1"}, b"k" * 900)
    with caplog.at_level(logging.WARNING):
        kept = fitting(letter, 1000)
    assert (kept.value, kept.key) == (b"value", None)
    assert kept.headers == letter.headers | {"x-pyfly-omitted": "key"}
    assert "without the key of its message" in caplog.text


def test_names_that_are_too_long_are_cut(caplog: pytest.LogCaptureFixture) -> None:
    """A name is cut where RabbitMQ would; of two that are alike then one is left out."""
    letter = letter_of({"n" * 128: "1", "n" * 129: "22", "m" * 200: "3"})
    with caplog.at_level(logging.WARNING):
        kept = fitting(letter, ROOM)
    assert kept.headers["n" * 128] == "1"
    assert kept.headers["m" * 128] == "3"
    assert kept.headers["x-pyfly-omitted"] == "headers"
    assert kept.headers.keys() == letter_of({}).headers.keys() | {
        "n" * 128,
        "m" * 128,
        "x-pyfly-omitted",
    }


def test_a_log_of_many_headers_is_short(caplog: pytest.LogCaptureFixture) -> None:
    """Of thousands of headers that are left out the log names a few, without control characters."""
    letter = letter_of({f"\x1b[31m{n}": "x" * 10 for n in range(10_000)})
    with caplog.at_level(logging.WARNING):
        fitting(letter, 10_000)
    assert len(caplog.text) < 1000
    assert "more of its message" in caplog.text
    assert "\x1b" not in caplog.text


def test_a_value_that_is_too_large_is_left_out() -> None:
    """Without its value a dead letter says how large that was, and what else it lacks."""
    letter = without_value(letter_of({"a": "1", "big": "x" * 1000}, b"key"))
    assert (letter.value, letter.key, letter.headers["a"]) == (b"", b"key", "1")
    assert letter.headers["x-pyfly-original-size"] == "5"
    assert letter.headers["x-pyfly-omitted"] == "value"
    assert fitting(letter, 1000).headers["x-pyfly-omitted"] == "value,headers"


@pytest.mark.parametrize("name", ["CC", "BCC", "CC'", "CC''", "CCC", "x-pyfly-key"])
def test_names_that_rabbitmq_routes_by_are_only_names(name: str) -> None:
    """A header that is called like one that RabbitMQ routes by comes back, and routes nothing."""
    properties = encode(None, {name: "other"}, "id", ROOM)
    assert properties.headers is not None
    assert not properties.headers.keys() & {"CC", "BCC", KEY}
    assert decode(arrived(properties), "topic").headers == {name: "other"}


def test_an_escaped_name_may_be_too_long_too() -> None:
    """A name that is as long as it may be, and travels with one character more, is refused."""
    encode(None, {KEY + "'" * 116: ""}, "id", ROOM)
    with pytest.raises(PublishError, match="128 bytes"):
        encode(None, {KEY + "'" * 117: ""}, "id", ROOM)


@pytest.mark.parametrize("value", [object(), {1, 2}, 10**30])
def test_whatever_a_client_makes_of_a_header_becomes_text(value: Any) -> None:
    """A type that nobody has thought of is written as Python writes it."""
    delivery = Delivery(1, "t", "e", {"a": value, KEY: value}, b"")
    message = decode(delivery, "t")
    assert message.headers == {"a": str(value)}
    assert message.key == str(value).encode()
