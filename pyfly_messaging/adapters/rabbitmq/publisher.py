"""Publishing: one channel with confirms, opened again when it was lost."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiormq import spec
from aiormq.exceptions import ChannelClosed

from pyfly_messaging.adapters.rabbitmq import errors
from pyfly_messaging.adapters.rabbitmq.codec import encode, fitting
from pyfly_messaging.adapters.rabbitmq.link import Link
from pyfly_messaging.adapters.rabbitmq.topology import Topology
from pyfly_messaging.delivery.expiry import Expiry
from pyfly_messaging.errors import (
    BrokerError,
    BrokerUnavailableError,
    NotStartedError,
    PublishError,
)
from pyfly_messaging.message import Message

if TYPE_CHECKING:
    from aiormq.channel import Channel

logger = logging.getLogger("pyfly_messaging.rabbitmq")

# Of publish_many: messages in flight at once.
_AT_ONCE = 1000
# Before the next try to open a channel on a connection that could be made. Seconds.
_PAUSE = 0.1


@dataclass(slots=True)
class _Outgoing:
    """A message as it is sent, each time with the same id."""

    topic: str
    value: bytes
    properties: spec.Basic.Properties
    mandatory: bool


class Publisher:
    """Sends messages and waits for their confirmation.

    Messages are persistent. A publish waits for a lost connection to come back, and one that was
    under way when it broke is sent again: the broker may then have the message twice, but it is
    not missing.

    Args:
        link: The connection to publish on.
        topology: Declares the exchange.
        timeout: Seconds by which a publish is confirmed or raises.
        mandatory: Whether a message that no queue takes is an error.

    """

    def __init__(self, link: Link, topology: Topology, timeout: float, *, mandatory: bool) -> None:
        self._link = link
        self._topology = topology
        self._exchange = topology.exchange
        self._limit = Expiry(timeout)
        self._mandatory = mandatory
        self._started = False
        self._channel: Channel | None = None
        self._room = 0
        self._opening = asyncio.Lock()
        self._alone = asyncio.Lock()
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._ids = map(f"{secrets.token_hex(8)}-{{}}".format, itertools.count(1))

    async def start(self) -> None:
        """Connect, declare the exchanges and open the channel; try until it works.

        Raises:
            AuthenticationError, TopologyError: The broker refused.
            BrokerUnavailableError: There will be no connection.

        """
        self._channel = None
        await self._ready()
        self._started = True

    def halt(self) -> None:
        """Begin no more; what is under way goes on."""
        self._started = False

    async def flush(self, timeout: float) -> None:
        """Wait until everything under way is confirmed, for ``timeout`` seconds at most."""
        if not self._in_flight:
            return
        self._idle.clear()
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            logger.warning("RabbitMQ: stopped with %d messages unconfirmed", self._in_flight)

    async def publish(
        self,
        topic: str,
        value: bytes,
        key: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a message and wait for its confirmation.

        Raises:
            NotStartedError: Not started, or stopped.
            UnroutableError: No queue takes it, and that is an error.
            PublishError: Not confirmed within the timeout, or refused.

        """
        await self._publish(topic, value, key, headers, self._mandatory)

    async def publish_dead_letter(self, letter: Message) -> None:
        """Send a dead letter, which must be taken by a queue whatever the settings say.

        Raises:
            NotStartedError: Not started, or stopped.
            PublishError: Not confirmed within the timeout, or refused.

        """
        headers = fitting(letter.headers, letter.key, self._room)
        await self._publish(letter.topic, letter.value, letter.key, headers, mandatory=True)

    async def publish_many(self, messages: Sequence[Message]) -> list[BaseException | None]:
        """Send messages together; return for each what became of it, None when it is taken.

        Raises:
            NotStartedError: Not started, or stopped.

        """
        if not self._started:
            raise NotStartedError
        outcomes: list[BaseException | None] = []
        for start in range(0, len(messages), _AT_ONCE):
            outcomes += await asyncio.gather(
                *(
                    self.publish(m.topic, m.value, m.key, m.headers)
                    for m in messages[start : start + _AT_ONCE]
                ),
                return_exceptions=True,
            )
        return outcomes

    async def _publish(
        self,
        topic: str,
        value: bytes,
        key: bytes | None,
        headers: Mapping[str, str] | None,
        mandatory: bool,
    ) -> None:
        if not self._started:
            raise NotStartedError
        self._in_flight += 1
        try:
            with self._limit:
                channel = self._channel
                if channel is None or channel.is_closed:
                    channel = await self._opened(topic)
                properties = encode(key, headers, next(self._ids), self._room)
                message = _Outgoing(topic, value, properties, mandatory)
                try:
                    await self._send(channel, message)
                except errors.CLIENT_ERRORS as error:
                    errors.reraise_if_cancelled(error)
                    await self._send_again(error, channel, message)
        except TimeoutError as error:
            raise self._late(topic) from error
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    def _late(self, topic: str) -> PublishError:
        failure = self._link.failure
        why = f"; there is no connection: {failure}" if failure is not None else ""
        return PublishError(
            f"publish to {topic!r} was not confirmed by RabbitMQ at {self._topology.address} within"
            f" {self._limit.seconds:g} s (publish-timeout); whether it was taken is unknown{why}"
        )

    async def _send(self, channel: Channel, message: _Outgoing) -> None:
        await channel.basic_publish(
            message.value,
            exchange=self._exchange,
            routing_key=message.topic,
            properties=message.properties,
            mandatory=message.mandatory,
            wait=False,
        )

    async def _send_again(self, error: BaseException, channel: Channel, message: _Outgoing) -> None:
        """Decide what follows a failed attempt: the error, or another attempt."""
        while True:
            if not channel.is_closed:
                raise errors.publishing(error, message.topic) from error
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
                    if not channel.is_closed:
                        await channel.close()

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
            await asyncio.sleep(_PAUSE)

    async def _open(self) -> Channel:
        connection = await self._link.connection()
        async with connection.channel() as channel:
            await self._topology.declare_exchanges(channel)
        self._room = connection.room_for_headers
        return await connection.publishing_channel()
