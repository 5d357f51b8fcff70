"""The port on Apache Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Self

from pyfly_messaging.adapters.kafka.assignment import handling
from pyfly_messaging.adapters.kafka.client import Client
from pyfly_messaging.adapters.kafka.codec import encode
from pyfly_messaging.adapters.kafka.dead_letters import DeadLetters
from pyfly_messaging.adapters.kafka.publisher import Publisher
from pyfly_messaging.adapters.kafka.redaction import SecretsWithheld, drop_secret_frames
from pyfly_messaging.adapters.kafka.supervisor import Supervisor
from pyfly_messaging.adapters.kafka.topics import Topics
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.lifecycle import Lifecycle
from pyfly_messaging.delivery.registry import Registry
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.delivery.subscription import Subscription
from pyfly_messaging.delivery.uninterrupted import close_within, uninterrupted
from pyfly_messaging.errors import BrokerError, NotStartedError
from pyfly_messaging.health import ConsumerHealth, Health
from pyfly_messaging.logs import get_logger
from pyfly_messaging.message import Message, check_message
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.ports import MessageHandler
from pyfly_messaging.settings import KafkaSettings

logger = get_logger("pyfly_messaging.kafka")

_SECRETS_WITHHELD = SecretsWithheld()


class KafkaAdapter:
    """Publishes to and consumes from Apache Kafka, through aiokafka.

    The handlers of a named group share a consumer of their topic; it starts where the group has
    committed last, at first from ``kafka.auto-offset-reset``. A listener without a group reads
    every partition from its end, and commits nothing.

    Args:
        bootstrap_servers: ``host:port``, several with commas or as a sequence; the other settings
            have their defaults (`from_settings` takes them all).
        timeouts: The deadlines of publish, start and stop, in seconds.
        policy: The policy of subscriptions that come without one.

    Raises:
        pydantic.ValidationError: An address that is none.

    """

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str] = "localhost:9092",
        *,
        timeouts: Timeouts | None = None,
        policy: ListenerPolicy | None = None,
    ) -> None:
        settings = KafkaSettings.model_validate({"bootstrap_servers": bootstrap_servers})
        self._set_up(settings, timeouts, policy)

    @classmethod
    def from_settings(
        cls,
        settings: KafkaSettings,
        *,
        timeouts: Timeouts | None = None,
        policy: ListenerPolicy | None = None,
    ) -> Self:
        """Return a broker for the ``kafka:`` section of the configuration.

        Raises:
            ConfigurationError: ``kafka.options`` has an argument that aiokafka does not take, or
                ``kafka.tls`` a file that cannot be used.

        """
        adapter = cls.__new__(cls)
        adapter._set_up(settings, timeouts, policy)
        return adapter

    def _set_up(
        self, settings: KafkaSettings, timeouts: Timeouts | None, policy: ListenerPolicy | None
    ) -> None:
        self._client = Client(settings)
        self._timeouts = timeouts = timeouts or Timeouts()
        self._policy = policy or ListenerPolicy()
        self._topics = Topics(self._client)
        self._publisher = Publisher(self._client, self._topics, timeouts.publish)
        self._publish = self._publisher.publish
        self._dead_letters = DeadLetters(self._client, self._publisher, timeouts.publish)
        self._registry = Registry(self._dead_letters)
        self._lifecycle = Lifecycle(self._open, self._close)
        self._later: set[asyncio.Task[None]] = set()  # subscriptions made inside handlers
        self._consumers: dict[Route, Supervisor] = {}
        self._listening = False
        # The other members of the group wait for ours to hand over its partitions.
        self._grace = min(timeouts.shutdown, settings.max_poll_interval / 2)

    @property
    def default_policy(self) -> ListenerPolicy:
        """The policy of a subscription that comes without one."""
        return self._policy

    async def publish(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Write a message; return when the replicas that ``kafka.acks`` asks for have it.

        The key chooses the partition. A publish that raises may have been written nevertheless.

        Raises:
            NotStartedError: Before ``start()`` or after ``stop()``.
            PublishError: Not confirmed within the publish timeout, or refused.
            TypeError: ``value`` or ``key`` is not bytes, or a header is not text.
            ValueError: The topic is not a name that every broker takes.

        """
        check_message(topic, value, key, headers)
        with _SECRETS_WITHHELD:
            await self._publish(topic, value, key, headers)

    async def publish_many(self, messages: Iterable[Message]) -> None:
        """Write messages together; return when all of them are written.

        Within a partition they keep their order. The publish timeout is one for all of them.

        Raises:
            NotStartedError: Before ``start()`` or after ``stop()``.
            BatchPublishError: Some were not confirmed; it names them. The others were.
            TypeError, ValueError: As for `publish`; then nothing was sent.

        """
        batch = tuple(messages)
        for message in batch:
            check_message(message.topic, message.value, message.key, message.headers)
        with _SECRETS_WITHHELD:
            await self._publisher.publish_many([encode(message) for message in batch])

    async def subscribe(
        self,
        topic: str,
        handler: MessageHandler,
        group: str | None = None,
        *,
        policy: ListenerPolicy | None = None,
        name: str | None = None,
    ) -> None:
        """Register a handler; on a running broker, return when its consumer is positioned.

        Inside a handler of the same group it returns before: the group rebalances for the new
        consumer, and for that waits until this handler has finished.

        Args:
            topic: The topic.
            handler: An async callable.
            group: The consumer group; without one the handler gets every new message.
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
        if self._lifecycle.running:
            deadline = Deadline(self._timeouts.startup)
            try:
                await self._topics.ensure(self._topics_of(route), deadline)
                handled = handling.get()
                if group is not None and handled is not None and group == handled.group:
                    self._listen_later(route, subscription)
                else:
                    await self._listen(route, deadline)
            except BaseException as error:
                await uninterrupted(self._take_back(subscription, route))
                drop_secret_frames(error)
                raise

    async def start(self) -> None:
        """Connect and consume; return when every listener is assigned and positioned.

        A named group gives its partitions to a new member when its other members have handed
        over theirs, and those of a member that was killed when its session has ended
        (``kafka.session-timeout``). When that lasts longer than the startup timeout, this returns
        then: nothing is missed, and health says ``reconnecting`` until the partitions are there.

        Raises:
            BrokerUnavailableError: Not all of it within the startup timeout. That also is a group
                that has to begin at the end of its topic, and waits for other members.
            AuthenticationError: At once, when the broker refuses the credentials.
            TopologyError: At once, when a topic is missing or cannot be created.

        """
        with _SECRETS_WITHHELD:
            await self._lifecycle.start()

    async def stop(self) -> None:
        """Let running handlers finish, commit what is settled, flush and disconnect."""
        with _SECRETS_WITHHELD:
            await self._lifecycle.stop()

    def health(self) -> Health:
        """Return the state of the broker and of each of its consumers, as it is now."""
        started = self._lifecycle.running
        return Health(
            started=started,
            publishing=started and self._publisher.connected,
            consumers=tuple(self._health_of(route) for route in self._registry),
        )

    def _health_of(self, route: Route) -> ConsumerHealth:
        if (consumer := self._consumers.get(route)) is not None:
            return consumer.health()
        return ConsumerHealth(
            name=route.name, topic=route.topic, group=route.group, state="stopped"
        )

    async def _open(self) -> None:
        deadline = Deadline(self._timeouts.startup)
        self._listening = True
        await self._publisher.start(deadline)
        # Others may subscribe while this goes on.
        while routes := [route for route in self._registry if route not in self._consumers]:
            topics = [topic for route in routes for topic in self._topics_of(route)]
            await self._topics.ensure(topics, deadline)
            await _all(self._listen(route, deadline) for route in routes)
            # Whoever joined a group last has made its other members join again.
            await _all(consumer.positioned(deadline) for consumer in self._consumers.values())

    async def _close(self) -> None:
        await close_within(self._timeouts.shutdown, self._release)

    async def _release(self, deadline: Deadline, caller: asyncio.Task[Any] | None) -> None:
        self._listening = False
        for task in self._later:
            task.cancel()
        if self._later:  # a consumer that it takes back is stopped by it
            await asyncio.wait(self._later)
        consumers = self._consumers.values()
        stops = (consumer.stop(deadline, caller) for consumer in consumers)
        failures = [e for e in await asyncio.gather(*stops, return_exceptions=True) if e]
        self._registry.sum_up_failures()
        await self._publisher.stop(deadline)
        await self._dead_letters.stop(deadline)
        self._consumers.clear()
        self._topics.forget_all()
        for failure in failures:
            raise failure

    async def _listen(self, route: Route, deadline: Deadline) -> None:
        """Start the consumer of a route, or wait for somebody else who does."""
        if not self._listening:
            raise NotStartedError
        if (consumer := self._consumers.get(route)) is None:
            consumer = self._consumers[route] = Supervisor(
                self._client, route, self._grace, self._dead_letters
            )
        await consumer.start(deadline)

    async def _take_back(self, subscription: Subscription, route: Route) -> None:
        """Remove a subscription, and its consumer unless another one waits for it too."""
        self._registry.remove(subscription)
        if self._listening and not route.subscriptions and route in self._consumers:
            await self._consumers[route].stop(Deadline(0))
            self._consumers.pop(route, None)

    def _listen_later(self, route: Route, subscription: Subscription) -> None:
        async def listen() -> None:
            try:
                await self._listen(route, Deadline(self._timeouts.startup))
            except BrokerError as error:
                await uninterrupted(self._take_back(subscription, route))
                logger.error("Kafka: listener %s does not listen: %s", subscription.name, error)

        task = asyncio.create_task(listen(), name=f"pyfly kafka subscribe {subscription.name}")
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    def _topics_of(self, route: Route) -> list[str]:
        """Return the topics that a route needs: its own, and where its dead letters go."""
        if self._client.settings.topics == "ignore":
            return [route.topic]
        dead_letters = (s.policy.dead_letter_topic_for(route.topic) for s in route.subscriptions)
        return [route.topic, *(topic for topic in dead_letters if topic is not None)]


async def _all(steps: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run steps at once; when one fails, cancel the others and raise what it raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(step)
    except BaseExceptionGroup as failed:
        error = failed.exceptions[0]
        raise error from error.__cause__
