"""The port on RabbitMQ."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Self

from pyfly_messaging.adapters.rabbitmq import errors
from pyfly_messaging.adapters.rabbitmq.connection import Connector
from pyfly_messaging.adapters.rabbitmq.consumers import Consumers, TopologyCheck
from pyfly_messaging.adapters.rabbitmq.publisher import Publisher
from pyfly_messaging.adapters.rabbitmq.reconnecting_connection import ReconnectingConnection
from pyfly_messaging.adapters.rabbitmq.topology import Topology
from pyfly_messaging.adapters.rabbitmq.unknown_topics import UnknownTopics
from pyfly_messaging.delivery.dead_letter import ORIGINAL_TOPIC
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.lifecycle import Lifecycle
from pyfly_messaging.delivery.registry import Registry
from pyfly_messaging.delivery.subscription import Subscription
from pyfly_messaging.delivery.uninterrupted import close_within, uninterrupted
from pyfly_messaging.errors import (
    BatchPublishError,
    BrokerError,
    BrokerUnavailableError,
    PublishError,
    UnroutableError,
)
from pyfly_messaging.health import Health
from pyfly_messaging.message import Message, check_message
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.ports import MessageHandler
from pyfly_messaging.settings import RabbitSettings

if TYPE_CHECKING:
    from aiormq.abc import AbstractChannel

# What stop() keeps of its time for the farewell: acknowledge, hand back, close. As a share, and in
# seconds at most.
_FAREWELLS_SHARE, _FAREWELLS = 0.25, 3.0


class RabbitMQAdapter:
    """Publishes to and consumes from RabbitMQ, through aio-pika.

    Messages go to one durable direct exchange, with the topic as routing key. There is one consumer
    for each queue, on a channel of its own; publishing has a connection of its own, so that a
    broker which stops publishers for lack of memory still takes acknowledgements.

    Args:
        url: ``amqp://`` or ``amqps://user:password@host:port/virtual-host``; the other settings
            have their defaults (`from_settings` takes them all).
        exchange_name: The exchange.
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
        timeouts: Timeouts | None = None,
        policy: ListenerPolicy | None = None,
    ) -> None:
        settings = RabbitSettings.model_validate({"url": url, "exchange_name": exchange_name})
        self._set_up(settings, timeouts, policy)

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
        adapter = cls.__new__(cls)
        adapter._set_up(settings, timeouts, policy)
        return adapter

    def _set_up(
        self, settings: RabbitSettings, timeouts: Timeouts | None, policy: ListenerPolicy | None
    ) -> None:
        self._settings = settings
        self._timeouts = timeouts or Timeouts()
        self._policy = policy or ListenerPolicy()
        self._connector = Connector(settings)
        self._publishing = ReconnectingConnection(self._connector, "publishing")
        self._consuming = ReconnectingConnection(self._connector, "consuming")
        self._topology = Topology(settings, self._policy)
        self._watch = TopologyCheck(self._check)
        self._listened: set[str] = set()
        self._publisher = Publisher(
            self._publishing,
            self._topology,
            self._timeouts.publish,
            mandatory=settings.unroutable == "raise",
            listened=self._listened,
            on_unbound=self._watch.wake,
        )
        self._registry = Registry(self._publish_dead_letter)
        self._lifecycle = Lifecycle(self._open, self._close)
        unknown_topics = UnknownTopics(self._bury, self._policy)
        self._consumers = Consumers(
            self._consuming,
            self._topology,
            unknown_topics,
            prefetch=settings.prefetch,
            grace_period=self._timeouts.shutdown,
        )

    async def publish(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Send a persistent message; return when RabbitMQ confirms that a queue has it.

        While the connection is down it waits for it to come back. A message that was under way
        when the connection broke is sent again, and may then arrive twice. A publish that raises
        may have been taken nevertheless.

        Raises:
            NotStartedError: Before ``start()`` or after ``stop()``.
            UnroutableError: No queue takes the topic, with ``rabbitmq.unroutable: raise``.
            PublishError: Not confirmed within the publish timeout, or refused.
            TypeError: ``value`` or ``key`` is not bytes, or a header is not text.
            ValueError: The topic is not a name that every broker takes.

        """
        check_message(topic, value, key, headers)
        await self._publisher.publish(topic, value, key, headers)

    @property
    def default_policy(self) -> ListenerPolicy:
        """The policy of a subscription that comes without one."""
        return self._policy

    async def publish_many(self, messages: Iterable[Message]) -> None:
        """Send messages together; return when RabbitMQ has confirmed them all.

        Raises:
            NotStartedError: Before ``start()`` or after ``stop()``.
            BatchPublishError: Some were not confirmed; it names them, the others were.
            TypeError, ValueError: A message that cannot be published; none was sent.

        """
        batch = list(messages)
        for message in batch:
            check_message(message.topic, message.value, message.key, message.headers)
        outcomes = await self._publisher.publish_many(batch)
        failed = [(i, error) for i, error in enumerate(outcomes) if error is not None]
        if failed:
            raise BatchPublishError(failed, len(batch))

    async def subscribe(
        self,
        topic: str,
        handler: MessageHandler,
        group: str | None = None,
        *,
        policy: ListenerPolicy | None = None,
        name: str | None = None,
    ) -> None:
        """Register a handler; on a running broker, return when its consumer runs.

        Args:
            topic: The topic.
            handler: An async callable.
            group: Handlers of one group share its queue and each message goes to one of them.
                Without one each handler gets every message; processes share the queue
                ``pyfly.{topic}`` unless ``rabbitmq.broadcast`` is ``instance``.
            policy: What happens around the handler; the broker's default if None.
            name: What logs call the listener; by default the handler's qualified name.

        Raises:
            TypeError: The handler is not an async callable.
            ValueError: An impossible topic or group, or the handler listens here already.
            BrokerError: The consumer could not be started; the subscription is taken back.

        """
        subscription = Subscription.of(
            topic, handler, group, policy=policy or self._policy, name=name
        )
        route, _ = self._registry.add(subscription)
        try:
            await self._in_time(self._consumers.add(route))
        except BaseException:
            self._registry.remove(subscription)
            await uninterrupted(self._consumers.take_back(route))
            raise
        self._listened.add(topic)

    async def start(self) -> None:
        """Connect, declare and consume; return when RabbitMQ says that every consumer is there.

        Raises:
            BrokerUnavailableError: Not all of it within the startup timeout.
            AuthenticationError: At once, when the broker refuses the credentials.
            TopologyError: At once, when a queue or an exchange exists and is another.
            ConfigurationError: At once, when the certificates cannot be used.

        """
        await self._lifecycle.start()

    async def stop(self) -> None:
        """Let running handlers finish, acknowledge what is settled, return the rest, disconnect."""
        await self._lifecycle.stop()

    def health(self) -> Health:
        """Return the state of the broker and of each of its consumers, as it is now."""
        order = [(route.topic, route.group) for route in self._registry]
        consumers = sorted(
            self._consumers.health(), key=lambda health: order.index((health.topic, health.group))
        )
        return Health(
            started=self._lifecycle.running,
            publishing=self._lifecycle.running and self._publisher.is_open,
            consumers=tuple(consumers),
        )

    async def _open(self) -> None:
        self._connector.prepare()
        self._publishing.open()
        self._consuming.open()
        await self._in_time(self._start_all())

    async def _start_all(self) -> None:
        # What waits in a queue comes at once, and its handlers may publish.
        await self._publisher.start()
        await self._consumers.start()
        self._watch.start()

    async def _check(self) -> bool:
        return await self._consumers.check()

    async def _close(self) -> None:
        await close_within(self._timeouts.shutdown - self._farewells, self._release)

    @property
    def _farewells(self) -> float:
        return min(_FAREWELLS, _FAREWELLS_SHARE * self._timeouts.shutdown)

    async def _release(self, handlers: Deadline, caller: asyncio.Task[Any] | None) -> None:
        """Stop in the order that loses nothing, each step within what is left of the time."""
        farewell = self._farewells / 3
        self._watch.halt()
        await self._consumers.stop(handlers, farewell, caller)
        self._registry.sum_up_failures()
        self._publisher.halt()
        await self._publisher.flush(handlers)
        await self._consumers.close(farewell)
        await asyncio.gather(self._consuming.close(farewell), self._publishing.close(farewell))
        await self._watch.halted(farewell)

    async def _in_time(self, starting: Coroutine[Any, Any, None]) -> None:
        """Run a start under the startup timeout."""
        try:
            async with asyncio.timeout(self._timeouts.startup):
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
            await self._bury(letter, letter.headers[ORIGINAL_TOPIC])

    async def _bury(self, letter: Message, topic: str) -> None:
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
