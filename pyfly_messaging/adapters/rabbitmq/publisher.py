"""Publishing: one channel with confirms, opened again when it was lost."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiormq import spec
from aiormq.exceptions import ChannelClosed, ChannelNotFoundEntity

from pyfly_messaging.adapters.rabbitmq import errors
from pyfly_messaging.adapters.rabbitmq.codec import encode, fitting
from pyfly_messaging.adapters.rabbitmq.link import Link
from pyfly_messaging.adapters.rabbitmq.topology import Topology
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.expiry import Expiry
from pyfly_messaging.errors import (
    BrokerError,
    BrokerUnavailableError,
    NotStartedError,
    PublishError,
    UnroutableError,
)
from pyfly_messaging.message import Message

if TYPE_CHECKING:
    from aiormq.channel import Channel

    from pyfly_messaging.adapters.rabbitmq.connection import Connection

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
        listened: The topics that this process listens to itself.
        on_unbound: Called when the exchange is gone, or no queue takes one of these topics.

    """

    def __init__(
        self,
        link: Link,
        topology: Topology,
        timeout: float,
        *,
        mandatory: bool,
        listened: Container[str],
        on_unbound: Callable[[], None],
    ) -> None:
        self._link = link
        self._topology = topology
        self._exchange = topology.exchange
        self._timeout = timeout
        self._mandatory = mandatory
        self._listened = listened
        self._on_unbound = on_unbound
        self._started = False
        self._set_up()
        self._room = 0
        self._in_flight = 0
        self._ids = map(f"{secrets.token_hex(8)}-{{}}".format, itertools.count(1))

    def _set_up(self) -> None:
        """Have what belongs to one event loop: a broker may be started again on another."""
        self._limit = Expiry(self._timeout)
        self._opening = asyncio.Lock()
        self._alone = asyncio.Lock()
        self._idle = asyncio.Event()
        self._channel: Channel | None = None
        self._connection: Connection | None = None
        self._late_at: float | None = None

    async def start(self) -> None:
        """Connect, declare the exchanges and open the channel; try until it works.

        Raises:
            AuthenticationError, TopologyError: The broker refused.
            BrokerUnavailableError: There will be no connection.

        """
        self._set_up()
        await self._ready()
        self._started = True

    @property
    def is_open(self) -> bool:
        """Whether a publish can reach RabbitMQ now, as far as one can know."""
        connection = self._link.current
        if not self._started or connection is None or connection.blocked is not None:
            return False
        return self._late_at is None or connection.heard_of_since(self._late_at)

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
        await self._publish_within(self._limit, topic, value, key, headers)

    async def publish_dead_letter(self, letter: Message) -> None:
        """Send a dead letter, which must be taken by a queue whatever the settings say.

        Raises:
            NotStartedError: Not started, or stopped.
            PublishError: Not confirmed within the timeout, or refused.

        """
        headers = fitting(letter.headers, letter.key, self._room)
        await self._publish(
            letter.topic, letter.value, letter.key, headers, mandatory=True, limit=self._limit
        )

    async def publish_many(self, messages: Sequence[Message]) -> list[BaseException | None]:
        """Send messages together; return for each what became of it, None when it is taken.

        Raises:
            NotStartedError: Not started, or stopped.

        """
        if not self._started:
            raise NotStartedError
        deadline = Deadline(self._timeout)
        outcomes: list[BaseException | None] = []
        for start in range(0, len(messages), _AT_ONCE):
            some = messages[start : start + _AT_ONCE]
            if not (left := deadline.left()):
                outcomes += [self._late(message.topic) for message in some]
                continue
            limit = Expiry(left)
            outcomes += await asyncio.gather(
                *(self._publish_within(limit, m.topic, m.value, m.key, m.headers) for m in some),
                return_exceptions=True,
            )
        return outcomes

    async def _publish_within(
        self,
        limit: Expiry,
        topic: str,
        value: bytes,
        key: bytes | None,
        headers: Mapping[str, str] | None,
    ) -> None:
        # A topic of our own that no queue takes has lost its binding, which nobody else tells.
        mandatory = self._mandatory or topic in self._listened
        try:
            await self._publish(topic, value, key, headers, mandatory=mandatory, limit=limit)
        except UnroutableError:
            if topic in self._listened:
                self._on_unbound()
            if self._mandatory:
                raise

    async def _publish(
        self,
        topic: str,
        value: bytes,
        key: bytes | None,
        headers: Mapping[str, str] | None,
        *,
        mandatory: bool,
        limit: Expiry,
    ) -> None:
        if not self._started:
            raise NotStartedError
        self._in_flight += 1
        try:
            with limit:
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
            self._late_at = asyncio.get_running_loop().time()
            raise self._late(topic) from error
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    def _late(self, topic: str) -> PublishError:
        failure, connection = self._link.failure, self._link.current
        why = f"; there is no connection: {failure}" if failure is not None else ""
        if connection is not None and connection.blocked is not None:
            why = f"; RabbitMQ takes no messages now: {connection.blocked}"
        return PublishError(
            f"publish to {topic!r} was not confirmed by RabbitMQ at {self._topology.address} within"
            f" {self._timeout:g} s (publish-timeout); whether it was taken is unknown{why}"
        )

    async def _send(self, channel: Channel, message: _Outgoing) -> None:
        connection = self._connection
        assert connection is not None  # noqa: S101 - it has the channel
        if connection.blocked is not None:
            await connection.unblocked()
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
            if isinstance(error, ChannelNotFoundEntity):
                self._on_unbound()
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
        self._connection = connection
        return await connection.publishing_channel()
