"""Properties of messages that the client cannot read, and frames that it reads."""

import asyncio
import math
import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from aiormq import spec
from aiormq.exceptions import AMQPConnectionError, InvalidFrameError
from hypothesis import given
from hypothesis import strategies as st
from pamqp import frame
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from pyfly_messaging.adapters.rabbitmq.codec import Delivery, decode
from pyfly_messaging.adapters.rabbitmq.frame_repair import FrameReader, content_header

PLAIN = ContentHeader(0, 7, spec.Basic.Properties(headers={"a": "b"}, message_id="m"))
HEADERS = 1 << 13
SIZE = 12345


def sized(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def entry(name: bytes, value: bytes) -> bytes:
    return bytes((len(name),)) + name + value


def content(flags: int, properties: bytes) -> bytes:
    return struct.pack(">HHQH", 60, 0, SIZE, flags) + properties


def read(payload: bytes) -> dict[str, Any]:
    """Return headers, and see that the rest of a message can be handled."""
    header, _ = content_header(payload)
    assert header.body_size == SIZE
    headers = header.properties.headers
    assert headers is None or isinstance(headers, dict)
    decode(Delivery(1, "topic", "exchange", headers, b""), "topic")
    return headers or {}


def by_pamqp(payload: bytes) -> ContentHeader:
    header = ContentHeader()
    header.unmarshal(payload)
    return header


def fixed(kind: bytes, size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size).map(kind.__add__)


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=30).map(str.encode)
values = st.recursive(
    st.one_of(
        *(fixed(kind, 1) for kind in (b"t", b"b", b"B")),
        *(fixed(kind, 2) for kind in (b"s", b"u")),
        *(fixed(kind, 4) for kind in (b"I", b"i", b"f")),
        *(fixed(kind, 8) for kind in (b"l", b"L", b"d")),
        fixed(b"D", 5),
        st.sampled_from([b"V", b"\0"]),
        st.integers(0, 4_000_000_000_000).map(lambda time: b"T" + struct.pack(">Q", time)),
        st.binary(max_size=30).map(lambda text: b"S" + sized(text)),
        st.binary(max_size=30).map(lambda raw: b"x" + sized(raw)),
    ),
    lambda inner: (
        st.lists(inner, max_size=5).map(lambda each: b"A" + sized(b"".join(each)))
        | st.lists(st.tuples(names, inner), max_size=5).map(
            lambda each: b"F" + sized(b"".join(entry(name, value) for name, value in each))
        )
    ),
    max_leaves=20,
)
tables = st.lists(st.tuples(names, values), max_size=6).map(
    lambda each: sized(b"".join(entry(name, value) for name, value in each))
)
# Of each property what pamqp can decode, in the order of the flags from the highest on.
texts = names.map(lambda name: bytes((len(name[:255]),)) + name[:255])
octets = st.binary(min_size=1, max_size=1)
times = st.integers(0, 4_000_000_000).map(lambda time: struct.pack(">Q", time))
KINDS = (
    *(texts, texts, tables, octets, octets, texts, texts, texts, texts, times),
    *(texts, texts, texts, texts),
)
payloads = st.tuples(*(st.none() | kind for kind in KINDS)).map(
    lambda each: content(
        sum(1 << (15 - number) for number, value in enumerate(each) if value is not None),
        b"".join(value for value in each if value is not None),
    )
)


@given(payloads)
def test_what_is_well_formed_is_read_as_pamqp_does(payload: bytes) -> None:
    """Every property of every type is the same as with the client's own decoder."""
    header, unreadable = content_header(payload)
    theirs = by_pamqp(payload)
    assert unreadable is None
    assert repr(dict(header.properties)) == repr(dict(theirs.properties))
    assert vars(header).keys() == vars(theirs).keys()
    assert (header.class_id, header.weight, header.body_size) == (
        theirs.class_id,
        theirs.weight,
        theirs.body_size,
    )


@given(payloads, st.data())
def test_what_is_changed_anywhere_can_be_read(payload: bytes, data: st.DataObject) -> None:
    """Any bytes of well-formed properties may be others, missing or more."""
    changed = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(12, len(changed)))
        size = data.draw(st.integers(0, 8))
        changed[at : at + size] = data.draw(st.binary(max_size=8))
    read(bytes(changed) if len(changed) >= 14 else payload)


@given(st.integers(0, 0xFFFF), st.binary(max_size=200))
def test_whatever_comes_can_be_read(flags: int, properties: bytes) -> None:
    """Any properties at all become some that can be handled; the size of the body stays."""
    read(content(flags, properties))


def nested(kind: bytes, depth: int) -> bytes:
    value = b"V"
    for _ in range(depth):
        value = kind + sized(value if kind == b"A" else entry(b"a", value))
    return value


HEX = nested(b"F", 600)[1:].hex()
TIME = b"T" + struct.pack(">Q", 2**62)
UNREADABLE: dict[str, tuple[bytes, dict[str, Any]]] = {
    "nested tables": (entry(b"n", nested(b"F", 600)), {"n": HEX}),
    "nested arrays": (entry(b"n", nested(b"A", 600)), {"n": nested(b"A", 600)[1:].hex()}),
    "nested as deep as a frame": (
        entry(b"n", nested(b"A", 26_000)),
        {"n": nested(b"A", 26_000)[1:].hex()},
    ),
    "time": (entry(b"n", TIME), {"n": str(2**62)}),
    "time in a table": (
        entry(b"n", b"A" + sized(TIME)),
        {"n": sized(TIME).hex()},
    ),
    "name": (entry(b"\xffn", b"t\1"), {"\\xffn": True}),
    "name in a table": (
        entry(b"n", b"F" + sized(entry(b"\xff", b"V"))),
        {"n": sized(entry(b"\xff", b"V")).hex()},
    ),
    "array of a table that is longer": (
        entry(b"n", b"A" + sized(b"F" + struct.pack(">I", 5))),
        {"n": sized(b"F" + struct.pack(">I", 5)).hex()},
    ),
    "type in an array": (entry(b"n", b"A" + sized(b"?")), {"n": sized(b"?").hex()}),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_one_value_that_cannot_be_read_becomes_text(what: str) -> None:
    """A value is kept as hex, a time as its number; what stands beside it stays as it is."""
    broken, headers = UNREADABLE[what]
    table = entry(b"a", b"S" + sized(b"text")) + broken + entry(b"z", b"t\0")
    header, unreadable = content_header(content(HEADERS | 1 << 7, sized(table) + b"\2id"))
    assert header.properties.headers == {"a": "text", **headers, "z": False}
    assert header.properties.message_id == "id"
    assert unreadable is not None
    assert len(unreadable) < 200


LONGER = struct.pack(">I", 1 << 31)


@pytest.mark.parametrize(
    "broken", [b"?", b"S" + LONGER, b"A" + LONGER, b"F" + LONGER, b"x" + LONGER, b"d", b""]
)
def test_what_has_no_known_end_ends_the_headers(broken: bytes) -> None:
    """What comes before a value of an unknown type, or of a wrong length, is kept."""
    table = entry(b"a", b"S" + sized(b"text")) + entry(b"n", broken)
    assert read(content(HEADERS, sized(table))) == {"a": "text"}
    header, _ = content_header(content(HEADERS | 1 << 7, sized(table) + b"\2id"))
    assert (header.properties.headers, header.properties.message_id) == ({"a": "text"}, "id")


def test_properties_beside_one_that_cannot_be_read() -> None:
    """Text that is not UTF-8 is escaped, an impossible timestamp left out, the others stay."""
    flags = 1 << 15 | 1 << 7 | 1 << 6 | 1 << 3
    broken = b"\2\xff\xfe" + b"\2id" + struct.pack(">Q", 2**63) + b"\3app"
    header, unreadable = content_header(content(flags, broken))
    properties = header.properties
    assert (properties.content_type, properties.message_id) == ("\\xff\\xfe", "id")
    assert (properties.timestamp, properties.app_id) == (None, "app")
    assert unreadable == f"text that is not UTF-8, a timestamp of {2**63}"


def test_more_words_of_flags_are_passed_over() -> None:
    """Flags that say that more flags follow, up to the end of the frame, are read once."""
    more = struct.pack(">HH", 3, 0)
    assert content_header(content(1 << 7 | 1, more + b"\2id"))[0].properties.message_id == "id"
    assert read(content(0xFFFF, b"\xff\xff" * 65_000)) == {}


def test_frames_full_of_values_are_read_in_one_pass() -> None:
    """A frame holds 130,000 values at most; each costs what it takes itself."""
    many = entry(b"n", b"A" + sized(b"V" * 130_000))
    assert read(content(HEADERS, sized(many))) == {"n": [None] * 130_000}
    entries = b"".join(entry(str(number).encode(), b"V") for number in range(16_000))
    assert len(read(content(HEADERS, sized(entries)))) == 16_000


def test_headers_of_others_become_json() -> None:
    """Tables and lists are valid JSON, whatever is in them."""
    headers = {
        "list": [math.nan, math.inf, -math.inf, 0.5, None, True, b"\xff", bytearray(b"a")],
        "table": {"time": datetime(2026, 1, 2, tzinfo=UTC), "price": Decimal("1.50")},
        "number": math.nan,
    }
    message = decode(Delivery(1, "topic", "exchange", headers, b""), "topic")
    assert message.headers == {
        "list": '["nan", "inf", "-inf", 0.5, null, true, "ff", "a"]',
        "table": '{"time": "2026-01-02 00:00:00+00:00", "price": "1.50"}',
        "number": "nan",
    }


def reader_of(*frames: bytes) -> FrameReader:
    source = asyncio.StreamReader()
    source.feed_data(b"".join(frames))
    source.feed_eof()
    return FrameReader(source, lambda _: None)


def framed(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, 3, len(payload)) + payload + b"\xce"


async def test_frames_pass_in_their_order() -> None:
    """Every kind of frame is read as the client reads it."""
    body = framed(3, b"body")
    frames = [
        frame.marshal(spec.Basic.Qos(prefetch_count=5), 3),
        frame.marshal(Heartbeat(), 0),
        frame.marshal(PLAIN, 3),
        body,
    ]
    got = [each async for each in reader_of(*frames)]
    assert [(size, channel) for size, channel, _ in got] == [
        (len(raw), channel) for raw, channel in zip(frames, (3, 0, 3, 3), strict=True)
    ]
    assert [each.name for _, _, each in got] == [
        "Basic.Qos",
        "Heartbeat",
        "ContentHeader",
        "ContentBody",
    ]
    assert isinstance(got[2][2], ContentHeader)
    assert dict(got[2][2].properties) == dict(PLAIN.properties)


async def test_a_delivery_whose_names_are_no_text(caplog: pytest.LogCaptureFixture) -> None:
    """A routing key and an exchange that are not UTF-8 are escaped, within AMQP's length."""
    key, exchange = b"\xff" * 255, b"\xfe!"
    method = struct.pack(">I", spec.Basic.Deliver.index) + b"\3tag" + struct.pack(">QB", 7, 1)
    method += bytes((len(exchange),)) + exchange + bytes((len(key),)) + key
    broken = content(1 << 15, b"\1\xff")
    got = [each async for each in reader_of(*[framed(1, method), framed(2, broken)] * 3)]
    deliver = got[0][2]
    assert isinstance(deliver, spec.Basic.Deliver)
    assert (deliver.consumer_tag, deliver.delivery_tag, deliver.redelivered) == ("tag", 7, True)
    assert deliver.exchange == "\\xfe!"
    assert deliver.routing_key == ("\\xff" * 255)[:255]
    assert caplog.text.count("WARNING") == 1, "one line, however many"


@pytest.mark.parametrize(
    "frames",
    [framed(9, b"x"), framed(1, b"\0\1\0\1"), framed(2, b""), framed(2, b"x" * 20)[:-1] + b"x"],
)
async def test_what_is_no_frame_ends_the_connection(frames: bytes) -> None:
    """What RabbitMQ never sends is refused as the client itself refuses it."""
    with pytest.raises(InvalidFrameError):
        await anext(reader_of(frames))


async def test_the_end_of_a_connection() -> None:
    """A connection that ends between frames was closed, and else lost."""
    with pytest.raises(StopAsyncIteration):
        await anext(reader_of())
    with pytest.raises(AMQPConnectionError):
        await anext(reader_of(frame.marshal(PLAIN, 1)[:-1]))
