"""All consumers of an adapter, by queue; and the check whether bindings are still there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from pyfly_messaging.adapters.rabbitmq import errors
from pyfly_messaging.adapters.rabbitmq.consumer import QueueConsumer
from pyfly_messaging.adapters.rabbitmq.reconnecting_connection import ReconnectingConnection
from pyfly_messaging.adapters.rabbitmq.topology import Topology
from pyfly_messaging.adapters.rabbitmq.unknown_topics import UnknownTopics
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
# Between two checks of the topology, and when something is missing. Seconds.
_CHECK_EVERY_S, _CHECK_SOON_S = 15.0, 1.0
# Before another try to declare a queue. Seconds.
_DECLARE_AGAIN_AFTER_S = 0.2
# For the end of a consumer that could not be started. Seconds.
_CLOSE_TIMEOUT_S = 5.0


class Consumers:
    """One consumer for each queue; a queue carries the topics of all its routes.

    Args:
        reconnecting: The connection that they share.
        topology: Names and declares the queues.
        unknown_topics: What to do with topics that no handler here listens to.
        prefetch: Messages that a consumer may hold unacknowledged.
        grace_period: Seconds for a handler whose channel has ended.

    """

    def __init__(
        self,
        reconnecting: ReconnectingConnection,
        topology: Topology,
        unknown_topics: UnknownTopics,
        *,
        prefetch: int,
        grace_period: float,
    ) -> None:
        self._reconnecting = reconnecting
        self._topology = topology
        self._unknown_topics = unknown_topics
        self._prefetch = prefetch
        self._grace_period = grace_period
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
            self._reconnecting,
            self._topology,
            queue,
            self._unknown_topics,
            prefetch=self._prefetch,
            grace_period=self._grace_period,
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
                await consumer.close(_CLOSE_TIMEOUT_S)

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
            connection = await self._reconnecting.connection()
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
                    consumer.state.last_error = str(error)
            else:
                return
            await asyncio.sleep(_DECLARE_AGAIN_AFTER_S)

    async def check(self) -> bool:
        """See that what is published comes here; declare again what was deleted.

        A binding that is not there cannot be asked for, so each is declared. An exchange that is
        not there can, and until it is declared health says so.

        Requeue:
            Whether all is as it should be now.

        """
        connection = self._reconnecting.current
        if connection is None or not self._by_queue:
            return True
        missing = await connection.declare(self._topology.missing_exchange)
        why = f"the exchange {missing!r} is missing"
        if missing is not None:
            logger.warning("RabbitMQ: %s; it is declared again, with its bindings", why)
            for consumer in self:
                consumer.state.unbound(why)
        return all([await self._bind(consumer) for consumer in self])

    async def _bind(self, consumer: QueueConsumer) -> bool:
        try:
            await consumer.bind()
        except BrokerUnavailableError:
            return True  # which its supervisor sees to
        except BrokerError as error:
            if consumer.state.last_error != str(error):
                logger.warning("RabbitMQ: queue %s: %s", consumer.queue.name, error)
            consumer.state.last_error = str(error)
            return False
        return True

    async def stop(
        self, handlers: Deadline, timeout: float, caller: asyncio.Task[Any] | None
    ) -> None:
        """Begin nothing more, and let running handlers finish until their deadline, all at once.

        A handler that is the ``caller``, and so stops its own broker, is not waited for.
        """
        self._started = False
        for consumer in self:
            consumer.halt()
        await asyncio.gather(*(consumer.cancel(timeout) for consumer in self))
        await asyncio.gather(*(consumer.drain(handlers, caller) for consumer in self))

    async def close(self, timeout: float) -> None:
        """Acknowledge what is settled, and requeue the rest."""
        await asyncio.gather(*(consumer.close(timeout) for consumer in self))

    def health(self) -> tuple[ConsumerHealth, ...]:
        """Return the health of each route."""
        return tuple(health for consumer in self for health in consumer.health())


class TopologyCheck:
    """Calls ``check`` every quarter of a minute, and soon when there is a reason to.

    RabbitMQ does not report that an exchange or a binding was deleted: the queue is only empty.

    Args:
        check: Returns whether all was well.

    """

    def __init__(self, check: Callable[[], Awaitable[bool]]) -> None:
        self._check = check
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to check."""
        self._woken = asyncio.Event()  # the one before may be another event loop's
        self._task = asyncio.create_task(self._run(), name="pyfly rabbitmq topology check")

    def wake(self) -> None:
        """Check now, but not more than once a second."""
        self._woken.set()

    def halt(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()

    async def halted(self, timeout: float) -> None:
        """Wait for the end, for ``timeout`` seconds at most."""
        task, self._task = self._task, None
        if task is not None:
            await asyncio.wait((task,), timeout=timeout)

    async def _run(self) -> None:
        pause = _CHECK_EVERY_S
        while True:
            try:
                async with asyncio.timeout(pause):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()
            pause = _CHECK_EVERY_S if await self._checked() else _CHECK_SOON_S
            await asyncio.sleep(_CHECK_SOON_S)

    async def _checked(self) -> bool:
        try:
            return await self._check()
        except BrokerError as error:
            logger.debug("RabbitMQ: %s", error)  # which the connection logs
        except Exception:  # an error that is not mapped must not end all checks
            logger.exception("RabbitMQ: the check of the topology failed")
        return True


async def _together(coroutines: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all side by side; the first error ends the others and is raised itself."""
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in coroutines:
                group.create_task(coroutine)
    except BaseExceptionGroup as failed:
        first = failed.exceptions[0]
        raise first from first.__cause__
