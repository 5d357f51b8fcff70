"""`kafka.topics: create | verify | ignore`, on a broker that creates topics itself and one not."""

import time

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from pyfly_messaging.errors import BrokerUnavailableError, PublishError, TopologyError
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from tests.brokers import KafkaCluster, KafkaFactory
from tests.integration.test_kafka_support import (
    Inbox,
    make_adapter,
    new_topic,
    nothing_left,
    read,
    running,
    unique,
    values_of,
)

PATIENCE = 5.0  # what `ignore` waits for somebody to create a topic
SLACK = 10.0  # for a loaded machine


async def partitions_of(servers: str, topic: str) -> int | None:
    """Return how many partitions a topic has; None when it does not exist."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        if topic not in await admin.list_topics():
            return None
        (described,) = await admin.describe_topics([topic])
        return len(described["partitions"])
    finally:
        await admin.close()


async def test_missing_topics_are_created(kafka: KafkaCluster) -> None:
    """A start creates topics and dead-letter topics, with the partitions that were asked for."""
    servers, topic = kafka.bootstrap_servers, unique()
    adapter = make_adapter(servers, partitions=3, replication_factor=1)
    policy = ListenerPolicy(dead_letter_topic="{topic}.dead")
    await adapter.subscribe(topic, Inbox(), "group", policy=policy)
    async with running(adapter):
        assert await partitions_of(servers, topic) == 3
        assert await partitions_of(servers, f"{topic}.dead") == 3
        assert await partitions_of(servers, f"{topic}.dlt") is None


async def test_the_brokers_defaults_are_used(kafka: KafkaCluster) -> None:
    """Without settings of its own a created topic has the partitions of the broker's default."""
    servers, topic = kafka.bootstrap_servers, unique()
    adapter = make_adapter(servers)
    async with running(adapter):
        await adapter.publish(topic, b"value")
    assert await partitions_of(servers, topic) == 1


async def test_an_existing_topic_stays_as_it_is(kafka: KafkaCluster) -> None:
    """A topic that is there keeps its partitions, whatever the settings say."""
    servers = kafka.bootstrap_servers
    adapter, topic = make_adapter(servers, partitions=7), await new_topic(servers, partitions=2)
    await adapter.subscribe(topic, Inbox(), "group")
    async with running(adapter):
        assert await partitions_of(servers, topic) == 2


async def test_what_cannot_be_created_fails_at_once(kafka: KafkaCluster) -> None:
    """More replicas than there are brokers is a TopologyError, and nothing is left behind."""
    adapter, topic = make_adapter(kafka.bootstrap_servers, replication_factor=3), unique()
    await adapter.subscribe(topic, Inbox(), "group")
    async with nothing_left():
        before = time.monotonic()
        with pytest.raises(TopologyError, match=rf"cannot create topic {topic}.*replication"):
            await adapter.start()
        assert time.monotonic() - before < SLACK


async def test_verify_refuses_what_is_missing(kafka: KafkaCluster) -> None:
    """With `verify` a start without its topics fails at once, and names all of them."""
    servers, missing = kafka.bootstrap_servers, unique("missing")
    adapter, there = make_adapter(servers, topics="verify"), await new_topic(servers)
    await adapter.subscribe(there, Inbox(), "group")
    await adapter.subscribe(missing, Inbox(), "group")
    async with nothing_left():
        before = time.monotonic()
        with pytest.raises(TopologyError, match=rf"{missing}, {missing}\.dlt; create them"):
            await adapter.start()
        assert time.monotonic() - before < SLACK
    assert await partitions_of(servers, missing) is None


async def test_verify_accepts_what_is_there(kafka: KafkaCluster) -> None:
    """With `verify` a start whose topics are there, dead-letter topics included, succeeds."""
    servers, inbox = kafka.bootstrap_servers, Inbox()
    adapter, topic = make_adapter(servers, topics="verify"), await new_topic(servers)
    await adapter.subscribe(topic, inbox, unique("group"))
    async with running(adapter):
        await adapter.publish(topic, b"value")
        assert await inbox.has(1) == [b"value"]


async def test_verify_refuses_to_publish_to_what_is_missing(kafka: KafkaCluster) -> None:
    """With `verify` a publish to a missing topic fails at once."""
    adapter, topic = make_adapter(kafka.bootstrap_servers, topics="verify"), unique("missing")
    async with running(adapter):
        before = time.monotonic()
        with pytest.raises(PublishError, match=rf"publish to '{topic}' failed: .*does not have"):
            await adapter.publish(topic, b"value")
        assert time.monotonic() - before < SLACK


async def test_ignore_gives_up_on_a_missing_topic(kafka: KafkaCluster) -> None:
    """With `ignore` a start without its topic fails after a few seconds, not after forty."""
    adapter, topic = make_adapter(kafka.bootstrap_servers, topics="ignore"), unique("missing")
    await adapter.subscribe(topic, Inbox(), "group")
    async with nothing_left():
        before = time.monotonic()
        with pytest.raises(TopologyError, match=topic):
            await adapter.start()
        assert time.monotonic() - before < PATIENCE + SLACK


async def test_ignore_refuses_to_publish_to_what_is_missing(kafka: KafkaCluster) -> None:
    """With `ignore` a publish to a missing topic fails within the publish timeout, clearly."""
    timeouts = Timeouts(publish=2.0)
    adapter = make_adapter(kafka.bootstrap_servers, topics="ignore", timeouts=timeouts)
    topic = unique("missing")
    async with running(adapter):
        before = time.monotonic()
        with pytest.raises(PublishError, match=topic):
            await adapter.publish(topic, b"value")
        assert time.monotonic() - before < 2.0 + SLACK


async def test_ignore_needs_no_dead_letter_topic(kafka: KafkaCluster) -> None:
    """With `ignore` a listener starts without its dead-letter topic."""
    servers, inbox = kafka.bootstrap_servers, Inbox()
    adapter, topic = make_adapter(servers, topics="ignore"), await new_topic(servers)
    policy = ListenerPolicy(dead_letter_topic=unique("missing"))
    await adapter.subscribe(topic, inbox, unique("group"), policy=policy)
    async with running(adapter):
        await adapter.publish(topic, b"value")
        assert await inbox.has(1) == [b"value"]


async def test_a_broker_may_create_topics_itself(kafka_cluster: KafkaFactory) -> None:
    """Where the broker creates topics, `ignore` lets it, `verify` does not make it."""
    cluster = kafka_cluster(auto_create_topics=True)
    servers, inbox = cluster.bootstrap_servers, Inbox()
    ignoring = make_adapter(servers, topics="ignore")
    topic, other, missing = unique(), unique(), unique("missing")
    await ignoring.subscribe(topic, inbox, "group")
    async with running(ignoring):
        await ignoring.publish(topic, b"value")
        assert await inbox.has(1) == [b"value"]
        await ignoring.publish_many([Message(other, b"1"), Message(other, b"2")])
    assert values_of(await read(servers, other, 2)) == [b"1", b"2"]
    verifying = make_adapter(servers, topics="verify")
    await verifying.subscribe(missing, Inbox(), "group")
    with pytest.raises(TopologyError, match=missing):
        await verifying.start()
    assert await partitions_of(servers, missing) is None


async def test_publishing_to_a_new_topic_waits_for_no_metadata(kafka: KafkaCluster) -> None:
    """The first publish to a topic that does not exist takes no longer than its creation."""
    adapter = make_adapter(kafka.bootstrap_servers)
    async with running(adapter):
        before = time.monotonic()
        await adapter.publish(unique(), b"value")
        assert time.monotonic() - before < SLACK


async def test_topics_of_an_unreachable_broker_are_no_topology_error() -> None:
    """Without a broker nothing is said about topics: it is unavailable."""
    adapter = make_adapter("127.0.0.1:1", topics="verify", timeouts=Timeouts(startup=0.5))
    await adapter.subscribe("orders", Inbox(), "group")
    with pytest.raises(BrokerUnavailableError):
        await adapter.start()
