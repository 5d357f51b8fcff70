"""`KafkaAdapter`: how a `Broker` connects, consumes, sends and closes on Apache Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Self

from pyfly_messaging.adapters.kafka.assignment import handling
from pyfly_messaging.adapters.kafka.client import Client
from pyfly_messaging.adapters.kafka.codec import encode
from pyfly_messaging.adapters.kafka.dead_letters import DeadLetters
from pyfly_messaging.adapters.kafka.publisher import Publisher
from pyfly_messaging.adapters.kafka.redaction import SecretsWithheld
from pyfly_messaging.adapters.kafka.supervisor import Supervisor
from pyfly_messaging.adapters.kafka.topics import Topics
from pyfly_messaging.delivery.broker import Broker, all_or_none
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.delivery.subscription import Subscription
from pyfly_messaging.errors import BrokerError, NotStartedError
from pyfly_messaging.health import ConsumerHealth
from pyfly_messaging.logs import get_logger
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.ports import MessageHandler
from pyfly_messaging.settings import KafkaSettings

logger = get_logger("pyfly_messaging.kafka")

_SECRETS_WITHHELD = SecretsWithheld()


class KafkaAdapter(Broker):
    """Publishes to and consumes from Apache Kafka, through aiokafka.

    The handlers of a named group share a consumer of their topic; it starts where the group has
    committed last, at first from ``kafka.auto-offset-reset``. A listener without a group reads
    every partition from its end, and commits nothing.

    A publish returns when the replicas that ``kafka.acks`` asks for have the message. The key
    chooses the partition; messages that are published together keep their order within a
    partition, and the publish timeout is one for all of them. A publish that raises may have been
    written nevertheless.

    A subscribe inside a handler of the same group returns before its consumer is positioned: the
    group rebalances for the new consumer, and for that waits until this handler has finished.

    Args:
        bootstrap_servers: ``host:port``, several with commas or as a sequence; the other settings
            have their defaults.
        settings: All settings, instead of the addresses.
        timeouts: The deadlines of publish, start and stop, in seconds.
        policy: The policy of subscriptions that come without one.

    Raises:
        pydantic.ValidationError: An address that is none.

    """

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str] = "localhost:9092",
        *,
        settings: KafkaSettings | None = None,
        timeouts: Timeouts | None = None,
        policy: ListenerPolicy | None = None,
    ) -> None:
        super().__init__(timeouts=timeouts, policy=policy)
        if settings is None:
            settings = KafkaSettings.model_validate({"bootstrap_servers": bootstrap_servers})
        self._client = Client(settings)
        timeouts = self._timeouts
        self._topics = Topics(self._client)
        self._publisher = Publisher(self._client, self._topics, timeouts.publish)
        self._publish = self._publisher.publish
        self._dead_letters = DeadLetters(self._client, self._publisher, timeouts.publish)
        self._later: set[asyncio.Task[None]] = set()  # subscriptions made inside handlers
        self._consumers: dict[Route, Supervisor] = {}
        self._listening = False
        # The other members of the group wait for ours to hand over its partitions.
        self._grace = min(timeouts.shutdown, settings.max_poll_interval / 2)

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
        return cls(settings=settings, timeouts=timeouts, policy=policy)

    async def subscribe(
        self,
        topic: str,
        handler: MessageHandler,
        group: str | None = None,
        *,
        policy: ListenerPolicy | None = None,
        name: str | None = None,
    ) -> None:
        """Register a handler; see `Broker.subscribe`."""
        with _SECRETS_WITHHELD:
            await super().subscribe(topic, handler, group, policy=policy, name=name)

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
            await super().start()

    async def stop(self) -> None:
        """Let running handlers finish, commit what is settled, flush and disconnect."""
        with _SECRETS_WITHHELD:
            await super().stop()

    async def _open(self, deadline: Deadline) -> None:
        self._listening = True
        await self._publisher.start(deadline)

    async def _listen_to_all(self, routes: Sequence[Route], deadline: Deadline) -> None:
        topics = [topic for route in routes for topic in self._topics_of(route)]
        await self._topics.ensure(topics, deadline)
        await all_or_none(self._join(route, deadline) for route in routes)
        # The member that joined a group last has made its other members join again.
        await all_or_none(consumer.positioned(deadline) for consumer in self._consumers.values())

    async def _listen(self, route: Route, deadline: Deadline) -> None:
        subscription = route.subscriptions[-1]  # the one that has just come
        await self._topics.ensure(self._topics_of(route), deadline)
        handled = handling.get()
        if route.group is not None and handled is not None and route.group == handled.group:
            self._join_later(route, subscription)
        else:
            await self._join(route, deadline)

    async def _join(self, route: Route, deadline: Deadline) -> None:
        """Start the consumer of a route, or wait until another call has."""
        if not self._listening:
            raise NotStartedError
        if (consumer := self._consumers.get(route)) is None:
            consumer = self._consumers[route] = Supervisor(
                self._client, route, self._grace, self._dead_letters
            )
        await consumer.start(deadline)

    def _join_later(self, route: Route, subscription: Subscription) -> None:
        async def join() -> None:
            try:
                await self._join(route, Deadline(self._timeouts.startup))
            except BrokerError as error:
                await self._take_back(subscription, route)
                logger.error("Kafka: listener %s does not listen: %s", subscription.name, error)

        task = asyncio.create_task(join(), name=f"pyfly kafka subscribe {subscription.name}")
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _unlisten(self, route: Route) -> None:
        if self._listening and route in self._consumers:
            await self._consumers[route].stop(Deadline(0))
            self._consumers.pop(route, None)

    async def _close(self, deadline: Deadline, caller: asyncio.Task[Any] | None) -> None:
        self._listening = False
        for task in self._later:
            task.cancel()
        if self._later:  # a consumer that it takes back is stopped by it
            await asyncio.wait(self._later)
        consumers = self._consumers.values()
        stops = (consumer.stop(deadline, caller) for consumer in consumers)
        failures = [e for e in await asyncio.gather(*stops, return_exceptions=True) if e]
        await self._publisher.stop(deadline)
        await self._dead_letters.stop(deadline)
        self._consumers.clear()
        self._topics.forget_all()
        for failure in failures:
            raise failure

    async def _send(
        self, topic: str, value: bytes, key: bytes | None, headers: dict[str, str] | None
    ) -> None:
        with _SECRETS_WITHHELD:
            await self._publish(topic, value, key, headers)

    async def _send_many(self, messages: Sequence[Message]) -> None:
        with _SECRETS_WITHHELD:
            await self._publisher.publish_many([encode(message) for message in messages])

    async def _publish_dead_letter(self, letter: Message, error: BaseException) -> None:
        await self._dead_letters(letter, error)

    def _can_send(self) -> bool:
        return self._publisher.connected

    def _health_of(self, route: Route) -> ConsumerHealth:
        if (consumer := self._consumers.get(route)) is not None:
            return consumer.health()
        return ConsumerHealth(
            name=route.name, topic=route.topic, group=route.group, state="stopped"
        )

    def _topics_of(self, route: Route) -> list[str]:
        """Return the topics that a route needs: its own, and where its dead letters go."""
        if self._client.settings.topics == "ignore":
            return [route.topic]
        dead_letters = (s.policy.dead_letter_topic_for(route.topic) for s in route.subscriptions)
        return [route.topic, *(topic for topic in dead_letters if topic is not None)]
