"""Frames that the client cannot read, made readable.

A message of another client can have properties that pamqp refuses: a timestamp beyond the year
9999, a header name that is not UTF-8. aiormq then gives up the connection, RabbitMQ delivers the
message again, and so on, with all that was in flight beside it. `MendingReader` stands between the
socket and aiormq and rewrites the properties of such a message; its value is left as it is.

Reading every property twice has a price, so it is used only after a connection has died of one.
"""

from __future__ import annotations

import asyncio
import struct

from pamqp import constants, decode
from pamqp.header import ContentHeader

_HEAD = struct.Struct(">BHI")
_CONTENT = struct.Struct(">HHQH")
_LENGTH = struct.Struct(">I")
_FRAMES = (
    constants.FRAME_METHOD,
    constants.FRAME_HEADER,
    constants.FRAME_BODY,
    constants.FRAME_HEARTBEAT,
)
# The flags of the first properties, in the order in which they come.
_CONTENT_TYPE, _CONTENT_ENCODING, _HEADERS = 1 << 15, 1 << 14, 1 << 13
# Sizes of table values by type; the others begin with their length.
_SIZES = {
    **dict.fromkeys(b"tbB", 1),
    **dict.fromkeys(b"su", 2),
    **dict.fromkeys(b"Iif", 4),
    ord("D"): 5,
    **dict.fromkeys(b"lLdT", 8),
    ord("V"): 0,
    0: 0,
}
_WITH_LENGTH = b"SxAF"
_LONGEST_NAME = 255


class MendingReader:
    """Reads frames like a ``StreamReader``, of which the client can decode every one.

    Args:
        reader: Where the frames come from.

    """

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._ready = bytearray()
        self._strange = False  # not AMQP 0-9-1: whoever reads it says so

    def at_eof(self) -> bool:
        """Tell whether nothing more comes."""
        return not self._ready and self._reader.at_eof()

    async def read(self, size: int = -1) -> bytes:
        """Return what there is, unmended."""
        ready = bytes(self._ready)
        self._ready.clear()
        return ready + await self._reader.read(size)

    async def readexactly(self, size: int) -> bytes:
        """Return so many bytes.

        Raises:
            asyncio.IncompleteReadError: The stream ended before.

        """
        while len(self._ready) < size:
            if self._strange:
                self._ready += await self._reader.readexactly(size - len(self._ready))
            else:
                await self._next()
        data = bytes(self._ready[:size])
        del self._ready[:size]
        return data

    async def _next(self) -> None:
        head = await self._reader.readexactly(_HEAD.size)
        kind, channel, length = _HEAD.unpack(head)
        if kind not in _FRAMES:
            self._strange = True
            self._ready += head
            return
        rest = await self._reader.readexactly(length + 1)
        if kind == constants.FRAME_HEADER:
            payload = mended(rest[:-1])
            head, rest = _HEAD.pack(kind, channel, len(payload)), payload + rest[-1:]
        self._ready += head + rest


def mended(payload: bytes) -> bytes:
    """Return a content header that the client can decode; the same one if it can already."""
    try:
        ContentHeader().unmarshal(payload)
    except (ValueError, ArithmeticError, OSError, struct.error):
        return _without_the_unreadable(payload)
    return payload


def _without_the_unreadable(payload: bytes) -> bytes:
    """Return a content header with its headers, mended, and no other property."""
    class_id, weight, body_size, flags = _CONTENT.unpack_from(payload)
    bare = _CONTENT.pack(class_id, weight, body_size, 0)
    if not flags & _HEADERS or flags & 1:
        return bare
    try:
        at = _CONTENT.size
        for earlier in (_CONTENT_TYPE, _CONTENT_ENCODING):
            if flags & earlier:
                at += 1 + payload[at]
        (length,) = _LENGTH.unpack_from(payload, at)
        table = _mended_table(payload[at + 4 : at + 4 + length])
        content = _CONTENT.pack(class_id, weight, body_size, _HEADERS)
        content += _LENGTH.pack(len(table)) + table
        ContentHeader().unmarshal(content)
    except (ValueError, ArithmeticError, OSError, LookupError, struct.error):
        return bare
    return content


def _mended_table(table: bytes) -> bytes:
    """Return the entries of a table, up to the first one that has no known end."""
    kept, at = [], 0
    while at < len(table):
        name = table[at + 1 : at + 1 + table[at]]
        at += 1 + len(name)
        kind = table[at]
        if kind in _SIZES:
            end = at + 1 + _SIZES[kind]
        elif kind in _WITH_LENGTH:
            end = at + 5 + int(_LENGTH.unpack_from(table, at + 1)[0])
        else:
            break
        text = name.decode("utf-8", "backslashreplace").encode()[:_LONGEST_NAME]
        kept.append(bytes((len(text),)) + text + _mended_value(table[at:end]))
        at = end
    return b"".join(kept)


def _mended_value(value: bytes) -> bytes:
    """Return a table value; one that cannot be decoded as text, a time's number or else hex."""
    try:
        decode.embedded_value(value)
    except (ValueError, ArithmeticError, OSError, struct.error):
        content = value[1:]
        text = str(int.from_bytes(content)) if value[:1] == b"T" else content.hex()
        return b"S" + _LENGTH.pack(len(text)) + text.encode()
    return value
