"""Messages as AMQP carries them."""

import logging
from typing import Any

import pytest
from aiormq import spec
from hypothesis import given
from hypothesis import strategies as st
from pamqp.header import ContentHeader

from pyfly_messaging import Message
from pyfly_messaging.adapters.rabbitmq.codec import KEY, LONGEST_NAME, decode, encode, fitting
from pyfly_messaging.adapters.rabbitmq.deliveries import Delivery
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


@given(st.dictionaries(texts.filter(bool), texts, max_size=5), st.integers(0, 300))
def test_dead_letters_always_fit(headers: dict[str, str], room: int) -> None:
    """What is left of a dead letter's headers can be published in whatever room there is."""
    kept = fitting(headers, None, room)
    encode(None, kept, "id", room)
    assert set(kept.values()) <= set(headers.values())


def test_a_dead_letter_leaves_out_the_largest(caplog: pytest.LogCaptureFixture) -> None:
    """Of headers that do not fit the largest are left out, and the log names them."""
    headers = {"a": "1", "huge": "x" * 1000, "b": "2"}
    with caplog.at_level(logging.WARNING):
        assert fitting(headers, b"key", 200) == {"a": "1", "b": "2"}
    assert caplog.messages == [
        "RabbitMQ: dead letter without 1 of its headers, for which there is no room: huge"
    ]
    assert fitting(headers, b"key", 2000) is headers


def test_many_headers_without_room_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """A message of others with many headers that do not fit costs one line, and a short one."""
    headers = {f"{number:04}" + "\x1b" * 500: "x" for number in range(1_000)}
    assert fitting(headers, b"key", 200) == {}
    (text,) = caplog.messages
    assert text.startswith("RabbitMQ: dead letter without 1000 of its headers")
    assert len(text) < 3_000
    assert "\x1b" not in text


@pytest.mark.parametrize("value", [object(), {1, 2}, 10**30])
def test_whatever_a_client_makes_of_a_header_becomes_text(value: Any) -> None:
    """A type that nobody has thought of is written as Python writes it."""
    delivery = Delivery(1, "t", "e", {"a": value, KEY: value}, b"")
    message = decode(delivery, "t")
    assert message.headers == {"a": str(value)}
    assert message.key == str(value).encode()
