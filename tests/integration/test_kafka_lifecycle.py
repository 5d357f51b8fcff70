"""Start and stop against a real Kafka, and against none: bounded, whole or not at all."""

import asyncio
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.metadata import MetadataRequest

from pyfly_messaging.errors import BrokerUnavailableError, TopologyError
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.ports import (
    AppliesPolicies,
    MessageBrokerPort,
    PublishesBatches,
    ReportsHealth,
)
from tests.brokers import KafkaCluster
from tests.integration.test_kafka_support import (
    Inbox,
    committed,
    make_adapter,
    new_topic,
    nothing_left,
    running,
    unique,
    until,
)

SLACK = 10.0  # for a loaded machine


@pytest.fixture
def silent_host() -> Iterator[str]:
    """The address of a host that takes connections and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_an_adapter_offers_all_that_there_is() -> None:
    """The adapter has the port, batches, health and policies."""
    policy = ListenerPolicy(retries=1)
    adapter = make_adapter("127.0.0.1:1", policy=policy)
    for protocol in (MessageBrokerPort, PublishesBatches, ReportsHealth, AppliesPolicies):
        assert isinstance(adapter, protocol)
    assert adapter.default_policy is policy


async def test_a_refused_connection_ends_the_start_in_time() -> None:
    """Where nothing listens a start fails after its timeout, says why, and leaves nothing."""
    adapter = make_adapter("127.0.0.1:1,127.0.0.1:2", timeouts=Timeouts(startup=0.7))
    await adapter.subscribe("orders", Inbox(), "group")
    async with nothing_left():
        before = time.monotonic()
        with pytest.raises(
            BrokerUnavailableError, match=r"127\.0\.0\.1:1,127\.0\.0\.1:2"
        ) as caught:
            await adapter.start()
        assert time.monotonic() - before < 0.7 + SLACK
    assert caught.value.attempts > 1
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert adapter.health().started is False
    await adapter.stop()


async def test_a_silent_host_ends_the_start_in_time(silent_host: str) -> None:
    """A host that answers nothing costs a start its timeout, not forty seconds."""
    adapter = make_adapter(silent_host, timeouts=Timeouts(startup=1.0))
    async with nothing_left():
        before = time.monotonic()
        with pytest.raises(BrokerUnavailableError, match=silent_host):
            await adapter.start()
        assert time.monotonic() - before < 1.0 + SLACK


async def test_one_host_that_answers_is_enough(kafka: KafkaCluster, silent_host: str) -> None:
    """Hosts that are down or silent do not keep a start from finding the one that answers."""
    inbox, topic = Inbox(), unique()
    adapter = make_adapter(f"127.0.0.1:1,{silent_host},{kafka.bootstrap_servers}")
    await adapter.subscribe(topic, inbox, unique("group"))
    async with running(adapter):
        await adapter.publish(topic, b"value")
        assert await inbox.has(1) == [b"value"]


async def test_a_start_waits_for_the_broker(kafka: KafkaCluster) -> None:
    """A start goes on trying until the broker is there."""
    host, _, port = kafka.address.rpartition(":")
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        address = reserved.getsockname()
    adapter = make_adapter(f"127.0.0.1:{address[1]}")
    starting = asyncio.create_task(adapter.start())
    done, _ = await asyncio.wait((starting,), timeout=0.5)
    assert not done

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        pumps = [_pump(reader, far_writer), _pump(far_reader, writer)]
        await asyncio.gather(*pumps, return_exceptions=True)

    async with await asyncio.start_server(forward, *address):
        await starting
        await adapter.publish(unique(), b"value")
        await adapter.stop()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


async def test_a_failed_start_starts_nothing(kafka: KafkaCluster) -> None:
    """When one of several listeners cannot start, none consumes, and the start can be repeated."""
    servers, inbox = kafka.bootstrap_servers, Inbox()
    good, missing = await new_topic(servers), unique("missing")
    adapter = make_adapter(servers, topics="verify")
    await adapter.subscribe(good, inbox, unique("group"))
    await adapter.subscribe(missing, inbox, unique("group"))
    async with nothing_left():
        for _ in range(2):
            with pytest.raises(TopologyError, match=missing):
                await adapter.start()
            assert {c.state for c in adapter.health().consumers} == {"stopped"}
    creating = make_adapter(servers)
    async with running(creating):
        await creating.publish(missing, b"now it is there")
        await creating.publish(f"{missing}.dlt", b"and this")
    async with running(adapter):
        assert await inbox.has(1) == [b"now it is there"]


async def test_a_cancelled_start_leaves_nothing(kafka: KafkaCluster) -> None:
    """A start that is cancelled, however far it came, leaves neither task nor socket."""
    adapter = make_adapter(kafka.bootstrap_servers)
    await adapter.subscribe(unique(), Inbox(), unique("group"))
    await adapter.subscribe(unique(), Inbox())
    async with nothing_left():
        for number, delay in enumerate((0.0, 0.005, 0.01, 0.03, 0.05, 0.1, 0.15, 0.2)):
            starting = asyncio.create_task(adapter.start())
            for _ in range(1 + number % 2):
                await asyncio.sleep(delay)  # somewhere within
                starting.cancel()
            await asyncio.wait((starting,))
            if not starting.cancelled():
                await adapter.stop()
            assert adapter.health().started is False


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
async def test_a_cancelled_stop_leaves_nothing(kafka: KafkaCluster, busy: bool) -> None:
    """A stop that is cancelled once or twice, wherever it is, has closed everything; soon."""
    servers, group, begun = kafka.bootstrap_servers, unique("group"), asyncio.Event()
    topic = await new_topic(servers, partitions=2)

    async def handle(message: Message) -> None:
        begun.set()
        if busy:
            await asyncio.Event().wait()

    async with nothing_left():
        for number, delay in enumerate((0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)):
            adapter = make_adapter(servers, timeouts=Timeouts(shutdown=600))
            await adapter.subscribe(topic, handle, group)
            await adapter.subscribe(topic, Inbox())
            begun.clear()
            await adapter.start()
            publishes = [asyncio.create_task(adapter.publish(topic, b"value")) for _ in range(9)]
            await begun.wait()
            stopping = asyncio.create_task(adapter.stop())
            for _ in range(1 + number % 2):
                await asyncio.sleep(delay)  # somewhere within
                stopping.cancel()
            async with asyncio.timeout(60):
                await asyncio.wait((stopping,))
                await asyncio.gather(*publishes, return_exceptions=True)
            assert adapter.health().started is False
            assert {consumer.state for consumer in adapter.health().consumers} == {"stopped"}
            assert await members(servers, group) == 0
            await adapter.stop()


async def members(servers: str, group: str) -> int:
    """Return how many members a group has."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        (described,) = await admin.describe_consumer_groups([group])
    finally:
        await admin.close()
    return len(described.groups[0][5])


async def test_a_cancelled_subscribe_leaves_nothing(kafka: KafkaCluster) -> None:
    """A subscription that is cancelled, wherever it is, is taken back whole; the broker goes on."""
    adapter, topic, inbox = make_adapter(kafka.bootstrap_servers), unique(), Inbox()
    async with nothing_left(), running(adapter):
        for number, delay in enumerate((0.0, 0.003, 0.01, 0.02, 0.03, 0.06, 0.1)):
            tasks = asyncio.all_tasks()
            subscribing = asyncio.create_task(adapter.subscribe(unique(), Inbox(), unique("group")))
            for _ in range(1 + number % 2):
                await asyncio.sleep(delay)  # somewhere within
                subscribing.cancel()
            await asyncio.wait((subscribing,))
            if not subscribing.cancelled():
                break
            assert adapter.health().consumers == ()
            assert adapter._consumers == {}
            await only(tasks)
        await adapter.subscribe(topic, inbox, unique("group"))
        await adapter.publish(topic, b"value")
        await inbox.has(1)


async def only(tasks: set[asyncio.Task[Any]]) -> None:
    """Wait until there are no other tasks."""
    await until(lambda: asyncio.all_tasks() <= tasks)


@pytest.mark.parametrize("answered", range(1, 6))
async def test_a_start_that_ends_while_it_asks_for_metadata(
    kafka: KafkaCluster, monkeypatch: pytest.MonkeyPatch, answered: int
) -> None:
    """Whichever client waits for the first metadata when a start ends, its connection is closed."""
    ask, asked, hangs = AIOKafkaConnection.send, 0, asyncio.Event()

    async def hang(connection: AIOKafkaConnection, request: Any, **how: Any) -> Any:
        nonlocal asked
        asked += isinstance(request, MetadataRequest)
        if asked <= answered:
            return await ask(connection, request, **how)
        hangs.set()
        return await asyncio.Event().wait()

    monkeypatch.setattr(AIOKafkaConnection, "send", hang)
    adapter = make_adapter(kafka.bootstrap_servers)
    await adapter.subscribe(unique(), Inbox(), unique("group"))
    await adapter.subscribe(unique(), Inbox())
    async with nothing_left():
        starting = asyncio.create_task(adapter.start())
        await hangs.wait()
        await asyncio.sleep(0.05)
        starting.cancel()
        await asyncio.wait((starting,))
        await adapter.stop()


async def test_stop_leaves_nothing(kafka: KafkaCluster) -> None:
    """After a stop there is no task and no socket of ours, and all stays that way when repeated."""
    servers, topic = kafka.bootstrap_servers, unique()
    adapter = make_adapter(servers)
    await adapter.stop()
    await adapter.subscribe(topic, inbox := Inbox(), unique("group"))
    await adapter.subscribe(topic, Inbox())
    async with nothing_left():
        for round_ in range(3):
            await asyncio.gather(adapter.start(), adapter.start())
            await adapter.publish_many([Message(topic, b"%d" % n) for n in range(50)])
            await inbox.has(50 * (round_ + 1))
            await asyncio.gather(adapter.stop(), adapter.stop())
            assert adapter.health().started is False


async def test_stop_lets_running_handlers_finish(kafka: KafkaCluster) -> None:
    """A handler that runs at the stop finishes and is committed; what waited is handed back."""
    servers, group = kafka.bootstrap_servers, unique("group")
    topic = await new_topic(servers)
    begun, go_on, handled = asyncio.Event(), asyncio.Event(), list[bytes]()

    async def handle(message: Message) -> None:
        begun.set()
        await go_on.wait()
        handled.append(message.value)

    # A consumer that does not fetch for so long would leave its group.
    adapter = make_adapter(servers, max_poll_interval=3)
    await adapter.subscribe(topic, handle, group)
    async with nothing_left():
        await adapter.start()
        await adapter.publish_many([Message(topic, b"%d" % n) for n in range(5)])
        await begun.wait()
        stopping = asyncio.create_task(adapter.stop())
        done, _ = await asyncio.wait((stopping,), timeout=5)
        assert not done
        go_on.set()
        await stopping
    assert handled == [b"0"]
    assert await committed(servers, group, topic) == 1


async def test_stop_cancels_what_takes_too_long(kafka: KafkaCluster) -> None:
    """A handler that outlasts the shutdown timeout is cancelled; its message is handled again."""
    servers, group = kafka.bootstrap_servers, unique("group")
    topic = await new_topic(servers)
    begun, cancelled, inbox = asyncio.Event(), asyncio.Event(), Inbox()

    async def handle(message: Message) -> None:
        if begun.is_set():
            await inbox(message)
            return
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    adapter = make_adapter(servers, timeouts=Timeouts(shutdown=0.5))
    await adapter.subscribe(topic, handle, group)
    async with nothing_left():
        await adapter.start()
        await adapter.publish(topic, b"value")
        await begun.wait()
        before = time.monotonic()
        await adapter.stop()
        assert time.monotonic() - before < 0.5 + SLACK
        assert cancelled.is_set()
    assert await committed(servers, group, topic) == 0
    async with running(adapter):
        assert await inbox.has(1) == [b"value"]


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_a_handler_may_stop_its_broker(kafka: KafkaCluster, concurrency: int) -> None:
    """A handler that stops its own broker is not waited for; its message is handled again."""
    servers, group, inbox = kafka.bootstrap_servers, unique("group"), Inbox()
    topic, took = await new_topic(servers), asyncio.get_running_loop().create_future()
    adapter = make_adapter(servers, policy=ListenerPolicy(concurrency=concurrency))

    async def handle(message: Message) -> None:
        if took.done():
            await inbox(message)
            return
        before = time.monotonic()
        await adapter.stop()
        took.set_result(time.monotonic() - before)

    await adapter.subscribe(topic, handle, group)
    async with nothing_left():
        await adapter.start()
        await adapter.publish(topic, b"value")
        assert await took < 20  # of a shutdown timeout of 30 s
    async with running(adapter):
        assert await inbox.has(1) == [b"value"]


async def test_a_handler_that_is_cut_off_is_told_of(
    kafka: KafkaCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """A rebalance that cancels a handler says which, and after how long."""
    servers, group, handled = kafka.bootstrap_servers, unique("group"), list[bytes]()
    topic, begun = await new_topic(servers, partitions=2), asyncio.Event()

    async def handle(message: Message) -> None:
        if not begun.is_set():
            begun.set()
            await asyncio.Event().wait()
        handled.append(message.value)

    options = {"heartbeat_interval_ms": 200}
    first = make_adapter(servers, timeouts=Timeouts(shutdown=0.5), options=options)
    second = make_adapter(servers)
    await first.subscribe(topic, handle, group, name="slow")
    await second.subscribe(topic, handle, group)
    async with running(first):
        await first.publish(topic, b"value")
        await begun.wait()
        async with running(second):
            await until(lambda: handled == [b"value"])
    assert any("slow: a handler still runs" in text for text in caplog.messages)


async def test_a_new_topic_makes_no_noise(
    kafka: KafkaCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """What passes within a moment of the creation of a topic is not logged as an error."""
    for number in range(4):
        adapter, inbox, topic = (
            make_adapter(kafka.bootstrap_servers, partitions=8),
            Inbox(),
            unique(),
        )
        for group in (None, unique("group"), unique("group")):
            await adapter.subscribe(topic, inbox if group is None else Inbox(), group)
        async with running(adapter):
            await adapter.publish(topic, b"%d" % number)
            await inbox.has(1)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_stop_confirms_what_is_being_published(kafka: KafkaCluster) -> None:
    """Publishes that are under way at the stop are confirmed, or raise at once; none hangs."""
    servers = kafka.bootstrap_servers
    adapter, topic = make_adapter(servers, linger=0.3), await new_topic(servers)
    async with nothing_left():
        await adapter.start()
        await adapter.publish(topic, b"first")
        publishes = [asyncio.create_task(adapter.publish(topic, b"%d" % n)) for n in range(100)]
        await asyncio.sleep(0)
        await adapter.stop()
        async with asyncio.timeout(SLACK):
            outcomes = await asyncio.gather(*publishes, return_exceptions=True)
        assert outcomes == [None] * 100


async def test_health_follows_the_life_of_a_broker(kafka: KafkaCluster) -> None:
    """Health tells what is assigned and in flight, and whether publishing is possible."""
    servers, group = kafka.bootstrap_servers, unique("group")
    topic = await new_topic(servers, partitions=2)
    adapter, go_on = make_adapter(servers), asyncio.Event()

    async def handle(message: Message) -> None:
        await go_on.wait()

    await adapter.subscribe(topic, handle, group, name="one")
    health = adapter.health()
    assert (health.started, health.publishing, health.healthy) == (False, False, False)
    async with running(adapter):
        health = adapter.health()
        assert (health.started, health.publishing, health.healthy) == (True, True, True)
        (consumer,) = health.consumers
        assert (consumer.name, consumer.topic, consumer.group) == ("one", topic, group)
        assert (consumer.state, consumer.error) == ("running", None)
        assert consumer.assigned == (f"{topic}-0", f"{topic}-1")
        await adapter.publish_many([Message(topic, b"%d" % n) for n in range(7)])
        await until(lambda: adapter.health().consumers[0].in_flight == 7)
        go_on.set()
        await until(lambda: adapter.health().consumers[0].in_flight == 0)
    assert adapter.health().consumers[0].state == "stopped"


async def test_a_member_without_partitions_runs(kafka: KafkaCluster) -> None:
    """Of more members than partitions some have none, and are well."""
    servers, topic, group = kafka.bootstrap_servers, unique(), unique("group")
    adapters = [make_adapter(servers) for _ in range(2)]
    for adapter in adapters:
        await adapter.subscribe(topic, Inbox(), group)
    async with running(*adapters):
        await until(lambda: all(adapter.health().healthy for adapter in adapters))
        assigned = [adapter.health().consumers[0].assigned for adapter in adapters]
        assert sorted(assigned) == [(), (f"{topic}-0",)]


async def test_stop_sums_up_a_storm(kafka: KafkaCluster, caplog: pytest.LogCaptureFixture) -> None:
    """What was not logged one by one of a storm of failures is told at the stop."""
    adapter = make_adapter(kafka.bootstrap_servers, policy=ListenerPolicy(retries=0))
    topic, letters = unique(), Inbox()

    async def fail(message: Message) -> None:
        raise ValueError("no")

    await adapter.subscribe(topic, fail, unique("group"))
    await adapter.subscribe(f"{topic}.dlt", letters, unique("group"))
    async with running(adapter):
        for _ in range(15):
            await adapter.publish(topic, b"value")
        await letters.has(15)
    assert any("5 messages go to dead letters (5 ValueError)" in text for text in caplog.messages)
