"""One channel on one queue: what arrives there, is in work, and is acknowledged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyfly_messaging.adapters.rabbitmq.codec import decode
from pyfly_messaging.adapters.rabbitmq.receipts import Receipts
from pyfly_messaging.adapters.rabbitmq.strays import PAUSE, Strays
from pyfly_messaging.delivery.dead_letter import ORIGINAL_TOPIC
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.lanes import Batch, Lanes, lanes_for
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.message import Message

if TYPE_CHECKING:
    from aiormq import spec

    from pyfly_messaging.adapters.rabbitmq.connection import Connection
    from pyfly_messaging.adapters.rabbitmq.deliveries import Delivery, DeliveryChannel
    from pyfly_messaging.adapters.rabbitmq.topology import Queue, Topology

logger = logging.getLogger("pyfly_messaging.rabbitmq")


@dataclass(frozen=True, slots=True)
class _Served:
    """A topic of the queue."""

    route: Route
    lanes: Lanes
    concurrency: int


class Session:
    """Consumes a queue for as long as its channel lives.

    What arrived when the event loop comes round goes to the lanes together. Their settled messages
    are acknowledged several at once where the order allows it.

    Args:
        connection: Where the channel is opened.
        topology: Declares the queue.
        queue: The queue.
        strays: What to do with topics that nobody here listens to.
        on_over: Called when no more arrives, with the cause, or with None when only a new session
            is wanted.

    Attributes:
        queue: The name of the queue.
        over: Done when no more arrives.

    """

    def __init__(
        self,
        connection: Connection,
        topology: Topology,
        queue: Queue,
        strays: Strays,
        on_over: Callable[[BaseException | None], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self._loop.create_future()
        self.queue = queue.name
        self._connection = connection
        self._topology = topology
        self._declared = queue
        self._strays = strays
        self._on_over = on_over
        self._prefetch = 0
        self._served: dict[str, _Served] = {}
        self._dead_letters: dict[str, str] = {}  # of the topics served: by whose they are
        self._channel: DeliveryChannel | None = None
        self._receipts: Receipts | None = None
        self._tag = ""
        self._arrived: list[Delivery] = []
        self._returns: set[asyncio.Task[None]] = set()
        self._halted = False

    @property
    def settled(self) -> int:
        """How many messages were settled."""
        return 0 if self._receipts is None else self._receipts.settled

    def in_flight(self, topic: str) -> int:
        """Return how many messages of a topic are in work."""
        served = self._served.get(topic)
        return 0 if served is None else served.lanes.in_flight

    async def open(self, routes: Iterable[Route], prefetch: int) -> None:
        """Declare the queue and consume; return when RabbitMQ says that the consumer is there.

        Raises:
            BrokerError: It was refused, or the connection was lost.

        """
        routes = tuple(routes)
        async with self._connection.channel() as channel:
            self.queue = await self._topology.declare_all(channel, self._declared, routes)
        for route in routes:
            self._serve(route)
        self._prefetch = prefetch
        self._channel = await self._connection.delivery_channel(self._arrive, prefetch)
        self._channel.closing.add_done_callback(self._closed)
        self._channel.on_consumer_cancel_callbacks.add(self._cancelled)
        self._receipts = Receipts(self._channel, prefetch, name=self.queue, on_loss=self._end)
        self._tag = await self._connection.consume(self._channel, self.queue)

    async def extend(self, route: Route, prefetch: int) -> None:
        """Consume for one more route, or one more handler of a route.

        More concurrency needs new lanes and perhaps more prefetch: then the session ends, for a
        new one to take its place.

        Raises:
            BrokerError: It was refused, or the connection was lost.

        """
        served = self._served.get(route.topic)
        if prefetch > self._prefetch or (served and route.concurrency > served.concurrency):
            self._end(None)
            return
        if served is None:
            self._serve(route)
        try:
            async with self._connection.channel() as channel:
                await self._topology.bind(channel, self.queue, route)
        except BaseException:
            if served is None:
                del self._served[route.topic]
            raise

    async def cancel(self, timeout: float) -> None:
        """Let nothing more arrive."""
        channel = self._channel
        if channel is not None and not channel.is_closed:
            await self._connection.farewell(self._cancel(channel), timeout)

    def halt(self) -> None:
        """Begin nothing more."""
        self._halted = True
        for served in self._served.values():
            served.lanes.close()
        for task in self._returns:
            task.cancel()

    async def drain(self, deadline: Deadline | None = None) -> None:
        """Let running handlers finish, until the deadline if there is one; then cancel them."""
        self.halt()
        for served in tuple(self._served.values()):
            await served.lanes.drain(None if deadline is None else deadline.left())

    async def close(self, timeout: float) -> None:
        """Acknowledge what is settled, hand the rest back, and close the channel."""
        if self._returns:
            await asyncio.wait(self._returns)
        channel, receipts = self._channel, self._receipts
        if channel is None or receipts is None:
            return
        await receipts.stop()
        if not channel.is_closed:
            await self._connection.farewell(self._leave(channel, receipts), timeout)

    def _serve(self, route: Route) -> None:
        concurrency = route.concurrency
        lanes = lanes_for(route.name, concurrency, self._idle)
        self._served[route.topic] = _Served(route, lanes, concurrency)
        if (source := self._topology.source_of(route.topic)) is not None:
            self._dead_letters[source] = route.topic

    def _arrive(self, delivery: Delivery) -> None:
        if not self._arrived:
            self._loop.call_soon(self._hand_over)
        self._arrived.append(delivery)

    def _hand_over(self) -> None:
        """Give what arrived to the lanes; what nobody takes returns with the channel."""
        arrived, self._arrived = self._arrived, []
        if self._receipts is None or self._halted or self.over.done():
            return
        try:
            self._sort(arrived, self._receipts)
        except Exception as error:  # noqa: BLE001 - without an end nobody would ever return them
            self._end(error)

    def _sort(self, arrived: list[Delivery], receipts: Receipts) -> None:
        receipts.expect([delivery.tag for delivery in arrived])
        dead_letter_exchange = self._topology.dead_letter_exchange
        batches: dict[str, tuple[list[Message], list[int]]] = {}
        for delivery in arrived:
            topic = delivery.routing_key
            message, tag = decode(delivery, topic), delivery.tag
            if topic not in self._served or delivery.exchange == dead_letter_exchange:
                topic = self._topic_of(delivery)
                message = _moved(message, topic)
                if topic not in self._served:
                    self._return(message, delivery, receipts)
                    continue
            batch = batches.get(topic)
            if batch is None:
                batch = batches[topic] = ([], [])
            batch[0].append(message)
            batch[1].append(tag)
        for topic, (messages, tags) in batches.items():
            served = self._served[topic]
            served.lanes.submit(Batch(served.route, messages, tags, receipts.settle))

    def _topic_of(self, delivery: Delivery) -> str:
        """Return the topic of a message whose routing key does not tell.

        What RabbitMQ dead-lettered has the routing key of the topic that it was on. What it or an
        operator moved between queues may have any: then a queue of one topic knows it, and a dead
        letter's header too.
        """
        moved = delivery.exchange == self._topology.dead_letter_exchange
        if moved and (topic := self._dead_letters.get(delivery.routing_key)) is not None:
            return topic
        headers = delivery.headers or {}
        original = headers.get(ORIGINAL_TOPIC)
        if isinstance(original, str) and original in self._served:
            return original
        if (moved or not delivery.exchange) and len(self._served) == 1:
            return next(iter(self._served))
        return delivery.routing_key

    def _idle(self) -> None:
        if self._receipts is not None and not any(
            served.lanes.in_flight for served in self._served.values()
        ):
            self._receipts.idle()

    def _return(self, message: Message, delivery: Delivery, receipts: Receipts) -> None:
        task = asyncio.create_task(
            self._hand_back(message, delivery, receipts),
            name=f"pyfly rabbitmq hand back {message.topic}",
        )
        self._returns.add(task)
        task.add_done_callback(self._returns.discard)

    async def _hand_back(self, message: Message, delivery: Delivery, receipts: Receipts) -> None:
        """Return a message that nobody here takes, after a pause, or dead-letter it."""
        spent = self._strays.spent(message, delivery.id)
        while spent:
            try:
                await self._strays.bury(message, self._group)
            except Exception as error:  # noqa: BLE001 - where a delivery is settled
                logger.warning("RabbitMQ: %s; tried again", error)
                await asyncio.sleep(PAUSE)
            else:
                receipts.settle(delivery.tag)
                self._idle()
                return
        await asyncio.sleep(PAUSE)
        await receipts.hand_back(delivery.tag)
        self._idle()

    @property
    def _group(self) -> str | None:
        return next((served.route.group for served in self._served.values()), None)

    async def _cancel(self, channel: DeliveryChannel) -> None:
        tag, self._tag = self._tag, ""
        if tag:
            await channel.basic_cancel(tag)

    async def _leave(self, channel: DeliveryChannel, receipts: Receipts) -> None:
        # A consumer that is still there would be given at once what is handed back.
        await self._cancel(channel)
        await receipts.flush(wait=True)
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


def _moved(message: Message, topic: str) -> Message:
    """Return a message under the topic of the queue that somebody moved it to."""
    if message.topic == topic:
        return message
    headers = {ORIGINAL_TOPIC: message.topic, **message.headers}
    return Message(topic, message.value, message.key, headers)
