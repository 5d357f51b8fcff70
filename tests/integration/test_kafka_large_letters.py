"""Dead letters that are too large: they go nevertheless, or health says why they do not."""

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from pyfly_messaging.adapters.kafka import KafkaAdapter
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy
from tests.brokers import KafkaCluster
from tests.integration.test_kafka_support import make_adapter, read, running, unique, until

ADDED = {
    "x-pyfly-original-topic",
    "x-pyfly-original-group",
    "x-pyfly-attempts",
    "x-pyfly-exception",
    "x-pyfly-exception-message",
    "x-pyfly-dead-lettered-at",
}


async def make_topics(servers: str, limit: int, letter_limit: int) -> str:
    """Create a topic and its dead-letter topic with what they take at most."""
    topic = unique()
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        sizes = {topic: limit, f"{topic}.dlt": letter_limit}
        await admin.create_topics(
            [
                NewTopic(name, 1, 1, topic_configs={"max.message.bytes": str(size)})
                for name, size in sizes.items()
            ]
        )
    finally:
        await admin.close()
    return topic


async def set_limit(servers: str, topic: str, limit: int) -> None:
    """Change what a topic takes at most."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        config = {"max.message.bytes": str(limit)}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, config)])
    finally:
        await admin.close()


async def refusing(servers: str, topic: str, handled: list[bytes]) -> KafkaAdapter:
    """Return an adapter whose listener fails on what is large."""

    async def handle(message: Message) -> None:
        if len(message.value) > 1000:
            raise ValueError("x" * 900)
        handled.append(message.value)

    adapter = make_adapter(servers)
    await adapter.subscribe(topic, handle, unique("group"), policy=ListenerPolicy(retries=0))
    return adapter


@pytest.mark.parametrize(
    ("size", "missing"),
    [(1_048_000, {"x-pyfly-exception-message"}), (1_048_450, ADDED)],
)
async def test_headers_give_way(kafka: KafkaCluster, size: int, missing: set[str]) -> None:
    """The dead letter of a message that just fitted goes with as many headers as still fit."""
    servers, handled = kafka.bootstrap_servers, list[bytes]()
    topic = await make_topics(servers, 1_048_588, 1_048_588)
    adapter = await refusing(servers, topic, handled)
    async with running(adapter):
        await adapter.publish(topic, bytes(size), key=b"k", headers={"own": "text"})
        await adapter.publish(topic, b"next", key=b"k")
        await until(lambda: handled == [b"next"])
    (letter,) = await read(servers, f"{topic}.dlt", 1)
    assert (letter.value, letter.key) == (bytes(size), b"k")
    assert {name for name, _ in letter.headers} == {"own"} | ADDED - missing


async def test_what_others_wrote_may_be_larger(kafka: KafkaCluster) -> None:
    """What is larger than our producer's own limit goes too, with everything, if its topic may."""
    servers, handled, value = kafka.bootstrap_servers, list[bytes](), bytes(2_000_000)
    topic = await make_topics(servers, 3_000_000, 3_000_000)
    async with AIOKafkaProducer(bootstrap_servers=servers, max_request_size=3_000_000) as producer:
        await producer.send_and_wait(topic, value)
        await producer.send_and_wait(topic, b"next")
    async with running(await refusing(servers, topic, handled)):
        await until(lambda: handled == [b"next"])
    (letter,) = await read(servers, f"{topic}.dlt", 1)
    assert letter.value == value
    assert {name for name, _ in letter.headers} == ADDED


async def test_health_tells_of_a_letter_that_is_refused(kafka: KafkaCluster) -> None:
    """While the dead-letter topic takes no such letter, health says so; then it goes."""
    servers, handled = kafka.bootstrap_servers, list[bytes]()
    topic = await make_topics(servers, 1_048_588, 2_000)
    adapter = await refusing(servers, topic, handled)
    async with running(adapter):
        await adapter.publish(topic, bytes(5_000))
        await adapter.publish(topic, b"next")
        await until(lambda: adapter.health().consumers[0].error)
        error = adapter.health().consumers[0].error
        assert error is not None
        assert f"{topic}.dlt" in error
        assert "max.message.bytes" in error
        assert handled == []
        await set_limit(servers, f"{topic}.dlt", 1_048_588)
        await until(lambda: handled == [b"next"])
        assert adapter.health().consumers[0].error is None
    (letter,) = await read(servers, f"{topic}.dlt", 1)
    assert {name for name, _ in letter.headers} == ADDED
