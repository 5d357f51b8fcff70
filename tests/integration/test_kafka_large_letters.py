"""Dead letters that are too large: they go nevertheless, or health says why they do not."""

import os
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from pyfly_messaging.adapters.kafka import KafkaAdapter, dead_letters
from pyfly_messaging.adapters.kafka.client import Client
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy
from tests.brokers import KafkaCluster
from tests.integration.test_kafka_support import (
    make_adapter,
    nothing_left,
    read,
    running,
    unique,
    until,
)

ADDED = {
    "x-pyfly-original-topic",
    "x-pyfly-original-group",
    "x-pyfly-attempts",
    "x-pyfly-exception",
    "x-pyfly-exception-message",
    "x-pyfly-dead-lettered-at",
}


async def make_topics(servers: str, limit: int, letter_limit: int, **letters: str) -> str:
    """Create a topic and its dead-letter topic with what they take at most."""
    topic = unique()
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        size, letter_size = (
            {"max.message.bytes": f"{limit}"},
            {"max.message.bytes": f"{letter_limit}"},
        )
        await admin.create_topics(
            [
                NewTopic(topic, 1, 1, topic_configs=size),
                NewTopic(f"{topic}.dlt", 1, 1, topic_configs=letter_size | letters),
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
    servers, handled, value = kafka.bootstrap_servers, list[bytes](), os.urandom(size)
    topic = await make_topics(servers, 1_048_588, 1_048_588)
    adapter = await refusing(servers, topic, handled)
    async with running(adapter):
        await adapter.publish(topic, value, key=b"k", headers={"own": "text"})
        await adapter.publish(topic, b"next", key=b"k")
        await until(lambda: handled == [b"next"])
    (letter,) = await read(servers, f"{topic}.dlt", 1)
    assert (letter.value, letter.key) == (value, b"k")
    assert {name for name, _ in letter.headers} == {"own"} | ADDED - missing


async def write_zipped(servers: str, topic: str, *values: bytes, **record: Any) -> None:
    """Write values as others do who compress them."""
    async with AIOKafkaProducer(
        bootstrap_servers=servers, compression_type="gzip", max_request_size=2**30
    ) as producer:
        for value in values:
            await producer.send_and_wait(topic, value, **record)


async def test_what_was_compressed_is_compressed_again(
    kafka: KafkaCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Letters that fit only compressed go whole, by one producer for all; the common one lasts."""
    servers, handled, made = kafka.bootstrap_servers, list[bytes](), list[AIOKafkaProducer]()
    topic = await make_topics(servers, 1_048_588, 1_048_588)
    make = Client.producer_without_limit

    def count(client: Client) -> AIOKafkaProducer:
        made.append(make(client))
        return made[-1]

    monkeypatch.setattr(Client, "producer_without_limit", count)
    await write_zipped(servers, topic, bytes(5_000_000), bytes(5_000_001), b"next")
    async with nothing_left(), running(await refusing(servers, topic, handled)):
        await until(lambda: handled == [b"next"])
    first, second = await read(servers, f"{topic}.dlt", 2)
    assert (first.value, second.value) == (bytes(5_000_000), bytes(5_000_001))
    assert {name for name, _ in first.headers} == ADDED
    assert len(made) == 1
    assert "the producer is replaced" not in caplog.text
    assert "compressed" in caplog.text


@pytest.mark.parametrize(
    ("value", "key", "headers", "omitted"),
    [
        (os.urandom(700_000), b"key", [], "value,key"),
        (bytes(2_000), os.urandom(600_000), [("name", b"text")], "value,key,headers"),
        (bytes(2_000), None, [(f"name{n}", os.urandom(6)) for n in range(60_000)], "value,headers"),
    ],
    ids=["value", "key", "headers"],
)
@pytest.mark.parametrize("limit", [500_000, 900])
async def test_what_does_not_fit_leaves_a_note(
    kafka: KafkaCluster,
    value: bytes,
    key: bytes | None,
    headers: list[tuple[str, bytes]],
    omitted: str,
    limit: int,
) -> None:
    """Of a message that its dead-letter topic does not take there is a note: why, and where."""
    servers, handled = kafka.bootstrap_servers, list[bytes]()
    topic = await make_topics(servers, 3_000_000, limit)
    await write_zipped(servers, topic, b"first")
    await write_zipped(servers, topic, value, key=key, headers=headers)
    await write_zipped(servers, topic, b"next")
    async with running(await refusing(servers, topic, handled)):
        await until(lambda: handled == [b"first", b"next"])
    (letter,) = await read(servers, f"{topic}.dlt", 1)
    found = dict(letter.headers)
    assert letter.value == b""
    assert found["x-pyfly-original-topic"] == topic.encode()
    assert found["x-pyfly-original-partition"] == b"0"
    assert found["x-pyfly-original-offset"] == b"1"
    assert found["x-pyfly-original-size"] == b"%d" % len(value)
    assert found["x-pyfly-omitted"] == omitted.encode()
    assert found["x-pyfly-exception"] == b"ValueError"


@pytest.mark.parametrize(
    ("limit", "found"),
    [
        (200, {"x-pyfly-original-partition": b"0", "x-pyfly-original-offset": b"0"}),
        (80, {}),
    ],
)
async def test_a_topic_that_takes_hardly_anything_gets_something(
    kafka: KafkaCluster, limit: int, found: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """A note that is too large becomes a position, and that an empty record; the log has it all."""
    servers, handled = kafka.bootstrap_servers, list[bytes]()
    topic = await make_topics(servers, 3_000_000, limit)
    await write_zipped(servers, topic, os.urandom(1_500), b"next")
    async with running(await refusing(servers, topic, handled)):
        await until(lambda: handled == [b"next"])
    (letter,) = await read(servers, f"{topic}.dlt", 1)
    assert (letter.value, dict(letter.headers)) == (b"", found)
    assert "at 0 0" in caplog.text


@pytest.mark.parametrize("size", [2_000, 2_000_000])
async def test_a_compacted_topic_gets_a_key(
    kafka: KafkaCluster, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A letter without a key, which a compacted topic refuses, gets one that keeps it there."""
    servers, handled = kafka.bootstrap_servers, list[bytes]()
    topic = await make_topics(servers, 3_000_000, 1_000_000, **{"cleanup.policy": "compact"})
    await write_zipped(servers, topic, bytes(size), bytes(size), b"next")
    async with running(await refusing(servers, topic, handled)):
        await until(lambda: handled == [b"next"])
    letters = await read(servers, f"{topic}.dlt", 2)
    assert [letter.value for letter in letters] == [bytes(size)] * 2
    assert [letter.key for letter in letters] == [f"{topic}-0-{n}".encode() for n in (0, 1)]


async def test_what_no_broker_takes_as_a_request_is_not_sent(
    kafka: KafkaCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A letter larger than a request may be, which would only cost the connection, is left out."""
    servers, handled = kafka.bootstrap_servers, list[bytes]()
    topic = await make_topics(servers, 3_000_000, 3_000_000)
    monkeypatch.setattr(dead_letters, "_LARGEST_REQUEST_BYTES", 1_000_000)
    await write_zipped(servers, topic, os.urandom(1_500_000), bytes(1_500_000), b"next")
    async with running(await refusing(servers, topic, handled)):
        await until(lambda: handled == [b"next"])
    note, whole = await read(servers, f"{topic}.dlt", 2)
    assert (note.value, whole.value) == (b"", bytes(1_500_000))
    assert "is too large" not in caplog.text


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
    """While the dead-letter topic takes nothing at all, health says so; then the letter goes."""
    servers, handled = kafka.bootstrap_servers, list[bytes]()
    topic = await make_topics(servers, 1_048_588, 50)
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
    assert letter.value == bytes(5_000)
    assert {name for name, _ in letter.headers} == ADDED
