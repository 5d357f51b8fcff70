"""Frames, read so that no message of another client ends a connection.

pamqp refuses a message whose properties it cannot decode: a timestamp beyond the year 9999, a name
that is not UTF-8, tables that are nested too deep. aiormq then gives up the connection, RabbitMQ
delivers the message again, and so on, with all that was in flight beside it. And pamqp copies what
is left of a frame for each value in it: for 130,000 of them that takes half a second.

So the properties of messages are decoded here, like pamqp decodes them, in one pass. What cannot be
decoded is kept as text where its end is known, and left out where it is not; the value of the
message is left as it is.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from aiormq import spec
from aiormq.exceptions import AMQPConnectionError, InvalidFrameError
from pamqp import constants
from pamqp.exceptions import PAMQPException
from pamqp.frame import FrameTypes, unmarshal
from pamqp.header import ContentHeader

from pyfly_messaging.adapters.rabbitmq.errors import NO_FRAME
from pyfly_messaging.logs import get_logger

logger = get_logger("pyfly_messaging.rabbitmq")

FRAME_HEAD = struct.Struct(">BHI")
"""The head of a frame: its type, its channel, its length."""

_DELIVER = struct.pack(">I", spec.Basic.Deliver.index)

_CONTENT = struct.Struct(">HHQH")  # class, weight, size of the body, flags

_LENGTH = struct.Struct(">I")
_TIME = struct.Struct(">Q")
_DECIMAL = struct.Struct(">Bi")
# Property flags come in words of 16 bits; the last bit says that another word follows.
_MORE_FLAGS = 1
_PROPERTIES = [
    (spec.Basic.Properties.flags[name], name, spec.Basic.Properties.amqp_type(name))
    for name in spec.Basic.Properties.attributes()
]
_NUMBERS = {
    ord(kind): struct.Struct(f">{form}")
    for kind, form in zip("bBsuIilLfd", "bBhHiIqqfd", strict=True)
}
_SIZES = {kind: form.size for kind, form in _NUMBERS.items()}
_SIZES |= {ord("t"): 1, ord("T"): _TIME.size, ord("D"): _DECIMAL.size, ord("V"): 0, 0: 0}
_WITH_LENGTH = b"SxAF"
# Tables and arrays within each other. Python's own limit would come at about 450.
_DEEPEST = 64
# Above this a time is taken to be in milliseconds, as pamqp does.
_LAST_SECOND = 0xFFFFFFFF
# AMQP's limit for names of exchanges and routing keys, in bytes.
_LONGEST_NAME = 255
# What decoding raises for content that is none of its type, or ends too soon.
_UNREADABLE = (ValueError, ArithmeticError, OSError, LookupError, struct.error)


class FrameReader:
    """Reads frames for the client's connection, in place of its own ``FrameReceiver``.

    Args:
        reader: The socket.
        on_connection_frame: Called with each frame that concerns the whole connection.

    Attributes:
        last_at: When the last frame came, by the loop's clock.

    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        on_connection_frame: Callable[[FrameTypes], None],
    ) -> None:
        self._clock = asyncio.get_running_loop().time
        self.last_at = self._clock()
        self._reader = reader
        self._on_connection_frame = on_connection_frame
        self._logged = False

    def __aiter__(self) -> FrameReader:
        return self

    async def __anext__(self) -> tuple[int, int, FrameTypes]:
        """Return the number of bytes, the channel and the frame.

        Raises:
            AMQPConnectionError: The connection was lost.
            InvalidFrameError: What came is no frame.
            StopAsyncIteration: The connection was closed.

        """
        if self._reader.at_eof():
            raise StopAsyncIteration
        try:
            head = await self._reader.readexactly(FRAME_HEAD.size)
            kind, channel, length = FRAME_HEAD.unpack(head)
            rest = await self._reader.readexactly(length + 1)
        except (EOFError, OSError) as error:
            raise AMQPConnectionError(f"the connection was lost: {error!r}") from error
        self.last_at = self._clock()
        payload = rest[:-1]
        is_whole = length >= _CONTENT.size and rest[-1] == constants.FRAME_END
        if kind == constants.FRAME_HEADER and is_whole:
            header, problem = content_header(payload)
            if problem is not None:
                self._log(problem)
            return len(head) + len(rest), channel, header
        try:
            read = unmarshal(head + rest)
        except (PAMQPException, *NO_FRAME) as error:
            if kind != constants.FRAME_METHOD or payload[: len(_DELIVER)] != _DELIVER:
                raise InvalidFrameError(str(error)) from error
            self._log("its routing key or its exchange")
            return len(head) + len(rest), channel, deliver(payload)
        if not channel:
            self._on_connection_frame(read[2])
        return read

    def _log(self, what: str) -> None:
        """Log once: there may be a whole queue of such messages."""
        level = logging.DEBUG if self._logged else logging.WARNING
        self._logged = True
        logger.log(
            level,
            "RabbitMQ: a message has properties that cannot be read, and goes without them or with"
            " their bytes as text (%s); later ones are logged at DEBUG",
            what,
        )


def content_header(payload: bytes) -> tuple[ContentHeader, str | None]:
    """Return a content header, and what of it could not be read, if anything.

    Whatever comes is decoded, in a time that grows with its length. What is well-formed is the same
    as pamqp decodes it to, but for tables that are nested deeper than any use of them.

    Args:
        payload: The content of the frame, of at least 14 bytes.

    """
    class_id, weight, body_size, flags = _CONTENT.unpack_from(payload)
    header = ContentHeader(weight, body_size)
    header.class_id = class_id
    at, word = _CONTENT.size, flags
    unreadable: list[str] = []
    try:
        while word & _MORE_FLAGS:
            (word,) = struct.unpack_from(">H", payload, at)
            at += 2
        for flag, name, kind in _PROPERTIES:
            if flags & flag:
                value, at = _READERS[kind](payload, at, unreadable)
                setattr(header.properties, name, value)
    except _UNREADABLE as error:
        unreadable.append(f"the rest: {error}")
    return header, ", ".join(unreadable[:3]) if unreadable else None


def _short_text(payload: bytes, at: int, unreadable: list[str]) -> tuple[str, int]:
    start, end = at + 1, at + 1 + payload[at]
    content = _piece(payload, start, end)
    try:
        return content.decode(), end
    except UnicodeDecodeError:
        unreadable.append("text that is not UTF-8")
        text = content.decode("utf-8", "backslashreplace")
        return text.encode()[:_LONGEST_NAME].decode(errors="ignore"), end


def _octet(payload: bytes, at: int, _: list[str]) -> tuple[int, int]:
    return payload[at], at + 1


def _moment(payload: bytes, at: int, unreadable: list[str]) -> tuple[datetime | None, int]:
    end = at + _TIME.size
    content = _piece(payload, at, end)
    try:
        return _time(content, 0), end
    except _UNREADABLE:
        unreadable.append(f"a timestamp of {int.from_bytes(content)}")
        return None, end


def _headers(payload: bytes, at: int, unreadable: list[str]) -> tuple[dict[str, Any], int]:
    """Return the headers, up to the first one that has no known end."""
    (length,) = _LENGTH.unpack_from(payload, at)
    at, end = at + _LENGTH.size, at + _LENGTH.size + length
    headers: dict[str, Any] = {}
    try:
        while at < end:
            at = _header(headers, payload, at, end, unreadable)
    except _UNREADABLE as error:
        unreadable.append(f"the headers after {len(headers)}: {error}")
    return headers, end


def _header(
    headers: dict[str, Any], payload: bytes, at: int, end: int, unreadable: list[str]
) -> int:
    """Add the header that begins here, repaired if need be; return where it ends."""
    name, at = _short_text(payload, at, unreadable)
    after = _end(payload, at)
    if after > end:
        raise ValueError("one is longer than all of them")
    try:
        headers[name] = _value(payload, at, 0)[0]
    except _UNREADABLE as error:
        unreadable.append(f"header {name!a:.80}: {error!s:.80}")
        content = payload[at + 1 : after]
        is_time = payload[at] == ord("T")
        headers[name] = str(int.from_bytes(content)) if is_time else content.hex()
    return after


_READERS: dict[str, Callable[[bytes, int, list[str]], tuple[Any, int]]] = {
    "shortstr": _short_text,
    "octet": _octet,
    "timestamp": _moment,
    "table": _headers,
}


def _end(payload: bytes, at: int) -> int:
    """Return where a table's value ends that begins with its type."""
    kind = payload[at]
    if kind in _WITH_LENGTH:
        (length,) = _LENGTH.unpack_from(payload, at + 1)
        end = at + 1 + _LENGTH.size + int(length)
    elif kind in _SIZES:
        end = at + 1 + _SIZES[kind]
    else:
        raise ValueError(f"a value of the unknown type {chr(kind)!a}")
    if end > len(payload):
        raise ValueError("a value is longer than its frame")
    return end


def _value(payload: bytes, at: int, depth: int) -> tuple[Any, int]:
    """Return a table's value that begins with its type, and where it ends."""
    kind, end = payload[at], _end(payload, at)
    at += 1
    if kind in _NUMBERS:
        return _NUMBERS[kind].unpack_from(payload, at)[0], end
    match chr(kind):
        case "S":
            content = payload[at + _LENGTH.size : end]
            try:
                return content.decode(), end
            except UnicodeDecodeError:
                return content, end
        case "x":
            return bytearray(payload[at + _LENGTH.size : end]), end
        case "t":
            return payload[at] != 0, end
        case "T":
            return _time(payload, at), end
        case "D":
            scale, number = _DECIMAL.unpack_from(payload, at)
            return Decimal(f"{number}E-{scale}"), end
        case "A" | "F" if depth == _DEEPEST:
            raise ValueError(f"nested more than {_DEEPEST} deep")
        case "A":
            return _array(payload, at + _LENGTH.size, end, depth + 1), end
        case "F":
            return _table(payload, at + _LENGTH.size, end, depth + 1), end
        case _:
            return None, end


def _array(payload: bytes, at: int, end: int, depth: int) -> list[Any]:
    values = []
    while at < end:
        value, at = _value(payload, at, depth)
        values.append(value)
    if at > end:
        raise ValueError("a value is longer than its array")
    return values


def _table(payload: bytes, at: int, end: int, depth: int) -> dict[str, Any]:
    values = {}
    while at < end:
        start = at + 1
        at = start + payload[at]
        name = _piece(payload, start, at).decode()
        values[name], at = _value(payload, at, depth)
    if at > end:
        raise ValueError("a value is longer than its table")
    return values


def _time(payload: bytes, at: int) -> datetime:
    (seconds,) = _TIME.unpack_from(payload, at)
    return datetime.fromtimestamp(seconds / 1000.0 if seconds > _LAST_SECOND else seconds, tz=UTC)


def _piece(payload: bytes, start: int, end: int) -> bytes:
    if end > len(payload):
        raise ValueError("a property is longer than its frame")
    return payload[start:end]


def deliver(payload: bytes) -> spec.Basic.Deliver:
    """Return the method that announces a message, whose names need not be UTF-8.

    Args:
        payload: The content of its frame.

    """
    tag, at = _short_text(payload, _LENGTH.size, [])
    number, again = struct.unpack_from(">QB", payload, at)
    exchange, at = _short_text(payload, at + 9, [])
    key, _ = _short_text(payload, at, [])
    frame = spec.Basic.Deliver(tag, number, bool(again & 1), routing_key=key)
    frame.exchange = exchange  # which the constructor would refuse
    return frame
