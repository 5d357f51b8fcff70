"""One connection: opened as the settings say, with its channels, and closed within a time limit."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar, cast

from aiormq.exceptions import ConnectionClosed, InvalidFrameError
from yarl import URL

from pyfly_messaging.adapters.rabbitmq import errors
from pyfly_messaging.adapters.rabbitmq.errors import mapped_declaring
from pyfly_messaging.adapters.rabbitmq.internals import (
    Client,
    Deliver,
    DeliveryChannel,
    Transports,
)
from pyfly_messaging.adapters.rabbitmq.options import Options
from pyfly_messaging.errors import ConfigurationError
from pyfly_messaging.logs import get_logger, quieten

if TYPE_CHECKING:
    from aiormq.abc import AbstractChannel
    from aiormq.channel import Channel

    from pyfly_messaging.settings import RabbitSettings

logger = get_logger("pyfly_messaging.rabbitmq")

T = TypeVar("T")

# The client's loggers: the one repeats for each attempt what we log of it, the other shows
# frames as they came, whatever others have put in them.
_NOISY = ("aiormq.connection", "aiormq.channel")
# Seconds for one attempt to connect, and for one question to the broker (declare, bind, consume).
_CONNECT_TIMEOUT_S = 10.0
_ANSWER_TIMEOUT_S = 30.0
# For the tasks of a connection to end once its socket is gone. Seconds.
_ABORT_TIMEOUT_S = 5.0


class Connection:
    """One open AMQP connection.

    What it asks the broker goes on to its end when the caller is cancelled: aiormq 7.2 answers the
    cancellation of a question by closing its channel, and where that is not open yet RabbitMQ
    closes the connection, with all its consumers (504 CHANNEL_ERROR).

    Opening a channel raises `BrokerUnavailableError` when the connection is lost.

    Args:
        client: The connection of the client library.
        transport: Its socket, to be cut when the broker does not answer any more.
        address: What errors call the broker.

    """

    def __init__(self, client: Client, transport: asyncio.WriteTransport, address: str) -> None:
        self._client = client
        self._transport = transport
        self._address = address
        self._steps: set[asyncio.Task[Any]] = set()  # under way, whatever became of the callers

    @property
    def is_open(self) -> bool:
        """Whether it is open, as far as is known."""
        return not self._client.is_closed

    @property
    def blocked(self) -> str | None:
        """Why RabbitMQ takes no messages here at the moment, or None."""
        return self._client.blocked

    async def unblocked(self) -> None:
        """Wait until RabbitMQ takes messages, or the connection is closed."""
        await self._client.unblocked.wait()

    def heard_of_since(self, moment: float) -> bool:
        """Tell whether anything came from the broker since a moment of the loop's clock."""
        return self._client.heard_of_since(moment)

    @property
    def room_for_headers(self) -> int:
        """Bytes that the headers of one message may take: AMQP carries them in one frame."""
        longest = self._client.connection_tune.frame_max or 131_072
        return int(longest) - 1024

    async def declare(self, declare: Callable[[AbstractChannel], Coroutine[Any, Any, T]]) -> T:
        """Open a channel for a few declarations; a refused one closes its channel."""

        async def on_a_channel() -> T:
            channel = await self._client.channel(publisher_confirms=False)
            try:
                declared = await declare(channel)
            except BaseException:
                self._later(channel.close())
                raise
            await channel.close()
            return declared

        with mapped_declaring("a channel", self._address):
            return await self.step(on_a_channel())

    async def publishing_channel(self) -> Channel:
        """Open a channel with publisher confirms, on which unroutable messages raise."""
        opening = self._client.channel(publisher_confirms=True, on_return_raises=True)
        with mapped_declaring("a channel", self._address):
            return cast("Channel", await self.step(opening, unwanted=_close_channel))

    async def delivery_channel(self, deliver: Deliver, prefetch: int) -> DeliveryChannel:
        """Open a channel that calls ``deliver`` for each message, ``prefetch`` ahead at most."""
        opening = DeliveryChannel.open_on(self._client, deliver, prefetch)
        with mapped_declaring("a channel", self._address):
            return await self.step(opening, unwanted=_close_channel)

    async def consume(self, channel: DeliveryChannel, queue: str) -> str:
        """Begin to consume; return the tag by which to cancel it."""
        with mapped_declaring(f"consuming the queue {queue!r}", self._address):
            return await self.step(channel.consume(queue))

    async def raise_prefetch(self, channel: DeliveryChannel, queue: str, prefetch: int) -> str:
        """Consume with room for more; return the tag of the consumer that has it."""
        with mapped_declaring(f"consuming the queue {queue!r}", self._address):
            return await self.step(channel.raise_prefetch(queue, prefetch))

    async def cancel(self, channel: DeliveryChannel, tag: str) -> None:
        """End a consumer."""
        with mapped_declaring("the end of a consumer", self._address):
            await self.step(channel.basic_cancel(tag))

    async def step(
        self,
        step: Coroutine[Any, Any, T],
        *,
        unwanted: Callable[[T], Coroutine[Any, Any, None]] | None = None,
    ) -> T:
        """Do something that must not be cut short; it goes on when the caller is cancelled.

        Args:
            step: What is done, within the time for an answer.
            unwanted: What to do with a result that came too late for the caller.

        """
        task = self._later(_answered(step))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if unwanted is not None:
                task.add_done_callback(lambda _: self._undo(task, unwanted))
            raise

    def _later(self, step: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(step, name="pyfly rabbitmq step")
        self._steps.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._steps.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.debug("RabbitMQ at %s: %s", self._address, errors.describe(error))

    def _undo(
        self, task: asyncio.Task[T], unwanted: Callable[[T], Coroutine[Any, Any, None]]
    ) -> None:
        if not task.cancelled() and task.exception() is None:
            self._later(unwanted(task.result()))

    def on_close(self, call: Callable[[BaseException | None], None]) -> None:
        """Have ``call`` called with the cause when the connection is closed or lost."""
        self._client.closing.add_done_callback(lambda closing: call(_cause(closing)))

    async def last_step(self, step: Coroutine[Any, Any, None], timeout: float) -> None:
        """Do a last step, for ``timeout`` seconds at most; its failure does not matter any more.

        The client can wait even for its own cancellation as long as the broker reads nothing; such
        a step ends with the connection.
        """
        task = self._later(step)
        done, _ = await asyncio.wait((task,), timeout=timeout)
        if not done:
            task.cancel()

    async def close(self, timeout: float) -> None:
        """Close; cut the connection when the broker has not answered after ``timeout`` seconds."""
        closing = _closing(self._client)
        done, _ = await asyncio.wait((closing,), timeout=timeout)
        if not done:
            logger.warning("RabbitMQ at %s does not answer; connection cut", self._address)
        self._transport.abort()
        await asyncio.wait((closing, *self._steps), timeout=_ABORT_TIMEOUT_S)


class Connector:
    """Opens connections as the settings say.

    Args:
        settings: The settings of the adapter.

    Raises:
        ConfigurationError: ``rabbitmq.options`` has something that the client does not take.

    """

    def __init__(self, settings: RabbitSettings) -> None:
        self.address = settings.redacted_url
        self._settings = settings
        self._options = Options.of(settings.options)
        quieten(_NOISY)
        self._tls: ssl.SSLContext | None = None

    def prepare(self) -> None:
        """Read the certificates, anew at every start.

        Raises:
            ConfigurationError: One cannot be read, or is none.

        """
        if not self._settings.address.tls:
            return
        try:
            self._tls = self._settings.tls.ssl_context()
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"rabbitmq.tls: the certificates cannot be used: {error}; check ca-file, cert-file,"
                " key-file and key-password"
            ) from error

    async def open(self, purpose: str) -> Connection:
        """Try once to connect.

        Args:
            purpose: What RabbitMQ's overview calls the connection.

        Raises:
            BrokerUnavailableError: No connection.
            AuthenticationError: The broker refused.

        """
        transports = Transports(encrypted=self._tls is not None)
        client = Client(
            self._url(),
            transports,
            context=self._tls,
            client_properties=self._options.client_properties(purpose),
            **self._options.socket,
        )
        try:
            await _greeted(client, transports, self._options.timeout or _CONNECT_TIMEOUT_S)
        except errors.CLIENT_ERRORS + errors.NO_FRAME as error:  # it may be no broker
            transports.abort()
            errors.reraise_if_cancelled(error)
            refusal = transports.refusal() if isinstance(error, InvalidFrameError) else None
            raise errors.connecting(refusal or error, self.address) from refusal or error
        transports.greeted()
        return Connection(client, transports.transport, self.address)

    def _url(self) -> URL:
        address = self._settings.address
        query = {"heartbeat": str(self._settings.heartbeat), **self._options.query}
        return URL.build(
            scheme="amqps" if address.tls else "amqp",
            user=address.login,
            password=address.password,
            host=address.host,
            port=address.port,
            path=f"/{address.virtual_host}",
            query=query,
        )


async def _greeted(client: Client, transports: Transports, timeout: float) -> None:
    """Greet the broker; cut the connection when it does not answer in time.

    Cut first, cancel then: cancelled alone, aiormq says goodbye to a broker that does not listen.

    Raises:
        TimeoutError: It did not answer in time.

    """
    greeting = asyncio.create_task(client.greet(), name="pyfly rabbitmq greeting")
    try:
        answered, _ = await asyncio.wait((greeting,), timeout=timeout)
    finally:
        if not greeting.done():
            transports.abort()
            greeting.cancel()
            await asyncio.wait((greeting, _closing(client)), timeout=_ABORT_TIMEOUT_S)
            if greeting.done() and not greeting.cancelled():
                greeting.exception()  # so that asyncio does not report it
    if not answered:
        raise TimeoutError(f"no answer within {timeout:g} s")
    greeting.result()


async def _answered(step: Coroutine[Any, Any, T]) -> T:
    async with asyncio.timeout(_ANSWER_TIMEOUT_S):
        return await step


async def _close_channel(channel: AbstractChannel) -> None:
    await channel.close()


def _closing(client: Client) -> asyncio.Task[None]:
    """Begin to close a connection; what still waits for it gets this error."""
    error = ConnectionClosed(200, "closed by this side")
    return asyncio.create_task(client.close(error), name="pyfly rabbitmq close")


def _cause(closing: asyncio.Future[Any]) -> BaseException | None:
    return None if closing.cancelled() else closing.exception()
