"""What the tests of the Kafka adapter share, and the proof that its counting counts."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import ConsumerRecord, TopicPartition

from pyfly_messaging.adapters.kafka import KafkaAdapter
from pyfly_messaging.errors import PublishError
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.settings import KafkaSettings

DEADLINE = 90.0
"""Seconds for what needs a moment: far more than that, for loaded machines."""


def unique(prefix: str = "t") -> str:
    """Return a name that no other test uses."""
    return f"{prefix}-{uuid4().hex[:10]}"


def make_adapter(
    servers: str,
    *,
    timeouts: Timeouts | None = None,
    policy: ListenerPolicy | None = None,
    **settings: Any,
) -> KafkaAdapter:
    """Return an adapter with some of the settings of ``kafka:``."""
    model = KafkaSettings.model_validate({"bootstrap_servers": servers, **settings})
    policy = policy or ListenerPolicy(retry_delay=0.05, retry_max_delay=1.0)
    return KafkaAdapter.from_settings(model, timeouts=timeouts, policy=policy)


@asynccontextmanager
async def running(*adapters: KafkaAdapter) -> AsyncIterator[None]:
    """Start adapters; stop them at the end."""
    try:
        for adapter in adapters:
            await adapter.start()
        yield
    finally:
        for adapter in adapters:
            await adapter.stop()


async def until(condition: Callable[[], object], within: float = DEADLINE) -> None:
    """Return when the condition holds; fail when it does not in time."""
    try:
        async with asyncio.timeout(within):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError("the condition did not come true in time") from None


class Inbox:
    """A handler that keeps what it gets."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        """Keep a message."""
        self.messages.append(message)

    @property
    def values(self) -> list[bytes]:
        """The values in the order in which they came."""
        return [message.value for message in self.messages]

    async def has(self, count: int) -> list[bytes]:
        """Wait for so many messages; return all values."""
        await until(lambda: len(self.messages) >= count)
        return self.values


class Tally:
    """Counts what was tried, what was acknowledged to the publisher, and what was handled."""

    def __init__(self) -> None:
        self.attempted = 0
        self.failed = 0
        self.acknowledged: set[bytes] = set()
        self.tried: set[bytes] = set()
        self.handled: Counter[bytes] = Counter()

    async def publish(self, adapter: KafkaAdapter, topic: str, key: bytes | None = None) -> None:
        """Publish one more value, which no other has; a publish that raises is not acknowledged."""
        self.attempted += 1
        value = b"%d" % self.attempted
        self.tried.add(value)
        try:
            await adapter.publish(topic, value, key=key)
        except PublishError:
            self.failed += 1
            return
        self.acknowledged.add(value)

    @asynccontextmanager
    async def flow(self, adapter: KafkaAdapter, topic: str) -> AsyncIterator[None]:
        """Publish, a few at a time and never far ahead of the handlers, until the block ends."""
        ended = asyncio.Event()

        async def publish() -> None:
            while not ended.is_set():
                await self.publish(adapter, topic, b"%d" % (self.attempted % 7))
                while len(self.lost) > 300 and not ended.is_set():
                    await asyncio.sleep(0.01)

        publishing = [asyncio.create_task(publish()) for _ in range(4)]
        try:
            yield
        finally:
            ended.set()
            await asyncio.wait(publishing)
        for task in publishing:
            task.result()

    async def progress(self, more: int) -> None:
        """Wait until so many more are handled."""
        enough = len(self.handled) + more
        await until(lambda: len(self.handled) >= enough)

    @property
    def lost(self) -> set[bytes]:
        """Acknowledged and never handled."""
        return self.acknowledged - self.handled.keys()

    @property
    def duplicated(self) -> int:
        """How many times something was handled again."""
        return sum(self.handled.values()) - len(self.handled)

    @property
    def unexpected(self) -> set[bytes]:
        """Handled and never published."""
        return self.handled.keys() - self.tried

    async def complete(self) -> None:
        """Wait until nothing is missing."""
        await until(lambda: not self.lost)

    def __str__(self) -> str:
        return (
            f"attempted {self.attempted}, acknowledged {len(self.acknowledged)},"
            f" received {sum(self.handled.values())}, lost {len(self.lost)},"
            f" duplicated {self.duplicated}, unexpected {len(self.unexpected)}"
        )


async def new_topic(servers: str, partitions: int = 1, replicas: int = 1, **config: str) -> str:
    """Create a topic and its dead-letter topic."""
    name = unique()
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        options = {key.replace("_", "."): value for key, value in config.items()}
        await admin.create_topics(
            [
                NewTopic(name, partitions, replicas, topic_configs=options),
                NewTopic(f"{name}.dlt", 1, replicas),
            ]
        )
    finally:
        await admin.close()
    return name


async def delete(servers: str, *topics: str) -> None:
    """Delete topics; return when the broker has none of these names."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        await admin.delete_topics(list(topics))
        async with asyncio.timeout(DEADLINE):
            while set(topics) & set(await admin.list_topics()):
                await asyncio.sleep(0.02)
    finally:
        await admin.close()


async def read(servers: str, topic: str, count: int) -> list[ConsumerRecord[bytes, bytes]]:
    """Read so many records from the beginning of a topic, with nothing of ours."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(DEADLINE):
            return [await consumer.getone() for _ in range(count)]
    finally:
        await consumer.stop()


async def write(
    servers: str, topic: str, *values: bytes | None, partition: int = 0, **options: Any
) -> None:
    """Write values to one partition of a topic, with nothing of ours."""
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
        for value in values:
            key = b"key" if value is None else None
            await producer.send_and_wait(topic, value, key=key, partition=partition, **options)


async def committed(servers: str, group: str, topic: str, partition: int = 0) -> int:
    """Return the offset that a group has committed of a partition; 0 when it has none."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(group)
    finally:
        await admin.close()
    found = offsets.get(TopicPartition(topic, partition))
    return 0 if found is None else int(found.offset)


async def has_committed(
    servers: str, group: str, topic: str, offset: int, partition: int = 0
) -> None:
    """Wait until a group has committed an offset of a partition."""
    async with asyncio.timeout(DEADLINE):
        while await committed(servers, group, topic, partition) != offset:
            await asyncio.sleep(0.05)


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """Fail when tasks or sockets are there at the end that were not at the beginning.

    The run's shared broker may start meanwhile, and is asked through sockets whether it is ready.
    """
    tasks, sockets = asyncio.all_tasks(), _sockets()
    yield
    await until(lambda: not asyncio.all_tasks() - tasks, within=5)
    await until(lambda: not _sockets() - sockets, within=30)


def _sockets() -> set[str]:
    """Return the sockets that are connected or listen, and not those that only hold a port."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    active = {f"socket:[{line.split()[9]}]" for line in lines}
    return active & {_target(entry) for entry in Path("/proc/self/fd").iterdir()}


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:
        return ""


def values_of(records: Iterable[ConsumerRecord[bytes, bytes]]) -> list[bytes | None]:
    """Return the values of records."""
    return [record.value for record in records]


def test_a_tally_tells_lost_from_duplicated() -> None:
    """What was acknowledged and not handled is lost; what was handled twice is duplicated."""
    tally = Tally()
    tally.attempted, tally.tried = 3, {b"1", b"2", b"3"}
    tally.acknowledged = {b"1", b"2"}
    tally.handled.update([b"2", b"2", b"3", b"9"])
    assert tally.lost == {b"1"}
    assert tally.duplicated == 1
    assert tally.unexpected == {b"9"}
    assert str(tally) == (
        "attempted 3, acknowledged 2, received 4, lost 1, duplicated 1, unexpected 1"
    )


async def test_until_gives_up() -> None:
    """A condition that does not come true in time fails the test."""
    with pytest.raises(AssertionError, match="did not come true"):
        await until(lambda: False, within=0.05)
