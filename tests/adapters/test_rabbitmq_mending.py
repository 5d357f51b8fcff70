"""Frames that the client cannot read, made readable."""

import asyncio
import struct

import pytest
from aiormq import spec
from hypothesis import given
from hypothesis import strategies as st
from pamqp import frame
from pamqp.header import ContentHeader

from pyfly_messaging.adapters.rabbitmq.mending import MendingReader, mended

PLAIN = ContentHeader(0, 7, spec.Basic.Properties(headers={"a": "b"}, message_id="m"))


def header(payload: bytes) -> ContentHeader:
    read = ContentHeader()
    read.unmarshal(payload)
    return read


def test_what_can_be_read_is_left_alone() -> None:
    """A content header that the client can decode is the same afterwards."""
    assert mended(PLAIN.marshal()) == PLAIN.marshal()


@given(st.integers(0, 0xFFFE), st.binary(max_size=60))
def test_whatever_comes_can_be_read(flags: int, content: bytes) -> None:
    """Any properties at all become some that the client can decode; the size of the body stays."""
    payload = struct.pack(">HHQH", 60, 0, 12345, flags) + content
    assert header(mended(payload)).body_size == 12345


@given(st.dictionaries(st.binary(min_size=1, max_size=8), st.binary(max_size=20)))
def test_names_that_are_no_text_lose_no_value(entries: dict[bytes, bytes]) -> None:
    """Headers with impossible names keep their values."""
    table = b"".join(
        bytes((len(name),)) + name + b"x" + struct.pack(">I", len(value)) + value
        for name, value in {**entries, b"\xff": b"last"}.items()
    )
    payload = struct.pack(">HHQHI", 60, 0, 1, 1 << 13, len(table)) + table
    read = header(mended(payload)).properties.headers
    assert read is not None
    assert read["\\xff"] == b"last"
    assert all(value in {*entries.values(), b"last"} for value in map(_bytes, read.values()))


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytearray)
    return bytes(value)


@pytest.mark.parametrize("step", [1, 7, 1000])
async def test_frames_pass_in_their_order(step: int) -> None:
    """Whatever the pieces in which they are read, other frames pass as they are."""
    frames = frame.marshal(spec.Basic.Qos(prefetch_count=5), 3) + frame.marshal(PLAIN, 3)
    source = asyncio.StreamReader()
    source.feed_data(frames)
    source.feed_eof()
    reader, read = MendingReader(source), b""
    while len(read) < len(frames):
        read += await reader.readexactly(min(step, len(frames) - len(read)))
    assert read == frames
    assert reader.at_eof()
    with pytest.raises(asyncio.IncompleteReadError):
        await reader.readexactly(1)


async def test_a_broken_header_is_mended_on_its_way() -> None:
    """A frame with a timestamp of no year is read as a frame of another length."""
    payload = struct.pack(">HHQHQ", 60, 0, 5, 1 << 6, 2**63)
    source = asyncio.StreamReader()
    source.feed_data(struct.pack(">BHI", 2, 1, len(payload)) + payload + b"\xce")
    source.feed_data(frame.marshal(PLAIN, 1))
    source.feed_eof()
    reader = MendingReader(source)
    first = await reader.readexactly(7)
    length = struct.unpack(">BHI", first)[2]
    read = frame.unmarshal(first + await reader.readexactly(length + 1))[2]
    assert isinstance(read, ContentHeader)
    assert read.body_size == 5
    assert await reader.readexactly(7) == frame.marshal(PLAIN, 1)[:7]


async def test_what_is_no_frame_is_passed_on() -> None:
    """The greeting of a server that speaks another protocol is left for the client to refuse."""
    source = asyncio.StreamReader()
    source.feed_data(b"AMQP\x00\x01\x00\x00HTTP/1.1")
    source.feed_eof()
    reader = MendingReader(source)
    assert await reader.readexactly(1) == b"A"
    assert await reader.readexactly(9) == b"MQP\x00\x01\x00\x00HT"
    assert await reader.read() == b"TP/1.1"
