"""Sockets for the client: kept, so that they can be cut, and listened to while it greets."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

from aiormq import spec
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from aiormq.exceptions import ConnectionClosed
from pamqp import constants
from pamqp.exceptions import PAMQPException
from pamqp.frame import unmarshal
from yarl import URL

# What may be written and not taken by the network before what follows waits. Bytes.
_CONGESTED = 1024 * 1024

_HEAD = struct.Struct(">BHI")  # of an AMQP frame: its type, its channel, its length


class Transports(TransportFactory):
    """Makes the socket of one connection.

    Args:
        encrypted: Whether to speak TLS.

    """

    def __init__(self, *, encrypted: bool) -> None:
        self._inner = TLSTransportFactory() if encrypted else TCPTransportFactory()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._last = b""  # what was read last during the greeting

    @property
    def transport(self) -> asyncio.WriteTransport:
        """The socket, once `create` has made it."""
        assert self._writer is not None  # noqa: S101 - see above
        return self._writer.transport

    @property
    def is_congested(self) -> bool:
        """Whether much is written that the network has not taken."""
        return self.transport.get_write_buffer_size() > _CONGESTED

    async def drained(self) -> None:
        """Wait until the network has taken most of it."""
        assert self._writer is not None  # noqa: S101 - see above
        await self._writer.drain()

    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._reader, self._writer = await self._inner.create(url, **kwargs)
        self._listen(self._reader)
        return self._reader, self._writer

    def _listen(self, reader: asyncio.StreamReader) -> None:
        read = reader.readexactly

        async def readexactly(n: int) -> bytes:
            self._last = await read(n)
            return self._last

        reader.readexactly = readexactly  # type: ignore[method-assign]

    def greeted(self) -> None:
        """Stop listening."""
        if self._reader is not None:
            del self._reader.readexactly

    def refusal(self) -> ConnectionClosed | None:
        """Return what the broker said when it refused.

        aiormq 7.2 takes the refusal of a virtual host for an answer of the wrong type, and drops
        what it says.
        """
        try:
            head = _HEAD.pack(constants.FRAME_METHOD, 0, len(self._last) - 1)
            _, _, frame = unmarshal(head + self._last)
        except (PAMQPException, struct.error):
            return None
        if not isinstance(frame, spec.Connection.Close):
            return None
        return ConnectionClosed(frame.reply_code, frame.reply_text)

    def abort(self) -> None:
        """Cut what is open."""
        if self._writer is not None:
            self._writer.transport.abort()
