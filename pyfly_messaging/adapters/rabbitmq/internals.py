"""The internals of aiormq that this adapter needs: the one module that touches them.

aio-pika's connection is a wrapper of aiormq's; what is done for each message is done on aiormq's
channel. Three things there have no public interface:

* Every message must be readable. A frame that aiormq cannot decode ends its connection, RabbitMQ
  delivers the message again, and so on. So `Client` replaces the source of frames.
* A delivery must not cost a task, which aiormq cancels when the connection is cut. So
  `DeliveryChannel` replaces the method that starts it.
* What is written must wait for the network. aiormq writes on into memory, without end. So
  `Outbox` replaces the queue of what is written (its name is public, its replacement is not
  foreseen).

`PRIVATE_NAMES` lists the private names with their reasons. They were seen in aiormq 7.2.4. A
release without one of them fails at the import of this module, and not later during an outage.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import aiormq
from aiormq import spec
from aiormq.channel import Channel
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from aiormq.exceptions import ConnectionClosed, InvalidFrameError
from pamqp import constants
from pamqp.exceptions import PAMQPException
from pamqp.frame import unmarshal
from pamqp.header import ContentHeader

from pyfly_messaging.adapters.rabbitmq.codec import Delivery
from pyfly_messaging.adapters.rabbitmq.errors import NO_FRAME
from pyfly_messaging.adapters.rabbitmq.frame_repair import FRAME_HEAD, FrameReader
from pyfly_messaging.logs import get_logger, text_of

if TYPE_CHECKING:
    from aiormq.abc import AbstractChannel, DeliveredMessage
    from aiormq.connection import FrameReceiver
    from pamqp.frame import FrameTypes
    from yarl import URL

logger = get_logger("pyfly_messaging.rabbitmq")

SUPPORTED = "aiormq==7.2.4"
"""The versions of the client that were tried; ``pyproject.toml`` says the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateName:
    """A private method of the client.

    Attributes:
        owner: Its class.
        name: Its name, as it is stored in the class.
        parameters: What it takes.
        why: What it is needed for.
        until: What would make it unnecessary.

    """

    owner: type
    name: str
    parameters: tuple[str, ...]
    why: str
    until: str

    @property
    def problem(self) -> str | None:
        """How the installed client differs from what is needed, or None."""
        method = vars(self.owner).get(self.name)
        where = f"{self.owner.__name__}.{self.name}"
        if method is None:
            return f"{where} is missing"
        if not inspect.iscoroutinefunction(method):
            return f"{where} is no async method"
        found = tuple(inspect.signature(method).parameters)
        if found != self.parameters:
            return f"{where} takes ({', '.join(found)}), not ({', '.join(self.parameters)})"
        return None


PRIVATE_NAMES = (
    PrivateName(
        owner=aiormq.Connection,
        name="_Connection__reader",
        parameters=("self", "frame_receiver"),
        why="gets its frames from `FrameReader`, which reads messages that pamqp refuses",
        until="an argument of the connection that gives it a FrameReceiver of ours",
    ),
    PrivateName(
        owner=Channel,
        name="_on_deliver_frame",
        parameters=("self", "frame"),
        why="hands a delivery over with a plain call: no task that costs a third of the delivery"
        " and is cancelled when the connection is cut",
        until="consumers of basic_consume that are plain functions",
    ),
    PrivateName(
        owner=Channel,
        name="_get_frame",
        parameters=("self",),
        why="reads the header of a delivery in `_on_deliver_frame`",
        until="the same",
    ),
    PrivateName(
        owner=Channel,
        name="_read_content",
        parameters=("self", "frame", "header"),
        why="reads the body of a delivery in `_on_deliver_frame`",
        until="the same",
    ),
)


def check_client(names: Iterable[PrivateName] = PRIVATE_NAMES) -> None:
    """See that the installed client has what this module needs.

    Raises:
        ImportError: It has not; it names the client, its version and the supported ones.

    """
    problems = [problem for name in names if (problem := name.problem) is not None]
    if problems:
        raise ImportError(
            f"aiormq {version('aiormq')} does not fit pyfly-messaging: {'; '.join(problems)};"
            f" install {SUPPORTED}"
        )


check_client()


# What may be written and not taken by the network before what follows waits. Bytes.
_CONGESTED_BYTES = 1024 * 1024


class Transports(TransportFactory):
    """Makes the socket of one connection: kept, so that it can be cut.

    It listens while the broker greets, to know what a refusal says.

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
        return self.transport.get_write_buffer_size() > _CONGESTED_BYTES

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
            head = FRAME_HEAD.pack(constants.FRAME_METHOD, 0, len(self._last) - 1)
            _, _, frame = unmarshal(head + self._last)
        except (PAMQPException, *NO_FRAME):
            return None
        if not isinstance(frame, spec.Connection.Close):
            return None
        return ConnectionClosed(frame.reply_code, frame.reply_text)

    def abort(self) -> None:
        """Cut what is open."""
        if self._writer is not None:
            self._writer.transport.abort()


class Outbox(asyncio.Queue[Any]):
    """What the client is about to write, while the network takes it.

    aiormq 7.2 writes on without waiting for the network, into memory. And what waits for room here
    does not notice the end of the connection.
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
        """Release all that wait for room, from now on: nothing is written any more."""
        self._ended = True
        while not self.empty():
            self.get_nowait()


class Client(aiormq.Connection):
    """The client's connection, which reads every message and says whether RabbitMQ is blocked.

    aiormq 7.2 notes that RabbitMQ takes nothing at the moment, and does not tell.

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
        self._frames: FrameReader | None = None
        self.closing.add_done_callback(lambda _: self.unblocked.set())
        self.closing.add_done_callback(lambda _: outbox.end())

    async def greet(self) -> None:
        """Connect; return when channels can be opened, even if RabbitMQ takes no messages now."""
        await self.connect()
        await self.connected.wait()

    async def channel(self, *args: Any, **kwargs: Any) -> AbstractChannel:
        """Open a channel.

        Raises:
            ConnectionClosed: The connection is closed, for which aiormq 7.2 raises RuntimeError.

        """
        if self.is_closed:
            raise ConnectionClosed(200, "the connection is closed")
        return await super().channel(*args, **kwargs)

    async def _Connection__reader(self, frame_receiver: FrameReceiver) -> None:  # noqa: N802
        self._frames = FrameReader(frame_receiver.reader, self._noted)
        read = getattr(super(), "_Connection__reader")  # noqa: B009 - its type does not show it
        await read(self._frames)

    def _noted(self, frame: FrameTypes) -> None:
        """Note what a frame says that concerns the whole connection."""
        if isinstance(frame, spec.Connection.Blocked):
            self.blocked = frame.reason or "it does not say why"
            self.unblocked.clear()
            logger.warning("RabbitMQ takes no messages, publishing waits: %s", self.blocked)
        elif isinstance(frame, spec.Connection.Unblocked):
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
        return self._frames is not None and self._frames.last_at > moment


Deliver = Callable[[Delivery], None]
"""Takes what arrived; must neither block nor raise."""

# What else may come between the frames of messages.
_OTHER_FRAMES = 16


class DeliveryChannel(Channel):
    """Hands each message over with a plain call.

    aiormq 7.2 starts a task for each delivery, a third of what the delivery costs, and cancels it
    when the connection is cut. Handing over needs none.
    """

    def __init__(self, *args: Any, deliver: Deliver, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deliver = deliver

    @classmethod
    async def open_on(
        cls, connection: aiormq.Connection, deliver: Deliver, prefetch: int
    ) -> DeliveryChannel:
        """Open a channel with room for all that may be on its way.

        A connection's reader waits while the buffer of one of its channels is full, and wakes the
        channel's own reader each time: with the default of 10 frames, after every third message.
        """
        number = max(connection.channels, default=0) + 1
        channel = cls(
            connection,
            number,
            publisher_confirms=False,
            frame_buffer=3 * prefetch + _OTHER_FRAMES,
            deliver=deliver,
        )
        connection.channels[number] = channel
        await channel.open()
        await channel.basic_qos(prefetch_count=prefetch)
        return channel

    async def raise_prefetch(self, queue: str, prefetch: int) -> str:
        """Consume with room for more; return the tag of the consumer that has it.

        A prefetch is a consumer's, from its beginning on. What the one before was given stays in
        work; it has to be cancelled.
        """
        await self.basic_qos(prefetch_count=prefetch)
        return await self.consume(queue)

    async def consume(self, queue: str) -> str:
        """Begin to consume; return the tag to cancel it by."""
        started = await self.basic_consume(queue, _not_called)
        assert started.consumer_tag is not None  # noqa: S101 - RabbitMQ always names it
        return started.consumer_tag

    async def _on_deliver_frame(self, frame: spec.Basic.Deliver) -> None:
        header = await self._get_frame()
        if not isinstance(header, ContentHeader):
            raise InvalidFrameError(f"a frame {header!r:.80} in place of a message's header")
        try:
            message = await self._read_content(frame, header)
        except ValueError as error:  # another frame in place of its body
            raise InvalidFrameError(text_of(error)) from error
        self._deliver(_delivery(frame, message))


async def _not_called(_: DeliveredMessage) -> None:
    """Stand in for the callback of a consumer: `DeliveryChannel` delivers before it is called."""


def _delivery(frame: Any, message: DeliveredMessage) -> Delivery:
    properties = message.header.properties
    return Delivery(
        frame.delivery_tag,
        frame.routing_key,
        frame.exchange,
        properties.headers,
        message.body,
        properties.message_id,
        frame.redelivered,
    )
