"""Thousands of cancelled calls leave every broker as it would be without them.

Here it is some tens. `PYFLY_STORM_CALLS=3000` cancels so many calls of each method, `make chaos`
some hundreds; `PYFLY_STORM_SEED` draws others.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from pyfly_messaging.adapters.memory import InMemoryMessageBroker
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.testing.conformance.leftovers import Leftovers
from tests.brokers import KafkaCluster, RabbitCluster
from tests.chaos.storm import CALLS, DEADLINE_S, Storm
from tests.integration.rabbit import rabbit_at
from tests.integration.test_kafka_support import make_adapter

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 2 * CALLS)]

POLICY = ListenerPolicy(retry_delay=0.01, concurrency=2)
PARTITIONS = 2
TIMEOUTS = Timeouts(publish=60.0, startup=60.0, shutdown=20.0)


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print how far a long storm is."""

    def show(text: str) -> None:
        if CALLS:
            with capsys.disabled():
                print(f"\n{text}", flush=True)

    return show


@pytest.mark.usefixtures("no_broker_starts")
async def test_memory(report: Callable[[str], None]) -> None:
    """The in-memory broker, whose sites have nothing in common."""
    before = Leftovers()

    def make() -> InMemoryMessageBroker:
        return InMemoryMessageBroker(policy=POLICY, timeouts=TIMEOUTS)

    storm = Storm(make, "m", 300, shared=False, report=report)
    await storm.open()
    try:
        await storm.rage()
        await storm.settle()
    finally:
        await storm.close()
    await before.gone(DEADLINE_S)


async def test_kafka(kafka: KafkaCluster, report: Callable[[str], None]) -> None:
    """Kafka: no group has a member or a lag that it would not have."""
    before, servers = Leftovers(), kafka.bootstrap_servers

    storm = Storm(
        lambda: make_adapter(servers, timeouts=TIMEOUTS, policy=POLICY, partitions=PARTITIONS),
        f"k{secrets.token_hex(3)}",
        10,
        shared=True,
        report=report,
    )
    await storm.open()
    try:
        await storm.rage()
        await storm.settle()
        # For each topic that it listens to a broker has a member in the group.
        members = Counter(each.group for each in storm.listeners() if each.group is not None)
        await _until_equal(lambda: _members(servers, list(members)), members)
    finally:
        await storm.close()
    await before.gone(DEADLINE_S)
    await _until_equal(lambda: _members(servers, list(members)), Counter())
    assert await _lags(servers, {(each.topic, each.group) for each in storm.listeners()}) == {}


async def test_rabbitmq(rabbitmq: RabbitCluster, report: Callable[[str], None]) -> None:
    """RabbitMQ: no connection, channel, consumer or message is there that would not be.

    With hundreds of stops one message may be handed back twenty times. RabbitMQ's delivery limit
    then moves it to the dead-letter queue, and it is missing here.
    """
    if rabbitmq.origin == "PYFLY_TEST_RABBITMQ":
        pytest.skip("rabbitmqctl reaches only a cluster that was started here")
    before, seen = Leftovers(), _Seen(rabbitmq)
    at_first = await seen.connections(), await seen.channels()
    async with rabbit_at(rabbitmq.url) as rabbit:
        storm = Storm(
            lambda: rabbit.adapter(timeouts=TIMEOUTS, policy=POLICY),
            rabbit.name("s"),
            15,
            shared=True,
            report=report,
        )
        await storm.open()
        connections, channels = await seen.connections(), await seen.channels()
        try:
            await storm.rage()
            await storm.settle()
            queues = Counter(
                queue
                for site in storm.sites
                for queue in {
                    each.group or f"pyfly.{each.topic}" for each in site.base + site.extra
                }
            )
            await _until_equal(lambda: seen.consumers(rabbit.prefix), queues)
            extra = queues.total() - sum(len({e.group for e in s.base}) for s in storm.sites)
            await _until_equal(seen.connections, connections)
            await _until_equal(seen.channels, channels + extra)
            await _until_equal(lambda: seen.unfinished(rabbit.prefix), {})
        finally:
            await storm.close()
        await _until_equal(seen.connections, at_first[0])
        await _until_equal(seen.channels, at_first[1])
    await before.gone(DEADLINE_S)


class _Seen:
    """What RabbitMQ says that there is."""

    def __init__(self, cluster: RabbitCluster) -> None:
        self._cluster = cluster

    async def connections(self) -> int:
        return len(await self._list("list_connections", "pid"))

    async def channels(self) -> int:
        return len(await self._list("list_channels", "pid"))

    async def consumers(self, prefix: str) -> Counter[str]:
        """Return how many consumers each queue has."""
        rows = await self._list("list_consumers", "queue_name")
        return Counter(row[0] for row in rows if prefix in row[0])

    async def unfinished(self, prefix: str) -> dict[str, str]:
        """Return the queues that have messages, ready or not acknowledged."""
        rows = await self._list("list_queues", "name", "messages")
        return {name: count for name, count in rows if prefix in name and count != "0"}

    async def _list(self, *arguments: str) -> list[list[str]]:
        text = await asyncio.to_thread(
            self._cluster.control, *arguments[:1], "--no-table-headers", *arguments[1:]
        )
        return [line.split("\t") for line in text.splitlines() if line.strip()]


async def _members(servers: str, groups: list[str]) -> Counter[str]:
    """Return how many members each group has.

    aiokafka cannot read an answer about several groups (0.14).
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        found: Counter[str] = Counter()
        for group in groups:
            (answer,) = await admin.describe_consumer_groups([group])
            found[group] = len(answer.to_object()["groups"][0]["members"])
        return +found
    finally:
        await admin.close()


async def _lags(servers: str, places: set[tuple[str, str | None]]) -> dict[str, int]:
    """Return for each group how many messages it has not committed, if there are any."""
    lags: Counter[str] = Counter()
    consumer = AIOKafkaConsumer(bootstrap_servers=servers)
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await consumer.start()
    await admin.start()
    try:
        for topic, group in places:
            if group is not None:
                partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
                ends = await consumer.end_offsets(partitions)
                committed = await admin.list_consumer_group_offsets(group)
                for partition in partitions:
                    offset = committed.get(partition)
                    lags[group] += ends[partition] - (0 if offset is None else offset.offset)
        return dict(+lags)
    finally:
        await admin.close()
        await consumer.stop()


async def _until_equal(look: Callable[[], Awaitable[object]], wanted: object) -> None:
    """Look until what is seen is what is wanted; fail with both when it is not in time."""
    try:
        async with asyncio.timeout(DEADLINE_S / 4):
            while (found := await look()) != wanted:
                await asyncio.sleep(0.2)
    except TimeoutError:
        assert found == wanted
