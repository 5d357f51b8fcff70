"""Exchanges, queues and bindings: their names, types and arguments, and how they are declared.

::

    publish ──> {exchange} ──topic──> {group}  or  pyfly.{topic}         consumed
                    │                     │ delivery limit
                    │                     v
                    │              {exchange}.dlx ──topic──┬──> {group of the dead-letter topic}
                    └──dead-letter topic───────────────────┴──> pyfly.{dead-letter topic}

A queue's arguments do not depend on the topics it carries, so a group that listens to one more
topic tomorrow declares the same queue. There is no ``x-dead-letter-routing-key`` for that reason:
what the broker itself dead-letters, because it was delivered too often, keeps its topic as the
routing key, and what listens to the dead-letter topic is bound to the dead-letter exchange by it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyfly_messaging.adapters.rabbitmq.errors import mapped_call
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.errors import TopologyError

if TYPE_CHECKING:
    from aiormq.abc import AbstractChannel

    from pyfly_messaging.policy import ListenerPolicy
    from pyfly_messaging.settings import RabbitSettings

PREFIX = "pyfly."

# How often RabbitMQ delivers a message of a quorum queue before it gives up. It is RabbitMQ 4's
# default; 3.x has none, and a message that brings its consumers down would return for ever.
DELIVERY_LIMIT = 20

# What pamqp lets pass as a name (its constants.DOMAIN_REGEX), within AMQP's 255 bytes.
_QUEUE_NAME = re.compile(r"[a-zA-Z0-9_.:@#,/+ -]{1,255}")


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue that is consumed.

    Attributes:
        name: Its name; of a queue that belongs to this process, the beginning of it.
        own: Whether it belongs to this process and ends with its connection.

    """

    name: str
    own: bool = False


class Topology:
    """Names and declares what the settings ask for. Declaring is idempotent.

    What declares takes an open channel, which RabbitMQ closes when it refuses. It raises
    `TopologyError` when something exists and is another, `AuthenticationError` when the user may
    not, and `BrokerUnavailableError` when the connection was lost.

    Args:
        settings: The settings of the adapter.
        policy: The default policy, which names dead-letter topics.

    Attributes:
        exchange: Where everything is published to.
        dead_letter_exchange: Where queues put what was delivered too often.
        address: Where RabbitMQ is, without the password.

    """

    def __init__(self, settings: RabbitSettings, policy: ListenerPolicy) -> None:
        self.exchange = settings.exchange_name
        self.dead_letter_exchange = f"{settings.exchange_name}.dlx"
        self.source_of = policy.source_of
        self._settings = settings
        self.address = settings.redacted_url

    def queue(self, topic: str, group: str | None) -> Queue:
        """Return the queue of a (topic, group).

        Raises:
            ValueError: The group is no name that RabbitMQ's client takes for a queue.

        """
        if group is None:
            return Queue(PREFIX + topic, own=self._settings.broadcast == "instance")
        name = group if self._settings.queue_naming == "group" else f"{group}.{topic}"
        if _QUEUE_NAME.fullmatch(name) is None:
            raise ValueError(
                f"group {group!r} gives the queue name {name!r:.80}; RabbitMQ queues of this client"
                " have 1 to 255 ASCII letters, digits, spaces and '_.:@#,/+-'"
            )
        return Queue(name)

    def counts_deliveries(self, queue: Queue) -> bool:
        """Tell whether RabbitMQ itself counts how often it delivers a message of this queue."""
        return not queue.own and self._settings.queue_type == "quorum"

    async def declare_all(
        self, channel: AbstractChannel, queue: Queue, routes: Iterable[Route]
    ) -> str:
        """Declare the exchanges, a queue, and what its routes need; return the queue's name."""
        routes = tuple(routes)
        await self.declare_exchanges(channel)
        name = await self.declare(channel, queue)
        for target, topics in self.dead_letters(routes).items():
            await self.declare_dead_letters(channel, topics, target)
        await self._bind_topics(channel, name, routes)
        return name

    async def declare_bound(
        self, channel: AbstractChannel, queue: Queue, routes: Iterable[Route]
    ) -> str:
        """Declare a queue and bind it to its topics; return its name.

        The exchanges and the queues of dead letters come first: messages come as soon as the queue
        is bound.
        """
        name = await self.declare(channel, queue)
        await self._bind_topics(channel, name, routes)
        return name

    def dead_letters(self, routes: Iterable[Route]) -> dict[str, tuple[str, ...]]:
        """Return the dead-letter topics of routes, with the topics whose messages come there."""
        targets: dict[str, dict[str, None]] = {}
        for route in routes:
            for subscription in route.subscriptions:
                target = subscription.policy.dead_letter_topic_for(route.topic)
                if target is not None:
                    targets.setdefault(target, {})[route.topic] = None
        return {target: tuple(topics) for target, topics in targets.items()}

    async def declare_exchanges(self, channel: AbstractChannel) -> None:
        """Declare the exchange and the dead-letter exchange, both durable and direct."""
        for exchange in (self.exchange, self.dead_letter_exchange):
            with mapped_call(f"the exchange {exchange!r}", self.address):
                await channel.exchange_declare(exchange, exchange_type="direct", durable=True)

    async def missing_exchange(self, channel: AbstractChannel) -> str | None:
        """Return the first exchange that is not there; RabbitMQ then closes the channel."""
        for exchange in (self.exchange, self.dead_letter_exchange):
            try:
                with mapped_call(f"the exchange {exchange!r}", self.address):
                    await channel.exchange_declare(exchange, passive=True)
            except TopologyError:
                return exchange
        return None

    async def consumers(self, channel: AbstractChannel, queue: str) -> int:
        """Return how many consumers a queue has, in whatever process."""
        with mapped_call(f"the queue {queue!r}", self.address):
            declared = await channel.queue_declare(queue, passive=True)
        return declared.consumer_count or 0

    async def declare(self, channel: AbstractChannel, queue: Queue) -> str:
        """Declare a queue and return its name."""
        if not queue.own:
            with mapped_call(f"the queue {queue.name!r}", self.address):
                await channel.queue_declare(queue.name, durable=True, arguments=self._arguments())
            return queue.name
        # A new name each time: after a cut the old one may be there until RabbitMQ notices.
        name = f"{queue.name[:240]}.{secrets.token_hex(6)}"
        with mapped_call(f"the queue {name!r}", self.address):
            await channel.queue_declare(
                name, exclusive=True, auto_delete=True, arguments={"x-queue-type": "classic"}
            )
        return name

    async def bind(self, channel: AbstractChannel, queue: str, route: Route) -> None:
        """Declare the queues of a route's dead letters; then bind a queue to its topic."""
        for target, topics in self.dead_letters((route,)).items():
            await self.declare_dead_letters(channel, topics, target)
        await self._bind_topics(channel, queue, (route,))

    async def declare_dead_letters(
        self, channel: AbstractChannel, topics: Iterable[str], target: str
    ) -> None:
        """Declare the queue of the dead-letter topic ``target`` for messages of ``topics``.

        It takes the dead letters that are published, and those that RabbitMQ itself moves.
        """
        name = await self.declare(channel, Queue(PREFIX + target))
        await self._bind(channel, name, self.exchange, target)
        for topic in topics:
            await self._bind(channel, name, self.dead_letter_exchange, topic)

    async def _bind_topics(
        self, channel: AbstractChannel, queue: str, routes: Iterable[Route]
    ) -> None:
        """Bind a queue; a listener on a dead-letter topic gets what RabbitMQ dead-letters, too."""
        for route in routes:
            await self._bind(channel, queue, self.exchange, route.topic)
            if (source := self.source_of(route.topic)) is not None:
                await self._bind(channel, queue, self.dead_letter_exchange, source)

    async def _bind(self, channel: AbstractChannel, queue: str, exchange: str, topic: str) -> None:
        what = f"the binding of queue {queue!r} to exchange {exchange!r} by {topic!r}"
        with mapped_call(what, self.address):
            await channel.queue_bind(queue, exchange, routing_key=topic)

    def _arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "x-queue-type": self._settings.queue_type,
            "x-dead-letter-exchange": self.dead_letter_exchange,
        }
        if self._settings.queue_type == "quorum":
            # At least once needs reject-publish; the message leaves the queue only when the
            # dead-letter queue has confirmed it.
            arguments["x-dead-letter-strategy"] = "at-least-once"
            arguments["x-overflow"] = "reject-publish"
            arguments["x-delivery-limit"] = DELIVERY_LIMIT
        return arguments
