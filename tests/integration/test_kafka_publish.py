"""Publishing to a real Kafka: what arrives, what is refused, and what a failure leaves behind."""

import asyncio
import time
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient

from pyfly_messaging.errors import BatchPublishError, NotStartedError, PublishError
from pyfly_messaging.message import Message
from pyfly_messaging.policy import Timeouts
from tests.brokers import KafkaCluster
from tests.integration.test_kafka_support import (
    delete,
    make_adapter,
    new_topic,
    nothing_left,
    read,
    running,
    unique,
    values_of,
)

TOO_LARGE = b"x" * 3000  # for a topic with max.message.bytes=2000


async def test_what_is_published_is_in_the_record(kafka: KafkaCluster) -> None:
    """Value, key and headers are in the record byte for byte."""
    servers = kafka.bootstrap_servers
    adapter, topic = make_adapter(servers), await new_topic(servers)
    async with running(adapter):
        await adapter.publish(topic, b"\x00\xff", key=b"\xfe", headers={"ä": "ö", "empty": ""})
    (record,) = await read(servers, topic, 1)
    assert (record.value, record.key) == (b"\x00\xff", b"\xfe")
    assert record.headers == (("ä", "ö".encode()), ("empty", b""))


async def test_a_key_chooses_the_partition(kafka: KafkaCluster) -> None:
    """Messages with the same key are in the same partition, in the order of their publishing."""
    servers = kafka.bootstrap_servers
    adapter, topic = make_adapter(servers), await new_topic(servers, partitions=4)
    async with running(adapter):
        for number in range(20):
            await adapter.publish(topic, b"%d" % number, key=b"%d" % (number % 3))
    records = await read(servers, topic, 20)
    for key in (b"0", b"1", b"2"):
        own = [record for record in records if record.key == key]
        assert len({record.partition for record in own}) == 1
        assert values_of(own) == [b"%d" % n for n in range(20) if b"%d" % (n % 3) == key]


@pytest.mark.parametrize(
    "settings",
    [
        {"compression": "gzip"},
        {"compression": "snappy"},
        {"compression": "lz4"},
        {"compression": "zstd"},
        {"acks": 1, "idempotence": False},
        {"acks": 0, "idempotence": False},
        {"linger": 0.02},
    ],
    ids=str,
)
async def test_each_way_to_write_arrives(kafka: KafkaCluster, settings: dict[str, Any]) -> None:
    """Every compression and every kind of acknowledgement brings the messages to the topic."""
    servers = kafka.bootstrap_servers
    adapter, topic = make_adapter(servers, **settings), await new_topic(servers)
    async with running(adapter):
        for number in range(3):
            await adapter.publish(topic, b"%d" % number * 100)
    assert values_of(await read(servers, topic, 3)) == [b"%d" % n * 100 for n in range(3)]


async def test_only_a_running_broker_publishes(kafka: KafkaCluster) -> None:
    """Before the start and after the stop a publish raises NotStartedError."""
    adapter, topic = make_adapter(kafka.bootstrap_servers), unique()
    message = Message(topic, b"value")
    for _ in range(2):
        with pytest.raises(NotStartedError):
            await adapter.publish(topic, b"value")
        with pytest.raises(NotStartedError):
            await adapter.publish_many([message])
        async with running(adapter):
            await adapter.publish(topic, b"value")


async def test_a_batch_keeps_its_order(kafka: KafkaCluster) -> None:
    """Messages that are published together are in the order of the batch in each partition."""
    servers = kafka.bootstrap_servers
    adapter, topic = make_adapter(servers), await new_topic(servers, partitions=3)
    batch = [Message(topic, b"%d" % n + b"x" * (n % 900), b"%d" % (n % 5)) for n in range(3000)]
    async with running(adapter):
        await adapter.publish_many(batch)
    records = await read(servers, topic, len(batch))
    for partition in range(3):
        own = [record for record in records if record.partition == partition]
        keys = {record.key for record in own}
        assert values_of(own) == [m.value for m in batch if m.key in keys]


async def test_an_empty_batch_is_taken(kafka: KafkaCluster) -> None:
    """Publishing no message at all returns."""
    adapter = make_adapter(kafka.bootstrap_servers)
    async with running(adapter):
        await adapter.publish_many(iter(()))


async def test_a_batch_is_checked_before_anything_is_sent(kafka: KafkaCluster) -> None:
    """A message that cannot be published keeps the whole batch from being sent."""
    servers = kafka.bootstrap_servers
    adapter, topic = make_adapter(servers), await new_topic(servers)
    good, bad = Message(topic, b"good"), Message(topic, "text")  # type: ignore[arg-type]
    async with running(adapter):
        with pytest.raises(TypeError, match="must be bytes"):
            await adapter.publish_many([good, bad])
        with pytest.raises(ValueError, match="surrogates"):
            await adapter.publish_many([good, Message(topic, b"", headers={"a": "\ud800"})])
        await adapter.publish(topic, b"first")
    assert values_of(await read(servers, topic, 1)) == [b"first"]


async def test_a_batch_names_what_was_not_taken(kafka: KafkaCluster) -> None:
    """The error of a batch has position and reason of each missing message; the rest is there."""
    servers = kafka.bootstrap_servers
    adapter = make_adapter(servers, topics="verify", options={"max_request_size": 5000})
    small = await new_topic(servers, max_message_bytes="2000")
    batch = [Message(small, b"%d" % n) for n in range(10)]
    batch[3] = Message(small, TOO_LARGE)
    batch[5] = Message(small, b"x" * 6000)
    batch[7] = Message(unique("missing"), b"7")
    async with running(adapter):
        with pytest.raises(BatchPublishError, match="3 of 10") as caught:
            await adapter.publish_many(batch)
        await adapter.publish(small, b"after")
    assert [position for position, _ in caught.value.failed] == [3, 5, 7]
    reasons = [str(error) for _, error in caught.value.failed]
    assert "max.message.bytes" in reasons[0]
    assert "max_request_size" in reasons[1]
    assert "kafka.topics: create" in reasons[2]
    written = values_of(await read(servers, small, 8))
    assert written == [b"%d" % n for n in range(10) if n not in {3, 5, 7}] + [b"after"]


async def test_the_producer_works_again_after_a_refused_message(kafka: KafkaCluster) -> None:
    """A message that the topic is too small for raises, and spoils none that follows."""
    servers = kafka.bootstrap_servers
    adapter, topic = make_adapter(servers), await new_topic(servers, max_message_bytes="2000")
    async with nothing_left(), running(adapter):
        await adapter.publish(topic, b"before")
        for number in range(3):
            with pytest.raises(PublishError, match=r"max\.message\.bytes"):
                await adapter.publish(topic, TOO_LARGE)
            await adapter.publish(topic, b"%d" % number)
    assert values_of(await read(servers, topic, 4)) == [b"before", b"0", b"1", b"2"]


async def test_what_is_in_flight_on_a_spoilt_producer_is_sent_again(kafka: KafkaCluster) -> None:
    """Of many publishes at once only the message that is too large fails; none is written twice."""
    servers = kafka.bootstrap_servers
    topic = await new_topic(servers, partitions=2, max_message_bytes="2000")
    adapter = make_adapter(servers)
    values = [TOO_LARGE if n % 100 == 50 else b"%d" % n for n in range(400)]
    async with nothing_left(), running(adapter):
        publishes = (adapter.publish(topic, v, key=b"%d" % len(v)) for v in values)
        outcomes = await asyncio.gather(*publishes, return_exceptions=True)
    failed = [value for value, outcome in zip(values, outcomes, strict=True) if outcome is not None]
    assert failed == [TOO_LARGE] * 4
    taken = [value for value in values if value != TOO_LARGE]
    assert sorted(v or b"" for v in values_of(await read(servers, topic, 396))) == sorted(taken)


async def test_messages_are_not_refused_for_their_company(kafka: KafkaCluster) -> None:
    """Messages that each fit a topic are all taken, however they are batched."""
    servers = kafka.bootstrap_servers
    adapter, topic = make_adapter(servers), await new_topic(servers, max_message_bytes="2000")
    values = [b"%04d" % n * 25 for n in range(60)]
    async with running(adapter):
        await asyncio.gather(*(adapter.publish(topic, value) for value in values[:30]))
        await adapter.publish_many([Message(topic, value) for value in values[30:]])
    assert sorted(v or b"" for v in values_of(await read(servers, topic, 60))) == values


async def test_a_refusal_without_a_name_says_where_to_look(kafka: KafkaCluster) -> None:
    """A message without a key on a compacted topic is refused at once, with a hint."""
    servers = kafka.bootstrap_servers
    adapter = make_adapter(servers)
    topic = await new_topic(servers, cleanup_policy="compact")
    async with running(adapter):
        with pytest.raises(PublishError, match="compacted topic takes no message without a key"):
            await adapter.publish(topic, b"value")
        await adapter.publish(topic, b"value", key=b"key")


async def test_a_deleted_topic_is_made_again(kafka: KafkaCluster) -> None:
    """A topic that is deleted behind our back is there again for the publish that misses it."""
    servers = kafka.bootstrap_servers
    adapter, topic = make_adapter(servers, timeouts=Timeouts(publish=15.0)), unique()
    async with running(adapter):
        await adapter.publish(topic, b"old")
        await delete(servers, topic)
        await adapter.publish(topic, b"new")
    assert values_of(await read(servers, topic, 1)) == [b"new"]


async def test_a_deleted_topic_that_is_not_created(kafka: KafkaCluster) -> None:
    """A publish to a topic that is gone, and that nobody may create, fails in its time."""
    servers, topic = kafka.bootstrap_servers, await new_topic(kafka.bootstrap_servers)
    adapter = make_adapter(servers, topics="verify", timeouts=Timeouts(publish=3.0))
    async with running(adapter):
        await adapter.publish(topic, b"old")
        await delete(servers, topic)
        before = time.monotonic()
        for _ in range(2):
            with pytest.raises(PublishError):
                await adapter.publish(topic, b"lost")
        assert time.monotonic() - before < 15


async def test_a_missing_topic_is_not_asked_for_all_the_time(
    kafka: KafkaCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a topic is missing its metadata is asked for ten times a second, not thousands."""
    asked, update = 0, AIOKafkaClient._metadata_update

    async def count(client: AIOKafkaClient, *arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return await update(client, *arguments)

    monkeypatch.setattr(AIOKafkaClient, "_metadata_update", count)
    servers, topic = kafka.bootstrap_servers, await new_topic(kafka.bootstrap_servers)
    adapter = make_adapter(servers, topics="verify", timeouts=Timeouts(publish=3.0))
    async with running(adapter):
        await adapter.publish(topic, b"old")
        await delete(servers, topic)
        asked = 0
        with pytest.raises(PublishError):
            await adapter.publish(topic, b"lost")
        assert 0 < asked < 50
