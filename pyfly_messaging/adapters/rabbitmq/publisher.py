"""Publishing: what is sent, by when it is confirmed, and what its error says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Mapping, Sequence

from pyfly_messaging.adapters.rabbitmq import errors
from pyfly_messaging.adapters.rabbitmq.codec import fitting, without_value
from pyfly_messaging.adapters.rabbitmq.confirm_channel import ConfirmChannel
from pyfly_messaging.adapters.rabbitmq.reconnecting_connection import ReconnectingConnection
from pyfly_messaging.adapters.rabbitmq.topology import Topology
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.expiry import Expiry
from pyfly_messaging.errors import NotStartedError, PublishError, UnroutableError
from pyfly_messaging.logs import get_logger
from pyfly_messaging.message import Message

logger = get_logger("pyfly_messaging.rabbitmq")

# Of publish_many: messages in flight at once.
_AT_ONCE = 1000


class Publisher:
    """Sends messages and waits for their confirmation.

    Messages are persistent. A publish waits for a lost connection to come back, and one that was
    under way when it broke is sent again: the broker may then have the message twice, but it is
    not missing.

    Args:
        reconnecting: The connection to publish on.
        topology: Declares the exchange.
        timeout: Seconds by which a publish is confirmed or raises.
        mandatory: Whether a message that no queue takes is an error.
        listened: The topics that this process listens to itself.
        on_unbound: Called when the exchange is gone, or no queue takes one of these topics.

    """

    def __init__(
        self,
        reconnecting: ReconnectingConnection,
        topology: Topology,
        timeout: float,
        *,
        mandatory: bool,
        listened: Container[str],
        on_unbound: Callable[[], None],
    ) -> None:
        self._reconnecting = reconnecting
        self._topology = topology
        self._timeout = timeout
        self._mandatory = mandatory
        self._listened = listened
        self._on_unbound = on_unbound
        self._started = False
        self._set_up()
        self._in_flight = 0

    def _set_up(self) -> None:
        """Have what belongs to one event loop: a broker may be started again on another."""
        self._limit = Expiry(self._timeout)
        self._confirm_channel = ConfirmChannel(self._reconnecting, self._topology, self._on_unbound)
        self._idle: asyncio.Future[None] | None = None
        self._late_at: float | None = None

    async def start(self) -> None:
        """Connect, declare the exchanges and open the channel; try until it works.

        Raises:
            AuthenticationError, TopologyError: The broker refused.
            BrokerUnavailableError: There will be no connection.

        """
        self._set_up()
        await self._confirm_channel.open()
        self._started = True

    @property
    def is_open(self) -> bool:
        """Whether a publish can reach RabbitMQ now, as far as one can know."""
        connection = self._reconnecting.current
        if not self._started or connection is None or connection.blocked is not None:
            return False
        return self._late_at is None or connection.heard_of_since(self._late_at)

    def halt(self) -> None:
        """Begin no more; what is under way goes on."""
        self._started = False

    async def flush(self, deadline: Deadline) -> None:
        """Wait until everything under way is confirmed, until the deadline."""
        if not self._in_flight:
            return
        self._idle = asyncio.get_running_loop().create_future()
        if await deadline.wait((self._idle,)):
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

        What RabbitMQ cannot carry is left out. Every other refusal may pass, such as that of a
        queue that is full.

        Raises:
            NotStartedError: Not started, or stopped.
            PublishError: Not confirmed within the timeout, or refused.

        """
        try:
            await self._publish_letter(letter)
        except PublishError as error:
            if not errors.is_too_large(error):
                raise
            logger.warning(
                "RabbitMQ: dead letter to %s without the value of its message, of %d bytes: %s",
                letter.topic,
                len(letter.value),
                error,
            )
            await self._publish_letter(without_value(letter))

    async def _publish_letter(self, letter: Message) -> None:
        kept = fitting(letter, self._confirm_channel.room_for_headers)
        await self._publish(
            kept.topic, kept.value, kept.key, kept.headers, mandatory=True, limit=self._limit
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
        # A topic of our own that no queue takes has lost its binding: RabbitMQ does not report it.
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
                await self._confirm_channel.send(topic, value, key, headers, mandatory=mandatory)
        except TimeoutError as error:
            self._late_at = asyncio.get_running_loop().time()
            raise self._late(topic) from error
        finally:
            self._in_flight -= 1
            if not self._in_flight and self._idle is not None and not self._idle.done():
                self._idle.set_result(None)

    def _late(self, topic: str) -> PublishError:
        failure, connection = self._reconnecting.failure, self._reconnecting.current
        why = f"; there is no connection: {failure}" if failure is not None else ""
        if connection is not None and connection.blocked is not None:
            why = f"; RabbitMQ takes no messages now: {connection.blocked}"
        return PublishError(
            f"publish to {topic!r} was not confirmed by RabbitMQ at {self._topology.address} within"
            f" {self._timeout:g} s (publish-timeout); whether it was taken is unknown{why}"
        )
