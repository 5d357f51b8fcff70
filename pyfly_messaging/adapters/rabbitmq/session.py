"""One channel on one queue: which handlers get what arrives, and its acknowledgement."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pyfly_messaging.adapters.rabbitmq.acknowledgements import Acknowledgements
from pyfly_messaging.adapters.rabbitmq.codec import decode
from pyfly_messaging.adapters.rabbitmq.errors import describe
from pyfly_messaging.adapters.rabbitmq.unknown_topics import Requeue
from pyfly_messaging.delivery.dead_letter import ORIGINAL_TOPIC
from pyfly_messaging.logs import get_logger
from pyfly_messaging.message import Message, derived

if TYPE_CHECKING:
    from aiormq import spec
    from aiormq.abc import AbstractChannel

    from pyfly_messaging.adapters.rabbitmq.codec import Delivery
    from pyfly_messaging.adapters.rabbitmq.connection import Connection
    from pyfly_messaging.adapters.rabbitmq.internals import DeliveryChannel
    from pyfly_messaging.adapters.rabbitmq.topic_lanes import Topics
    from pyfly_messaging.adapters.rabbitmq.topology import Queue, Topology
    from pyfly_messaging.adapters.rabbitmq.unknown_topics import UnknownTopics
    from pyfly_messaging.delivery.routing import Route

logger = get_logger("pyfly_messaging.rabbitmq")


class Session:
    """Consumes a queue for as long as its channel lives.

    What arrived when the event loop comes round goes to the lanes together. Their settled messages
    are acknowledged several at once where the order allows it.

    Args:
        connection: Where the channel is opened.
        topology: Declares the queue.
        queue: The queue.
        topics: What it is consumed for; they outlive the session.
        unknown_topics: What to do with topics that no handler here listens to.
        on_over: Called with the cause when no more arrives.

    Attributes:
        queue: The name of the queue.
        over: Done when no more arrives.

    """

    def __init__(
        self,
        connection: Connection,
        topology: Topology,
        queue: Queue,
        topics: Topics,
        *,
        unknown_topics: UnknownTopics,
        on_over: Callable[[BaseException | None], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self._loop.create_future()
        self.queue = queue.name
        self._connection = connection
        self._topology = topology
        self._declared = queue
        self._topics = topics
        self._unknown_topics = unknown_topics
        self._on_over = on_over
        self._prefetch = 0
        self._channel: DeliveryChannel | None = None
        self._acknowledgements: Acknowledgements | None = None
        self._requeue: Requeue | None = None
        self._tag = ""
        self._arrived: list[Delivery] = []
        self._halted = False

    @property
    def settled(self) -> int:
        """How many messages were settled."""
        return 0 if self._acknowledgements is None else self._acknowledgements.settled

    async def open(self, routes: Iterable[Route], prefetch: int, *, declared: bool = False) -> None:
        """Declare the queue and consume; return when RabbitMQ says that the consumer is there.

        Args:
            routes: What the queue is consumed for.
            prefetch: Messages that may be unacknowledged.
            declared: Whether all of it has just been declared on this connection, except a queue
                that ends with the process.

        Raises:
            BrokerError: It was refused, or the connection was lost.

        """
        routes = tuple(routes)
        if not declared:
            self.queue = await self._connection.declare(
                lambda channel: self._topology.declare_all(channel, self._declared, routes)
            )
        elif self._declared.own:
            self.queue = await self._connection.declare(
                lambda channel: self._topology.declare_bound(channel, self._declared, routes)
            )
        for route in routes:
            if route.subscriptions:  # the last one may have been taken back meanwhile
                self._topics.add(route)
        self._prefetch = prefetch
        self._channel = await self._connection.delivery_channel(self._arrive, prefetch)
        self._channel.closing.add_done_callback(self._closed)
        self._channel.on_consumer_cancel_callbacks.add(self._cancelled)
        self._acknowledgements = Acknowledgements(
            self._channel, prefetch, name=self.queue, on_loss=self._end
        )
        self._topics.on_idle = self._acknowledgements.idle
        self._requeue = Requeue(
            self._unknown_topics,
            self._acknowledgements,
            self._consumers,
            self._topics.tell_idle,
            counted=self._topology.counts_deliveries(self._declared),
        )
        self._tag = await self._connection.consume(self._channel, self.queue)

    async def extend(self, route: Route, prefetch: int) -> None:
        """Consume for one more route, or one more handler of a route.

        Neither what is in work nor what arrives has to wait for that.

        Raises:
            BrokerError: It was refused, or the connection was lost.

        """
        if route.topic not in self._topics.lanes:
            self._topics.add(route)  # before the first message comes
        await self._connection.step(self._make_room(prefetch))
        await self._bind((route,))
        self._topics.add(route)

    async def forget(self, route: Route) -> None:
        """Take out a route that `extend` failed for; what it has in work goes back."""
        for tag in await self._topics.forget(route):
            if self._acknowledgements is not None:
                await self._acknowledgements.requeue(tag)

    async def bind(self, routes: Iterable[Route]) -> None:
        """Declare exchanges, dead letters and bindings again, wherever some were deleted.

        Raises:
            BrokerError: It was refused, or the connection was lost.

        """
        await self._bind(routes, exchanges=True)

    async def cancel(self, timeout: float) -> None:
        """Let nothing more arrive."""
        channel = self._channel
        if channel is not None and not channel.is_closed:
            await self._connection.last_step(self._cancel(channel), timeout)

    def halt(self) -> None:
        """Take nothing more, and requeue nothing more."""
        self._halted = True
        if self._requeue is not None:
            self._requeue.halt()

    async def close(self, timeout: float) -> None:
        """Acknowledge what is settled, requeue the rest, and close the channel."""
        self.halt()
        channel, acknowledgements = self._channel, self._acknowledgements
        if self._requeue is not None:
            await self._requeue.halted()
        if channel is None or acknowledgements is None:
            return
        await acknowledgements.stop()
        if not channel.is_closed:
            await self._connection.last_step(self._leave(channel, acknowledgements), timeout)

    async def _make_room(self, prefetch: int) -> None:
        channel = self._channel
        if channel is None or prefetch <= self._prefetch:
            return
        # The new consumer comes first: a queue of this process ends with its last one.
        tag = await self._connection.raise_prefetch(channel, self.queue, prefetch)
        self._prefetch = max(self._prefetch, prefetch)
        before, self._tag = self._tag, tag
        await self._connection.cancel(channel, before)

    async def _bind(self, routes: Iterable[Route], *, exchanges: bool = False) -> None:
        async def bind(channel: AbstractChannel) -> None:
            if exchanges:
                await self._topology.declare_exchanges(channel)
            for route in routes:
                await self._topology.bind(channel, self.queue, route)

        await self._connection.declare(bind)

    async def _consumers(self) -> int:
        return await self._connection.declare(
            lambda channel: self._topology.consumers(channel, self.queue)
        )

    def _arrive(self, delivery: Delivery) -> None:
        if not self._arrived:
            self._loop.call_soon(self._hand_over)
        self._arrived.append(delivery)

    def _hand_over(self) -> None:
        """Give what arrived to the lanes; what is not taken returns with the channel."""
        arrived, self._arrived = self._arrived, []
        if self._acknowledgements is None or self._halted or self.over.done():
            return
        try:
            self._sort(arrived, self._acknowledgements)
        except Exception as error:  # noqa: BLE001 - without an end they would never return
            self._end(error)

    def _sort(self, arrived: list[Delivery], acknowledgements: Acknowledgements) -> None:
        acknowledgements.expect([delivery.tag for delivery in arrived])
        # Where the routing key is not the topic: the default exchange, and that of dead letters.
        others = ("", self._topology.dead_letter_exchange)
        lanes = self._topics.lanes
        batches: dict[str, tuple[list[Message], list[int]]] = {}
        for delivery in arrived:
            try:
                message = decode(delivery, delivery.routing_key)
            except Exception as error:  # noqa: BLE001 - where a delivery is settled
                self._unreadable(delivery, error)
                continue
            topic = delivery.routing_key
            if topic not in lanes or delivery.exchange in others:
                topic = self._topic_of(delivery)
                message = _moved(message, topic, by_broker=bool(delivery.exchange))
                if topic not in lanes:
                    self._return(message, delivery)
                    continue
            batch = batches.get(topic)
            if batch is None:
                batch = batches[topic] = ([], [])
            batch[0].append(message)
            batch[1].append(delivery.tag)
        for topic, (messages, tags) in batches.items():
            self._topics.submit(topic, messages, tags, acknowledgements.settle)

    def _topic_of(self, delivery: Delivery) -> str:
        """Return the topic of a delivery.

        Only what RabbitMQ itself says counts: the exchange and the routing key. Headers are the
        publisher's. What the dead-letter exchange brings has the topic that it was on as its
        routing key. What came through the default exchange was put into this very queue, by a
        shovel or an operator: the header of a dead letter may choose among the queue's topics then.
        """
        topic, lanes = delivery.routing_key, self._topics.lanes
        if delivery.exchange == self._topology.dead_letter_exchange:
            of_dead_letters = self._topics.of_dead_letters(topic)
            if of_dead_letters is not None:
                return of_dead_letters
        elif delivery.exchange:
            return topic
        else:
            original = (delivery.headers or {}).get(ORIGINAL_TOPIC)
            if isinstance(original, str) and original in lanes:
                return original
        if topic not in lanes and len(lanes) == 1:
            return next(iter(lanes))
        return topic

    def _return(self, message: Message, delivery: Delivery) -> None:
        if self._requeue is not None:
            self._requeue.take(message, delivery, self._topics.group)

    def _unreadable(self, delivery: Delivery, error: Exception) -> None:
        logger.error(
            "RabbitMQ: a message of queue %s cannot be decoded: %s", self.queue, describe(error)
        )
        if self._requeue is not None:
            self._requeue.unreadable(delivery, self._topics.group, error)

    async def _cancel(self, channel: DeliveryChannel) -> None:
        tag, self._tag = self._tag, ""
        if tag:
            await channel.basic_cancel(tag)

    async def _leave(self, channel: DeliveryChannel, acknowledgements: Acknowledgements) -> None:
        # A consumer that is still there would be given at once what is requeued.
        await self._cancel(channel)
        await acknowledgements.flush(wait=True)
        # A channel's end counts as a delivery in RabbitMQ, an explicit return from 4.3 on does not.
        await channel.basic_nack(0, multiple=True, requeue=True)
        await channel.close()

    def _closed(self, closing: asyncio.Future[object]) -> None:
        cause = None if closing.cancelled() else closing.exception()
        self._end(cause or ConnectionError("the channel was closed"))

    def _cancelled(self, cancel: spec.Basic.Cancel) -> None:
        self._end(ConnectionError(f"RabbitMQ cancelled the consumer of queue {self.queue!r}"))

    def _end(self, cause: BaseException | None) -> None:
        if not self.over.done():
            self.over.set_result(None)
            self._on_over(cause)


def _moved(message: Message, topic: str, *, by_broker: bool) -> Message:
    """Return a message under the topic of the queue that it was moved to.

    What RabbitMQ itself moved was on the topic of its routing key, whatever its headers say.
    """
    if message.topic == topic:
        return message
    came_from = {ORIGINAL_TOPIC: message.topic}
    headers = message.headers | came_from if by_broker else came_from | message.headers
    return derived(message, topic, message.value, message.key, headers)
