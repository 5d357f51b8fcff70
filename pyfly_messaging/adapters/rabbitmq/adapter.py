"""`RabbitMQAdapter`: how a `Broker` connects, consumes, sends and closes on RabbitMQ."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from pyfly_messaging.adapters.rabbitmq import errors
from pyfly_messaging.adapters.rabbitmq.connection import Connector
from pyfly_messaging.adapters.rabbitmq.consumers import Consumers, TopologyCheck
from pyfly_messaging.adapters.rabbitmq.publisher import Publisher
from pyfly_messaging.adapters.rabbitmq.reconnecting_connection import ReconnectingConnection
from pyfly_messaging.adapters.rabbitmq.topology import Topology
from pyfly_messaging.adapters.rabbitmq.unknown_topics import UnknownTopics
from pyfly_messaging.delivery.broker import Broker
from pyfly_messaging.delivery.dead_letter import ORIGINAL_TOPIC
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.errors import (
    BatchPublishError,
    BrokerError,
    BrokerUnavailableError,
    PublishError,
    UnroutableError,
)
from pyfly_messaging.health import Health
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.settings import RabbitSettings

if TYPE_CHECKING:
    from aiormq.abc import AbstractChannel

# What stop() keeps of its time to acknowledge, hand back and close: a share of it, and seconds at
# most.
_CLOSE_SHARE, _CLOSE_TIMEOUT_S = 0.25, 3.0


class RabbitMQAdapter(Broker):
    """Publishes to and consumes from RabbitMQ, through aiormq, the engine of aio-pika.

    Messages go to one durable direct exchange, with the topic as routing key. There is one consumer
    for each queue, on a channel of its own; publishing has a connection of its own, so that a
    broker which stops publishers for lack of memory still takes acknowledgements.

    A publish returns when RabbitMQ confirms that a queue has the message; otherwise it raises
    `PublishError`, or `UnroutableError` where no queue takes the topic (``rabbitmq.unroutable:
    raise``). While the connection is down it waits for it to come back. A message that was under
    way when the connection broke is sent again, and may then arrive twice. A publish that raises
    may have been taken nevertheless.

    Handlers of one group share its queue. Without a group each handler gets every message, and
    processes share the queue ``pyfly.{topic}`` unless ``rabbitmq.broadcast`` is ``instance``.

    Args:
        url: ``amqp://`` or ``amqps://user:password@host:port/virtual-host``; the other settings
            have their defaults.
        exchange_name: The exchange.
        settings: All settings, instead of the two above.
        timeouts: The deadlines of publish, start and stop, in seconds.
        policy: The policy of subscriptions that come without one.

    Raises:
        pydantic.ValidationError: An address that is none.

    """

    def __init__(
        self,
        url: str = "amqp://guest:guest@localhost/",
        exchange_name: str = "pyfly",
        *,
        settings: RabbitSettings | None = None,
        timeouts: Timeouts | None = None,
        policy: ListenerPolicy | None = None,
    ) -> None:
        super().__init__(timeouts=timeouts, policy=policy)
        if settings is None:
            settings = RabbitSettings.model_validate({"url": url, "exchange_name": exchange_name})
        self._connector = Connector(settings)
        self._publishing = ReconnectingConnection(self._connector, "publishing")
        self._consuming = ReconnectingConnection(self._connector, "consuming")
        self._topology = Topology(settings, self._policy)
        self._topology_check = TopologyCheck(self._check)
        self._listened: set[str] = set()
        self._publisher = Publisher(
            self._publishing,
            self._topology,
            self._timeouts.publish,
            mandatory=settings.unroutable == "raise",
            listened=self._listened,
            on_unbound=self._topology_check.wake,
        )
        unknown_topics = UnknownTopics(self._dead_letter, self._policy)
        self._consumers = Consumers(
            self._consuming,
            self._topology,
            unknown_topics,
            prefetch=settings.prefetch,
            grace_period=self._timeouts.shutdown,
        )

    @classmethod
    def from_settings(
        cls,
        settings: RabbitSettings,
        *,
        timeouts: Timeouts | None = None,
        policy: ListenerPolicy | None = None,
    ) -> Self:
        """Return a broker for the ``rabbitmq:`` section of the configuration.

        Raises:
            ConfigurationError: ``rabbitmq.options`` has an argument that aio-pika does not take.

        """
        return cls(settings=settings, timeouts=timeouts, policy=policy)

    async def start(self) -> None:
        """Connect, declare and consume; return when RabbitMQ says that every consumer is there.

        Raises:
            BrokerUnavailableError: Not all of it within the startup timeout.
            AuthenticationError: At once, when the broker refuses the credentials.
            TopologyError: At once, when a queue or an exchange exists and is another.
            ConfigurationError: At once, when the certificates cannot be used.

        """
        await super().start()

    async def stop(self) -> None:
        """Let running handlers finish, acknowledge what is settled, return the rest, disconnect."""
        await super().stop()

    def health(self) -> Health:
        """Return the state of the broker and of each of its consumers, as it is now."""
        order = {(route.topic, route.group): n for n, route in enumerate(self._registry)}
        consumers = sorted(self._consumers.health(), key=lambda each: order[each.topic, each.group])
        return replace(super().health(), consumers=tuple(consumers))

    async def _open(self, deadline: Deadline) -> None:
        self._connector.prepare()
        self._publishing.open()
        self._consuming.open()
        await self._in_time(self._start_all(), deadline)

    async def _start_all(self) -> None:
        # What waits in a queue comes at once, and its handlers may publish.
        await self._publisher.start()
        await self._consumers.start()
        self._topology_check.start()

    async def _check(self) -> bool:
        return await self._consumers.check()

    async def _accept(self, route: Route) -> None:
        await self._in_time(self._consumers.add(route), Deadline(self._timeouts.startup))
        self._listened.add(route.topic)

    async def _listen(self, route: Route, deadline: Deadline) -> None:
        """Nothing to do: what is accepted on an open connection is consumed."""

    async def _unlisten(self, route: Route) -> None:
        await self._consumers.take_back(route)

    async def _send(
        self, topic: str, value: bytes, key: bytes | None, headers: dict[str, str] | None
    ) -> None:
        await self._publisher.publish(topic, value, key, headers)

    async def _send_many(self, messages: Sequence[Message]) -> None:
        outcomes = await self._publisher.publish_many(messages)
        failed = [(i, error) for i, error in enumerate(outcomes) if error is not None]
        if failed:
            raise BatchPublishError(failed, len(messages))

    def _can_send(self) -> bool:
        return self._publisher.is_open

    @property
    def _shutdown_timeout(self) -> float:
        return self._timeouts.shutdown - self._close_timeout

    @property
    def _close_timeout(self) -> float:
        return min(_CLOSE_TIMEOUT_S, _CLOSE_SHARE * self._timeouts.shutdown)

    async def _close(self, handlers: Deadline, caller: asyncio.Task[Any] | None) -> None:
        """Stop in the order that loses nothing, each step within what is left of the time."""
        step = self._close_timeout / 3
        self._topology_check.halt()
        await self._consumers.stop(handlers, step, caller)
        self._publisher.halt()
        await self._publisher.flush(handlers)
        await self._consumers.close(step)
        await asyncio.gather(self._consuming.close(step), self._publishing.close(step))
        await self._topology_check.halted(step)

    async def _in_time(self, starting: Coroutine[Any, Any, None], deadline: Deadline) -> None:
        """Run a start until the deadline."""
        try:
            async with asyncio.timeout(deadline.left()):
                await starting
        except TimeoutError as error:
            raise self._unreachable() from error

    def _unreachable(self) -> BrokerUnavailableError:
        links = (self._consuming, self._publishing)
        failures = [link.failure for link in links if link.failure is not None]
        reasons = [why for c in self._consumers if (why := c.state.last_error) is not None]
        if failures:
            reason = errors.describe(failures[0].__cause__ or failures[0])
        else:
            reason = reasons[0] if reasons else "it does not answer"
        return errors.unavailable(
            f"{reason} (startup.timeout: {self._timeouts.startup:g} s)",
            self._connector.address,
            max((1, *(link.attempts for link in links))),
        )

    async def _publish_dead_letter(self, letter: Message, error: BaseException) -> None:
        try:
            await self._publisher.publish_dead_letter(letter)
        except UnroutableError:
            # Its queue has been deleted while the listener ran.
            await self._dead_letter(letter, letter.headers[ORIGINAL_TOPIC])

    async def _dead_letter(self, letter: Message, topic: str) -> None:
        """Declare where the dead letters of a topic go, and publish one there."""

        async def declare(channel: AbstractChannel) -> None:
            await self._topology.declare_exchanges(channel)
            await self._topology.declare_dead_letters(channel, (topic,), letter.topic)

        try:
            async with asyncio.timeout(self._timeouts.publish):
                connection = await self._publishing.connection()
                await connection.declare(declare)
        except (BrokerError, TimeoutError) as error:
            raise PublishError(f"dead letter to {letter.topic!r}: {error}") from error
        await self._publisher.publish_dead_letter(letter)
