"""Kafka: the adapter beside raw aiokafka and FastStream."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from faststream import AckPolicy
from faststream.kafka import KafkaBroker

from pyfly_messaging import Message
from pyfly_messaging.adapters.kafka import KafkaAdapter
from tests.benchmarks.harness import VALUE, Clock, Contest, Contestant

_TOGETHER = 1000


def contests(address: str, scale: float) -> list[Contest]:
    """Return the contests on a Kafka."""
    consumed, published = int(100_000 * scale), int(10_000 * scale)
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    asyncio.run(_fill(address, topic, consumed))
    few = max(100, consumed // 50)
    return [
        Contest(
            name="Kafka consume, at least once",
            messages=consumed,
            contestants=(
                Contestant(
                    name="aiokafka getmany, commit a batch", run=_Raw(address, topic).consume
                ),
                Contestant(name="pyfly-messaging", run=_Ours(address, topic).consume),
                Contestant(
                    name="FastStream, commit after", run=_Peer(address, topic).consume, messages=few
                ),
            ),
        ),
        _publishing("one at a time", _one_by_one, address, published // 5),
        _publishing("1,000 at a time", _gathered, address, published),
    ]


Publish = Callable[[], Awaitable[object]]


async def _one_by_one(publish: Publish, count: int) -> None:
    for _ in range(count):
        await publish()


async def _gathered(publish: Publish, count: int) -> None:
    for _ in range(max(1, count // _TOGETHER)):
        await asyncio.gather(*(publish() for _ in range(min(count, _TOGETHER))))


Way = Callable[[Publish, int], Awaitable[None]]


def _publishing(name: str, way: Way, address: str, count: int) -> Contest:
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    asyncio.run(_fill(address, topic, 1))  # it has to exist: only our adapter creates it
    return Contest(
        name=f"Kafka publish, {name}",
        messages=count,
        contestants=(
            Contestant(name="aiokafka send_and_wait", run=_Raw(address, topic, way).publish),
            Contestant(name="pyfly-messaging", run=_Ours(address, topic, way).publish),
            Contestant(name="FastStream", run=_Peer(address, topic, way).publish),
        ),
    )


async def _fill(address: str, topic: str, count: int) -> None:
    broker = KafkaAdapter(address)
    await broker.start()
    batch = [Message(topic, VALUE)] * _TOGETHER
    for _ in range(-(-count // _TOGETHER)):
        await broker.publish_many(batch)
    await broker.stop()


class _Contender:
    def __init__(self, address: str, topic: str, way: Way = _one_by_one) -> None:
        self.address, self.topic, self.way = address, topic, way

    @staticmethod
    def group() -> str:
        return f"bench-{uuid.uuid4().hex[:8]}"


class _Raw(_Contender):
    async def consume(self, clock: Clock, count: int) -> None:
        consumer = AIOKafkaConsumer(
            self.topic,
            bootstrap_servers=self.address,
            group_id=self.group(),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        await consumer.start()
        seen = 0
        clock.start()
        while seen < count:
            batch = await consumer.getmany(timeout_ms=1000, max_records=500)
            for records in batch.values():
                for _ in records:
                    seen += 1
            if batch:
                await consumer.commit({tp: rs[-1].offset + 1 for tp, rs in batch.items()})
        clock.stop()
        await consumer.stop()

    async def publish(self, clock: Clock, count: int) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=self.address, acks="all", enable_idempotence=True
        )
        await producer.start()
        await producer.send_and_wait(self.topic, VALUE)
        clock.start()
        await self.way(lambda: producer.send_and_wait(self.topic, VALUE), count)
        clock.stop()
        await producer.stop()


class _Counter:
    def __init__(self, clock: Clock, count: int) -> None:
        self._clock, self._left = clock, count
        self.done = asyncio.Event()

    def one(self) -> None:
        self._left -= 1
        if not self._left:
            self._clock.stop()
            self.done.set()


class _Ours(_Contender):
    async def consume(self, clock: Clock, count: int) -> None:
        broker, counter = KafkaAdapter(self.address), _Counter(clock, count)

        async def handle(message: Message) -> None:
            counter.one()

        await broker.subscribe(self.topic, handle, self.group())
        await broker.start()
        clock.start()
        await counter.done.wait()
        await broker.stop()

    async def publish(self, clock: Clock, count: int) -> None:
        broker = KafkaAdapter(self.address)
        await broker.start()
        await broker.publish(self.topic, VALUE)
        clock.start()
        await self.way(lambda: broker.publish(self.topic, VALUE), count)
        clock.stop()
        await broker.stop()


class _Peer(_Contender):
    async def consume(self, clock: Clock, count: int) -> None:
        broker, counter = KafkaBroker(self.address), _Counter(clock, count)

        @broker.subscriber(
            self.topic,
            group_id=self.group(),
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.NACK_ON_ERROR,
        )
        async def handle(body: bytes) -> None:
            counter.one()

        await broker.start()
        clock.start()
        await counter.done.wait()
        await broker.stop()

    async def publish(self, clock: Clock, count: int) -> None:
        broker = KafkaBroker(self.address, acks="all", enable_idempotence=True)
        await broker.start()
        await broker.publish(VALUE, self.topic)
        clock.start()
        await self.way(lambda: broker.publish(VALUE, self.topic), count)
        clock.stop()
        await broker.stop()
