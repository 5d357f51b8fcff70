"""All consumers of an adapter, by queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from pyfly_messaging.adapters.rabbitmq import errors
from pyfly_messaging.adapters.rabbitmq.consumer import QueueConsumer
from pyfly_messaging.adapters.rabbitmq.link import Link
from pyfly_messaging.adapters.rabbitmq.strays import Strays
from pyfly_messaging.adapters.rabbitmq.topology import Topology
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.errors import BrokerError, BrokerUnavailableError
from pyfly_messaging.health import ConsumerHealth
from pyfly_messaging.logs import get_logger

if TYPE_CHECKING:
    from aiormq.abc import AbstractChannel

logger = get_logger("pyfly_messaging.rabbitmq")

# Channels that declare at the same time during a start.
_AT_ONCE = 16
# Before another try to declare a queue. Seconds.
_PAUSE = 0.2
# For the farewell of a consumer that could not be started. Seconds.
_FAREWELL = 5.0


class Consumers:
    """One consumer for each queue; a queue carries the topics of all its routes.

    Args:
        link: The connection that they share.
        topology: Names and declares the queues.
        strays: What to do with topics that nobody here listens to.
        prefetch: Messages that a consumer may hold unacknowledged.
        patience: Seconds for a handler whose channel has ended.

    """

    def __init__(
        self,
        link: Link,
        topology: Topology,
        strays: Strays,
        *,
        prefetch: int,
        patience: float,
    ) -> None:
        self._link = link
        self._topology = topology
        self._strays = strays
        self._prefetch = prefetch
        self._patience = patience
        self._by_queue: dict[str, QueueConsumer] = {}
        self._started = False
        self._declaring = asyncio.Semaphore(_AT_ONCE)

    def __iter__(self) -> Iterator[QueueConsumer]:
        return iter(tuple(self._by_queue.values()))

    async def add(self, route: Route) -> None:
        """Add a route, or one more handler of a route; once started, consume for it.

        Raises:
            ValueError: No name for a queue, or another group's route has it for this topic.
            BrokerError: The consumer could not be started.

        """
        queue = self._topology.queue(route.topic, route.group)
        consumer = self._by_queue.get(queue.name)
        if consumer is not None:
            consumer.add(route)
            if self._started:
                await consumer.extend(route)
            return
        consumer = QueueConsumer(
            self._link,
            self._topology,
            queue,
            self._strays,
            prefetch=self._prefetch,
            patience=self._patience,
        )
        consumer.add(route)
        self._by_queue[queue.name] = consumer
        if self._started:
            await consumer.start()

    async def take_back(self, route: Route) -> None:
        """Forget a route without handlers, and a consumer without routes."""
        for name, consumer in tuple(self._by_queue.items()):
            await consumer.remove(route)
            if consumer.is_idle and self._by_queue.get(name) is consumer:
                del self._by_queue[name]
                consumer.halt()
                await consumer.close(_FAREWELL)

    async def start(self) -> None:
        """Declare all queues, then consume them all; return when RabbitMQ says that it does.

        In this order, because handlers of messages that wait may publish to any of the topics.
        The exchanges and each queue of dead letters are declared once, whatever the number of
        consumers, and queues side by side.

        Raises:
            AuthenticationError, TopologyError: The broker refused, at once.
            BrokerUnavailableError: There will be no connection.

        """
        self._declaring = asyncio.Semaphore(_AT_ONCE)  # the one before may be another event loop's
        self._started = True  # those that are added from now on start by themselves
        consumers = list(self)
        routes = [route for consumer in consumers for route in consumer.routes]
        await self._declare(self._on_a_channel(self._topology.declare_exchanges))
        dead_letters = self._topology.dead_letters(routes)
        await _together(
            self._declare(self._on_a_channel(partial(self._declare_dead_letters, target, topics)))
            for target, topics in dead_letters.items()
        )
        await _together(self._declare(consumer.declare) for consumer in consumers)
        await _together(consumer.start() for consumer in consumers)

    def _on_a_channel(
        self, declare: Callable[[AbstractChannel], Coroutine[Any, Any, None]]
    ) -> Callable[[], Coroutine[Any, Any, None]]:
        async def declared() -> None:
            connection = await self._link.connection()
            await connection.declare(declare)

        return declared

    async def _declare_dead_letters(
        self, target: str, topics: tuple[str, ...], channel: AbstractChannel
    ) -> None:
        await self._topology.declare_dead_letters(channel, topics, target)

    async def _declare(self, declare: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Declare something, with few others at the same time; try until it works."""
        while True:
            try:
                async with self._declaring:
                    await declare()
            except BrokerUnavailableError as error:
                if errors.is_final(error):
                    raise
                for consumer in self:
                    consumer.standing.last_error = str(error)
            else:
                return
            await asyncio.sleep(_PAUSE)

    async def check(self) -> bool:
        """See that what is published comes here; declare again what somebody deleted.

        A binding that is not there cannot be asked for, so each is declared. An exchange that is
        not there can, and until it is declared health says so.

        Returns:
            Whether all is as it should be now.

        """
        connection = self._link.current
        if connection is None or not self._by_queue:
            return True
        missing = await connection.declare(self._topology.missing_exchange)
        why = f"the exchange {missing!r} is missing"
        if missing is not None:
            logger.warning("RabbitMQ: %s; it is declared again, with its bindings", why)
            for consumer in self:
                consumer.standing.unbound(why)
        return all([await self._bind(consumer) for consumer in self])

    async def _bind(self, consumer: QueueConsumer) -> bool:
        try:
            await consumer.bind()
        except BrokerUnavailableError:
            return True  # which its supervisor sees to
        except BrokerError as error:
            if consumer.standing.last_error != str(error):
                logger.warning("RabbitMQ: queue %s: %s", consumer.queue.name, error)
            consumer.standing.last_error = str(error)
            return False
        return True

    async def stop(
        self, handlers: Deadline, farewell: float, caller: asyncio.Task[Any] | None
    ) -> None:
        """Begin nothing more, and let running handlers finish until their deadline, all at once.

        A handler that is the ``caller``, and so stops its own broker, is not waited for.
        """
        self._started = False
        for consumer in self:
            consumer.halt()
        await asyncio.gather(*(consumer.cancel(farewell) for consumer in self))
        await asyncio.gather(*(consumer.drain(handlers, caller) for consumer in self))

    async def close(self, farewell: float) -> None:
        """Acknowledge what is settled, and hand back the rest."""
        await asyncio.gather(*(consumer.close(farewell) for consumer in self))

    def health(self) -> tuple[ConsumerHealth, ...]:
        """Return the health of each route."""
        return tuple(health for consumer in self for health in consumer.health())


async def _together(coroutines: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all side by side; the first error ends the others and is raised itself."""
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in coroutines:
                group.create_task(coroutine)
    except BaseExceptionGroup as failed:
        first = failed.exceptions[0]
        raise first from first.__cause__
