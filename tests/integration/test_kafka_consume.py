"""Consuming from a real Kafka: positions, commits, groups, and what is handed back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from pyfly_messaging.adapters.kafka import KafkaAdapter
from pyfly_messaging.errors import MessagingError, TopologyError
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from tests.brokers import KafkaCluster
from tests.integration.test_kafka_support import (
    Inbox,
    committed,
    has_committed,
    make_adapter,
    new_topic,
    nothing_left,
    read,
    running,
    unique,
    until,
    values_of,
    write,
)


@pytest.fixture
async def topic(kafka: KafkaCluster) -> str:
    """A topic of one partition."""
    return await new_topic(kafka.bootstrap_servers)


async def test_a_named_group_begins_at_the_beginning(kafka: KafkaCluster, topic: str) -> None:
    """A new group gets what was published before it was there."""
    servers, inbox = kafka.bootstrap_servers, Inbox()
    await write(servers, topic, b"1", b"2")
    adapter = make_adapter(servers)
    await adapter.subscribe(topic, inbox, unique("group"))
    async with running(adapter):
        assert await inbox.has(2) == [b"1", b"2"]


async def test_a_group_can_begin_at_the_end(kafka: KafkaCluster, topic: str) -> None:
    """With `auto-offset-reset: latest` a new group gets only what is published after the start."""
    servers, inbox = kafka.bootstrap_servers, Inbox()
    await write(servers, topic, b"old")
    adapter = make_adapter(servers, auto_offset_reset="latest")
    await adapter.subscribe(topic, inbox, unique("group"))
    async with running(adapter):
        await adapter.publish(topic, b"new")
        assert await inbox.has(1) == [b"new"]


async def test_a_group_that_began_at_the_end_keeps_its_place(
    kafka: KafkaCluster, topic: str
) -> None:
    """A group that began at the end gets what is published while none of its members runs."""
    servers, inbox, group = kafka.bootstrap_servers, Inbox(), unique("group")
    await write(servers, topic, b"old")
    adapter = make_adapter(servers, auto_offset_reset="latest")
    await adapter.subscribe(topic, inbox, group)
    async with running(adapter):
        assert await committed(servers, group, topic) == 1
    await write(servers, topic, b"meanwhile")
    async with running(adapter):
        assert await inbox.has(1) == [b"meanwhile"]


async def test_a_listener_without_a_group_begins_at_the_end(
    kafka: KafkaCluster, topic: str
) -> None:
    """A listener without a group sees what is published after the start, and nothing older."""
    servers, inbox = kafka.bootstrap_servers, Inbox()
    await write(servers, topic, b"old")
    adapter = make_adapter(servers)
    await adapter.subscribe(topic, inbox)
    async with running(adapter):
        await adapter.publish(topic, b"new")
        assert await inbox.has(1) == [b"new"]


async def test_new_partitions_are_read_from_their_beginning(
    kafka: KafkaCluster, topic: str
) -> None:
    """When a topic grows, listeners with and without a group miss nothing of the new partitions."""
    servers, grouped, alone = kafka.bootstrap_servers, Inbox(), Inbox()
    adapter = make_adapter(servers, options={"metadata_max_age_ms": 500})
    await adapter.subscribe(topic, grouped, unique("group"))
    await adapter.subscribe(topic, alone)
    async with running(adapter):
        await adapter.publish(topic, b"0")
        await alone.has(1)
        await grouped.has(1)
        admin = AIOKafkaAdminClient(bootstrap_servers=servers)
        await admin.start()
        await admin.create_partitions({topic: NewPartitions(total_count=3)})
        await admin.close()
        sent, enough = [b"0"], asyncio.Event()
        while not enough.is_set():
            if all(len(consumer.assigned) == 3 for consumer in adapter.health().consumers):
                enough.set()  # with one more message
            sent.append(b"%d" % len(sent))
            await adapter.publish(topic, sent[-1], key=sent[-1])
        assert sorted(await alone.has(len(sent))) == sorted(sent)
        assert sorted(await grouped.has(len(sent))) == sorted(sent)


async def test_only_the_settled_prefix_is_committed(kafka: KafkaCluster) -> None:
    """What is behind an unsettled message is not committed; after a restart it comes again."""
    servers, group = kafka.bootstrap_servers, unique("group")
    topic = await new_topic(servers)
    handled: list[bytes] = []
    stuck, go_on = asyncio.Event(), asyncio.Event()

    async def handle(message: Message) -> None:
        if message.value == b"2" and not go_on.is_set():
            stuck.set()
            await go_on.wait()
        handled.append(message.value)

    adapter = make_adapter(servers, timeouts=Timeouts(shutdown=0.5))
    await adapter.subscribe(topic, handle, group, policy=ListenerPolicy(concurrency=4))
    async with running(adapter):
        for number in range(6):
            await adapter.publish(topic, b"%d" % number, key=b"%d" % number)
        await stuck.wait()
        await until(lambda: len(handled) == 5)
    assert sorted(handled) == [b"0", b"1", b"3", b"4", b"5"]
    assert await committed(servers, group, topic) == 2
    go_on.set()
    handled.clear()
    async with running(adapter):
        await until(lambda: len(handled) == 4)
    assert sorted(handled) == [b"2", b"3", b"4", b"5"]
    assert await committed(servers, group, topic) == 6


async def test_stop_commits_what_is_settled(kafka: KafkaCluster, topic: str) -> None:
    """However long the commit interval is, a stop commits everything that is settled."""
    servers, group, inbox = kafka.bootstrap_servers, unique("group"), Inbox()
    adapter = make_adapter(servers, commit_interval=3600)
    await adapter.subscribe(topic, inbox, group)
    async with running(adapter):
        await adapter.publish_many([Message(topic, b"%d" % n) for n in range(10)])
        await inbox.has(10)
    assert await committed(servers, group, topic) == 10


@pytest.mark.parametrize("count", [1, 10])
async def test_commits_are_bounded_by_count(kafka: KafkaCluster, topic: str, count: int) -> None:
    """After `commit-count` settled records a commit follows, though handlers are busy."""
    servers, group = kafka.bootstrap_servers, unique("group")
    await write(servers, topic, *(b"%d" % n for n in range(26)))
    stuck = asyncio.Event()

    async def handle(message: Message) -> None:
        if message.value == b"25":
            await stuck.wait()

    adapter = make_adapter(servers, commit_interval=3600, commit_count=count)
    await adapter.subscribe(topic, handle, group)
    async with running(adapter):
        while await committed(servers, group, topic) < 26 - count:
            await asyncio.sleep(0.05)
        stuck.set()


async def test_commits_are_bounded_by_time(kafka: KafkaCluster, topic: str) -> None:
    """After `commit-interval` what is settled is committed, though handlers are busy."""
    servers, group = kafka.bootstrap_servers, unique("group")
    await write(servers, topic, b"1", b"2", b"3")
    stuck = asyncio.Event()

    async def handle(message: Message) -> None:
        if message.value == b"3":
            await stuck.wait()

    adapter = make_adapter(servers, commit_interval=0.2)
    await adapter.subscribe(topic, handle, group)
    async with running(adapter):
        while await committed(servers, group, topic) != 2:
            await asyncio.sleep(0.05)
        stuck.set()


async def test_intake_pauses_while_handlers_are_busy(kafka: KafkaCluster) -> None:
    """No more than `max-in-flight` messages are held, whatever waits in the topic."""
    servers = kafka.bootstrap_servers
    topic = await new_topic(servers, partitions=2)
    go_on, inbox, in_flight = asyncio.Event(), Inbox(), list[int]()

    async def handle(message: Message) -> None:
        await go_on.wait()
        in_flight.append(adapter.health().consumers[0].in_flight)
        await inbox(message)

    adapter = make_adapter(servers, max_in_flight=20)
    await adapter.subscribe(topic, handle, unique("group"), policy=ListenerPolicy(concurrency=5))
    async with running(adapter):
        await adapter.publish_many([Message(topic, b"x", b"%d" % n) for n in range(200)])
        await until(lambda: adapter.health().consumers[0].in_flight >= 10)
        go_on.set()
        await inbox.has(200)
    assert 10 <= max(in_flight) <= 20


async def test_a_dead_letter_is_committed_after_it_is_written(
    kafka: KafkaCluster, topic: str
) -> None:
    """A spent message is in the dead-letter topic, and only then committed."""
    servers, group = kafka.bootstrap_servers, unique("group")

    async def fail(message: Message) -> None:
        raise ValueError("no")

    adapter = make_adapter(servers)
    policy = ListenerPolicy(retries=1, retry_delay=0.01)
    await adapter.subscribe(topic, fail, group, policy=policy)
    async with running(adapter):
        await adapter.publish(topic, b"bad", key=b"key", headers={"a": "b"})
        (letter,) = await read(servers, f"{topic}.dlt", 1)
        while await committed(servers, group, topic) != 1:
            await asyncio.sleep(0.05)
    assert (letter.value, letter.key) == (b"bad", b"key")
    headers = dict(letter.headers)
    assert headers["a"] == b"b"
    assert headers["x-pyfly-original-topic"] == topic.encode()
    assert headers["x-pyfly-attempts"] == b"2"


async def test_a_late_subscription_consumes_at_once(kafka: KafkaCluster) -> None:
    """A subscription on a running broker has its consumer when it returns."""
    servers, topic, inbox = kafka.bootstrap_servers, unique(), Inbox()
    adapter = make_adapter(servers)
    async with running(adapter):
        await adapter.subscribe(topic, inbox)
        assert adapter.health().consumers[0].state == "running"
        await adapter.publish(topic, b"1")
        assert await inbox.has(1) == [b"1"]


async def test_subscriptions_made_at_once_all_consume(kafka: KafkaCluster) -> None:
    """Handlers that are subscribed at the same moment share the consumer of their group."""
    servers, topic, group = kafka.bootstrap_servers, unique(), unique("group")
    inboxes = [Inbox() for _ in range(5)]
    adapter = make_adapter(servers)
    async with running(adapter):
        await asyncio.gather(*(adapter.subscribe(topic, inbox, group) for inbox in inboxes))
        assert len(adapter.health().consumers) == 1
        await adapter.publish_many([Message(topic, b"%d" % n) for n in range(10)])
        await until(lambda: sum(len(inbox.messages) for inbox in inboxes) == 10)
    assert [len(inbox.messages) for inbox in inboxes] == [2] * 5


async def test_a_subscription_during_the_start_consumes(kafka: KafkaCluster) -> None:
    """A subscription that is made while the broker starts has a consumer when both are done."""
    servers, topic, inbox = kafka.bootstrap_servers, unique(), Inbox()
    adapter = make_adapter(servers)
    await adapter.subscribe(unique(), Inbox(), unique("group"))
    starting = asyncio.create_task(adapter.start())
    await asyncio.sleep(0)  # until the start is under way
    await adapter.subscribe(topic, inbox)
    await starting
    await adapter.publish(topic, b"1")
    assert await inbox.has(1) == [b"1"]
    await adapter.stop()


async def test_a_late_subscription_that_fails_is_taken_back(kafka: KafkaCluster) -> None:
    """A subscription on a running broker whose topic is missing raises and leaves no trace."""
    servers, topic, inbox = kafka.bootstrap_servers, unique("missing"), Inbox()
    adapter = make_adapter(servers, topics="verify")
    async with running(adapter):
        async with nothing_left():
            with pytest.raises(TopologyError, match=topic):
                await adapter.subscribe(topic, inbox, "group")
        assert adapter.health().consumers == ()
        with pytest.raises(TopologyError):  # and not: this handler listens here already
            await adapter.subscribe(topic, inbox, "group")


async def test_a_subscription_during_the_stop_leaves_nothing(kafka: KafkaCluster) -> None:
    """A subscription that is made while the broker stops raises, or is stopped with it."""
    adapter = make_adapter(kafka.bootstrap_servers)
    async with nothing_left():
        await adapter.start()
        subscribing = asyncio.create_task(adapter.subscribe(unique(), Inbox(), unique("group")))
        await asyncio.sleep(0.02)  # somewhere within
        await adapter.stop()
        await asyncio.wait((subscribing,))
        if (error := subscribing.exception()) is not None:
            assert isinstance(error, MessagingError)
    assert [c.state for c in adapter.health().consumers] in ([], ["stopped"])


async def test_topics_of_one_group_are_kept_apart(kafka: KafkaCluster) -> None:
    """Two listeners of one group on different topics each get their own topic."""
    servers, group = kafka.bootstrap_servers, unique("group")
    topics = [await new_topic(servers, partitions=2) for _ in range(3)]
    inboxes = [Inbox() for _ in topics]
    adapter = make_adapter(servers)
    for topic, inbox in zip(topics, inboxes, strict=True):
        await adapter.subscribe(topic, inbox, group)
    async with running(adapter):
        assert [c.state for c in adapter.health().consumers] == ["running"] * 3
        for topic in topics:
            await adapter.publish_many(
                [Message(topic, topic.encode(), b"%d" % n) for n in range(4)]
            )
        for topic, inbox in zip(topics, inboxes, strict=True):
            assert await inbox.has(4) == [topic.encode()] * 4


async def test_order_is_kept_within_a_partition(kafka: KafkaCluster) -> None:
    """With one handler at a time the messages of a partition are handled as they were written."""
    servers, inbox = kafka.bootstrap_servers, Inbox()
    topic = await new_topic(servers, partitions=3)
    adapter = make_adapter(servers, max_in_flight=7)
    await adapter.subscribe(topic, inbox, unique("group"))
    async with running(adapter):
        batch = [Message(topic, b"%04d" % n, b"%d" % (n % 5)) for n in range(500)]
        await adapter.publish_many(batch)
        await inbox.has(500)
    for key in {message.key for message in batch}:
        own = [message.value for message in inbox.messages if message.key == key]
        assert own == sorted(own)


@asynccontextmanager
async def _stopped(adapter: KafkaAdapter) -> AsyncIterator[None]:
    await adapter.stop()
    yield
    await adapter.start()


async def test_a_stopped_broker_starts_again_where_it_was(kafka: KafkaCluster, topic: str) -> None:
    """After stop and start a group goes on where it was, and nothing is handled twice."""
    servers, inbox = kafka.bootstrap_servers, Inbox()
    adapter = make_adapter(servers)
    await adapter.subscribe(topic, inbox, unique("group"))
    async with running(adapter):
        for round_ in range(3):
            await adapter.publish(topic, b"%d" % round_)
            await inbox.has(2 * round_ + 1)
            async with _stopped(adapter):
                await write(servers, topic, b"while stopped")
            await inbox.has(2 * round_ + 2)
    written = values_of(await read(servers, topic, 6))
    assert inbox.values == written


@pytest.mark.parametrize("grouped", [True, False], ids=["group", "no group"])
async def test_what_is_held_is_bounded_in_bytes(
    kafka: KafkaCluster, grouped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large records wait for room, one above the bound goes alone, each is handled once.

    On the wire they are small: only the client knows how large they are.
    """
    servers, group = kafka.bootstrap_servers, unique("group")
    topic = await new_topic(servers, max_message_bytes="10000000")
    held, most, sizes = 0, 0, list[int]()

    async def handle(message: Message) -> None:
        nonlocal held, most
        sizes.append(len(message.value))
        held += len(message.value)
        most = max(most, held % 9_000_000)  # what there is beside the largest
        await asyncio.sleep(0.01)
        held -= len(message.value)

    # A batch that is fetched again is unpacked again, as a whole.
    monkeypatch.setattr(AIOKafkaConsumer, "seek", lambda *_: pytest.fail("fetched again"))
    adapter = make_adapter(servers, max_in_flight_bytes="4MiB")
    policy = ListenerPolicy(concurrency=50)
    await adapter.subscribe(topic, handle, group if grouped else None, policy=policy)
    expected = [1_000_000] * 15 + [9_000_000] + [1_000_000] * 15 + [10] * 30
    async with running(adapter):
        async with AIOKafkaProducer(
            bootstrap_servers=servers, compression_type="gzip", max_request_size=2**24
        ) as producer:
            sent = [await producer.send(topic, bytes(size)) for size in expected]
            await asyncio.gather(*sent)
        await until(lambda: len(sizes) >= len(expected))
        if grouped:
            await has_committed(servers, group, topic, len(expected))
    assert sorted(sizes) == sorted(expected)
    assert most <= 2_100_000
