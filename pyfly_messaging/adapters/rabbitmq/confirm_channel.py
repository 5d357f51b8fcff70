"""Sending: one channel with confirms, opened again when it was lost."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiormq import spec
from aiormq.exceptions import (
    ChannelClosed,
    ChannelInvalidStateError,
    ChannelNotFoundEntity,
)

from pyfly_messaging.adapters.rabbitmq import errors
from pyfly_messaging.adapters.rabbitmq.codec import encode
from pyfly_messaging.adapters.rabbitmq.reconnecting_connection import ReconnectingConnection
from pyfly_messaging.adapters.rabbitmq.topology import Topology
from pyfly_messaging.errors import BrokerError, BrokerUnavailableError
from pyfly_messaging.logs import get_logger

if TYPE_CHECKING:
    from aiormq.channel import Channel

    from pyfly_messaging.adapters.rabbitmq.connection import Connection

logger = get_logger("pyfly_messaging.rabbitmq")

# Before the next try to open a channel on a connection that could be made. Seconds.
_OPEN_AGAIN_AFTER_S = 0.1
# For a channel that carried a single message to close. Seconds.
_CLOSE_TIMEOUT_S = 5.0


@dataclass(slots=True)
class _Outgoing:
    """A message as it is sent, each time with the same id."""

    topic: str
    value: bytes
    properties: spec.Basic.Properties
    mandatory: bool


class ConfirmChannel:
    """Sends messages, for as long as it takes until each is confirmed or refused.

    What was under way when the connection broke is sent again. It serves one event loop.

    Args:
        reconnecting: The connection to send on.
        topology: Declares the exchange.
        on_no_exchange: Called when the exchange is gone.

    Attributes:
        room_for_headers: Bytes that the headers of one message may take.

    """

    def __init__(
        self,
        reconnecting: ReconnectingConnection,
        topology: Topology,
        on_no_exchange: Callable[[], None],
    ) -> None:
        self.room_for_headers = 0
        self._reconnecting = reconnecting
        self._topology = topology
        self._exchange = topology.exchange
        self._on_no_exchange = on_no_exchange
        self._opening = asyncio.Lock()
        self._alone = asyncio.Lock()
        self._channel: Channel | None = None
        self._connection: Connection | None = None
        self._ids = map(f"{secrets.token_hex(8)}-{{}}".format, itertools.count(1))

    async def open(self) -> None:
        """Connect, declare the exchanges and open the channel; try until it works.

        Raises:
            AuthenticationError, TopologyError: The broker refused.
            BrokerUnavailableError: There will be no connection.

        """
        await self._ready()

    async def send(
        self,
        topic: str,
        value: bytes,
        key: bytes | None,
        headers: Mapping[str, str] | None,
        *,
        mandatory: bool,
    ) -> None:
        """Send a persistent message; return when RabbitMQ has confirmed it.

        Raises:
            UnroutableError: No queue takes it, and it is mandatory.
            PublishError: It was refused, or there will be no connection.

        """
        channel = self._channel
        if channel is None or channel.is_closed:
            channel = await self._opened(topic)
        properties = encode(key, headers, next(self._ids), self.room_for_headers)
        message = _Outgoing(topic, value, properties, mandatory)
        try:
            await self._send(channel, message)
        except errors.CLIENT_ERRORS as error:
            errors.reraise_if_cancelled(error)
            await self._send_again(error, channel, message)

    async def _send(self, channel: Channel, message: _Outgoing) -> None:
        connection = self._connection
        assert connection is not None  # noqa: S101 - it has the channel
        if connection.blocked is not None:
            await connection.unblocked()
        try:
            await channel.basic_publish(
                message.value,
                exchange=self._exchange,
                routing_key=message.topic,
                properties=message.properties,
                mandatory=message.mandatory,
                wait=False,
            )
        except errors.NO_FRAME as error:
            if channel.is_closed:  # by a frame that it could not read
                raise ChannelInvalidStateError(errors.describe(error)) from error
            raise errors.publishing(error, message.topic) from error

    async def _send_again(self, error: BaseException, channel: Channel, message: _Outgoing) -> None:
        """Decide what follows a failed attempt: the error, or another attempt."""
        while True:
            if not channel.is_closed:
                raise errors.publishing(error, message.topic) from error
            if isinstance(error, ChannelNotFoundEntity):
                self._on_no_exchange()
            if isinstance(error, ChannelClosed):
                await self._send_alone(message)
                return
            logger.debug("publish to %r: %s; sent again", message.topic, errors.describe(error))
            channel = await self._opened(message.topic)
            try:
                await self._send(channel, message)
            except errors.CLIENT_ERRORS as next_error:
                errors.reraise_if_cancelled(next_error)
                error = next_error
            else:
                return

    async def _send_alone(self, message: _Outgoing) -> None:
        """Send on a channel of its own.

        RabbitMQ answers a message that it refuses (one that is too large, say) by closing the
        channel, and so fails all that were under way there. Which one it was shows when each is
        sent alone.
        """
        async with self._alone:
            while True:
                channel = await self._opened(message.topic, alone=True)
                try:
                    await self._send(channel, message)
                except errors.CLIENT_ERRORS as error:
                    errors.reraise_if_cancelled(error)
                    if isinstance(error, ChannelClosed) or not channel.is_closed:
                        raise errors.publishing(error, message.topic) from error
                else:
                    return
                finally:
                    if not channel.is_closed and self._connection is not None:
                        await self._connection.last_step(channel.close(), _CLOSE_TIMEOUT_S)

    async def _opened(self, topic: str, *, alone: bool = False) -> Channel:
        """Return an open channel as soon as there is one.

        Raises:
            PublishError: There will be none.

        """
        try:
            return await self._ready(alone=alone)
        except BrokerError as error:
            raise errors.not_published(topic, error) from error

    async def _ready(self, *, alone: bool = False) -> Channel:
        """Return an open channel as soon as there is one: that of all publishes, or a new one."""
        while True:
            try:
                if alone:
                    return await self._open()
                async with self._opening:
                    if self._channel is None or self._channel.is_closed:
                        self._channel = await self._open()
                    return self._channel
            except BrokerUnavailableError as error:
                if errors.is_final(error):
                    raise
                logger.debug("RabbitMQ: no channel to publish on: %s", error)
            await asyncio.sleep(_OPEN_AGAIN_AFTER_S)

    async def _open(self) -> Channel:
        connection = await self._reconnecting.connection()
        await connection.declare(self._topology.declare_exchanges)
        self.room_for_headers = connection.room_for_headers
        self._connection = connection
        return await connection.publishing_channel()
