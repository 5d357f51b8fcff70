"""RabbitMQ: the adapter beside raw aio-pika and FastStream."""

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from faststream.rabbit import RabbitBroker, RabbitExchange, RabbitQueue
from faststream.rabbit.schemas import QueueType

from pyfly_messaging import Message
from pyfly_messaging.adapters.rabbitmq import RabbitMQAdapter
from tests.benchmarks.harness import VALUE, Clock, Contest, Contestant
from tests.benchmarks.kafka import Way, _Contender, _Counter, _gathered, _one_by_one

_EXCHANGE = "bench"
_PREFETCH = 100


def contests(address: str, scale: float) -> list[Contest]:
    """Return the contests on a RabbitMQ."""
    consumed, published = int(20_000 * scale), int(5_000 * scale)
    return [
        Contest(
            name="RabbitMQ consume, quorum queue",
            messages=consumed,
            contestants=(
                Contestant(name="aio-pika process()", run=_Raw(address, "raw").consume),
                Contestant(name="pyfly-messaging", run=_Ours(address, "ours").consume),
                Contestant(name="FastStream", run=_Peer(address, "peer").consume),
            ),
        ),
        _publishing("one at a time", _one_by_one, address, published // 5),
        _publishing("1,000 at a time", _gathered, address, published),
    ]


def _publishing(name: str, way: Way, address: str, count: int) -> Contest:
    return Contest(
        name=f"RabbitMQ publish, {name}",
        messages=count,
        contestants=(
            Contestant(name="aio-pika, confirmed", run=_Raw(address, "raw-p", way).publish),
            Contestant(name="pyfly-messaging", run=_Ours(address, "ours-p", way).publish),
            Contestant(name="FastStream", run=_Peer(address, "peer-p", way).publish),
        ),
    )


class _Raw(_Contender):
    async def consume(self, clock: Clock, count: int) -> None:
        await _fill(self.address, self.topic, count)
        connection = await aio_pika.connect_robust(self.address)
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=_PREFETCH)
        queue = await channel.get_queue(self.topic)
        counter = _Counter(clock, count)

        async def handle(message: AbstractIncomingMessage) -> None:
            async with message.process():
                counter.one()

        clock.start()
        await queue.consume(handle)
        await counter.done.wait()
        await connection.close()

    async def publish(self, clock: Clock, count: int) -> None:
        await _fill(self.address, self.topic, 0)
        connection = await aio_pika.connect_robust(self.address)
        channel = await connection.channel(on_return_raises=True)
        exchange = await channel.get_exchange(_EXCHANGE)

        async def publish() -> None:
            message = aio_pika.Message(VALUE, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await exchange.publish(message, self.topic, mandatory=True, timeout=30)

        clock.start()
        await self.way(publish, count)
        clock.stop()
        await connection.close()


class _Ours(_Contender):
    async def consume(self, clock: Clock, count: int) -> None:
        await _fill(self.address, self.topic, count)
        broker = RabbitMQAdapter(self.address, _EXCHANGE)
        counter = _Counter(clock, count)

        async def handle(message: Message) -> None:
            counter.one()

        await broker.subscribe(self.topic, handle, self.topic)
        clock.start()
        await broker.start()
        await counter.done.wait()
        await broker.stop()

    async def publish(self, clock: Clock, count: int) -> None:
        await _fill(self.address, self.topic, 0)
        broker = RabbitMQAdapter(self.address, _EXCHANGE)
        await broker.start()
        clock.start()
        await self.way(lambda: broker.publish(self.topic, VALUE), count)
        clock.stop()
        await broker.stop()


class _Peer(_Contender):
    def _names(self) -> tuple[RabbitQueue, RabbitExchange]:
        queue = RabbitQueue(self.topic, queue_type=QueueType.QUORUM, durable=True, declare=False)
        return queue, RabbitExchange(_EXCHANGE, declare=False)

    async def consume(self, clock: Clock, count: int) -> None:
        await _fill(self.address, self.topic, count)
        broker, counter = RabbitBroker(self.address), _Counter(clock, count)
        queue, _ = self._names()

        @broker.subscriber(queue, channel=None)
        async def handle(body: bytes) -> None:
            counter.one()

        clock.start()
        await broker.start()
        await counter.done.wait()
        await broker.stop()

    async def publish(self, clock: Clock, count: int) -> None:
        await _fill(self.address, self.topic, 0)
        broker = RabbitBroker(self.address)
        await broker.start()
        _, exchange = self._names()
        clock.start()
        await self.way(
            lambda: broker.publish(
                VALUE, routing_key=self.topic, exchange=exchange, persist=True, mandatory=True
            ),
            count,
        )
        clock.stop()
        await broker.stop()


async def _fill(address: str, topic: str, count: int) -> None:
    """Give a contender the queue that our adapter declares, with so many messages in it."""
    connection = await aio_pika.connect(address)
    await (await connection.channel()).queue_delete(topic)
    await connection.close()
    broker = RabbitMQAdapter(address, _EXCHANGE)

    async def never(message: Message) -> None:
        raise AssertionError(message)  # nobody has published yet

    await broker.subscribe(topic, never, topic)
    await broker.start()
    await broker.stop()
    publisher = RabbitMQAdapter(address, _EXCHANGE)
    await publisher.start()
    batch = [Message(topic, VALUE)] * 1000
    for _ in range(-(-count // 1000)):
        await publisher.publish_many(batch)
    await publisher.stop()
