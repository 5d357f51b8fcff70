"""The client's connection, with what it lacks: it writes no faster than the network takes.

And it reads whatever message another client has published.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from typing import TYPE_CHECKING, Any

import aiormq
from aiormq import spec
from aiormq.exceptions import AMQPConnectionError, ConnectionClosed, InvalidFrameError
from pamqp import constants
from pamqp.exceptions import PAMQPException
from pamqp.frame import FrameTypes, unmarshal

from pyfly_messaging.adapters.rabbitmq.mending import SHORTEST, content_header, deliver

if TYPE_CHECKING:
    from aiormq.connection import FrameReceiver
    from yarl import URL

    from pyfly_messaging.adapters.rabbitmq.transports import Transports

from pyfly_messaging.logs import get_logger

logger = get_logger("pyfly_messaging.rabbitmq")

_HEAD = struct.Struct(">BHI")  # of a frame: its type, its channel, its length
_DELIVER = struct.pack(">I", spec.Basic.Deliver.index)


class Outbox(asyncio.Queue[Any]):
    """What the client is about to write, while the network takes it.

    aiormq 7.2 writes on without waiting for the network: into memory, without end. And what waits
    for room here does not notice the end of the connection.
    """

    def __init__(self, transports: Transports, size: int) -> None:
        super().__init__(size)
        self._transports = transports
        self._ended = False

    async def put(self, item: Any) -> None:
        await super().put(item)
        if self._ended:
            self.end()

    async def get(self) -> Any:
        if self._transports.is_congested:
            await self._transports.drained()
        return await super().get()

    def end(self) -> None:
        """Let go whoever waits for room, from now on: nothing is written any more."""
        self._ended = True
        while not self.empty():
            self.get_nowait()


class FrameReader:
    """Reads frames for the client's connection, in place of its own ``FrameReceiver``.

    Args:
        reader: The socket.

    """

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._told = False

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
            head = await self._reader.readexactly(_HEAD.size)
            kind, channel, length = _HEAD.unpack(head)
            rest = await self._reader.readexactly(length + 1)
        except (EOFError, OSError) as error:
            raise AMQPConnectionError(f"the connection was lost: {error!r}") from error
        payload = rest[:-1]
        is_whole = length >= SHORTEST and rest[-1] == constants.FRAME_END
        if kind == constants.FRAME_HEADER and is_whole:
            header, problem = content_header(payload)
            if problem is not None:
                self._tell(problem)
            return len(head) + len(rest), channel, header
        try:
            return unmarshal(head + rest)
        except PAMQPException as error:
            if kind != constants.FRAME_METHOD or payload[: len(_DELIVER)] != _DELIVER:
                raise InvalidFrameError(str(error)) from error
            self._tell("its routing key or its exchange")
            return len(head) + len(rest), channel, deliver(payload)

    def _tell(self, what: str) -> None:
        """Log once: there may be a whole queue of such messages."""
        level = logging.DEBUG if self._told else logging.WARNING
        self._told = True
        logger.log(
            level,
            "RabbitMQ: a message has properties that cannot be read, and goes without them or with"
            " their bytes as text (%s); later ones are logged at DEBUG",
            what,
        )


class Client(aiormq.Connection):
    """The client's connection, which says whether RabbitMQ is blocked, and reads every message.

    aiormq 7.2 notes that RabbitMQ takes nothing at the moment, and keeps that to itself. If a later
    release has no such methods any more, it never seems blocked, and publishes end at their
    timeout. Without ``__reader``, a message that the client cannot read ends the connection.

    Attributes:
        blocked: Why RabbitMQ takes nothing, or None.
        unblocked: Set while it takes what comes.

    """

    def __init__(self, url: URL, transports: Transports, **kwargs: Any) -> None:
        super().__init__(url, transport_factory=transports, **kwargs)
        self.write_queue = outbox = Outbox(transports, self.FRAME_BUFFER_SIZE)
        self.blocked: str | None = None
        self.unblocked = asyncio.Event()
        self.unblocked.set()
        self._closing.add_done_callback(lambda _: self.unblocked.set())
        self._closing.add_done_callback(lambda _: outbox.end())

    async def _Connection__reader(self, receiver: FrameReceiver) -> None:  # noqa: N802 - as below
        read = getattr(super(), "_Connection__reader")  # noqa: B009 - its type does not show it
        await read(FrameReader(receiver.reader))

    async def _Connection__handle_connection_blocked(  # noqa: N802 - the client's method
        self, frame: spec.Connection.Blocked
    ) -> None:
        self.blocked = frame.reason or "it does not say why"
        self.unblocked.clear()
        logger.warning("RabbitMQ takes no messages, publishing waits: %s", self.blocked)

    async def _Connection__handle_connection_unblocked(  # noqa: N802 - the client's method
        self, frame: spec.Connection.Unblocked
    ) -> None:
        self.blocked = None
        self.unblocked.set()
        logger.info("RabbitMQ takes messages again")

    async def close(self, exc: Any = asyncio.CancelledError, timeout: float | None = None) -> None:
        """Close; what still waits gets a cause.

        After an orderly end aiormq 7.2 has none, and raises a bare ``Exception`` in a publish.
        """
        await super().close(exc or ConnectionClosed(200, "closed by this side"), timeout)

    def heard_of_since(self, moment: float) -> bool:
        """Tell whether anything came from the broker since a moment of the loop's clock."""
        return bool(getattr(self, "_Connection__last_frame_time", moment) > moment)
