"""Records that others wrote, in every odd way: none of them ends a consumer, none is lost."""

import asyncio
import struct
from collections.abc import Callable
from typing import Any

import aiokafka.codec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

from pyfly_messaging.adapters.kafka import KafkaAdapter
from pyfly_messaging.message import Message
from tests.brokers import KafkaCluster
from tests.integration.test_kafka_support import (
    Inbox,
    committed,
    make_adapter,
    new_topic,
    running,
    unique,
    until,
    write,
)

# Where the checksum of a record batch is, and where what it protects begins.
_CHECKSUM, _CHECKED = slice(17, 21), 21


async def write_patched(
    servers: str, topic: str, patch: Callable[[bytearray], None], name: str = "name"
) -> None:
    """Write a record to partition 0 whose bytes were changed on the way, checksum included."""
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
        batch: BatchBuilder = producer.create_batch()
        batch.append(key=b"key", value=b"odd", timestamp=None, headers=[(name, b"value")])
        batch.close()
        buffer = bytearray(batch._build())
        patch(buffer)
        buffer[_CHECKSUM] = struct.pack(">I", calc_crc32c(bytes(buffer[_CHECKED:])))
        batch._buffer = bytes(buffer)
        await (await producer.send_batch(batch, topic, partition=0))


def break_name(buffer: bytearray) -> None:
    """Make a header name of bytes that are not UTF-8."""
    start = buffer.index(b"name")
    buffer[start : start + 4] = b"\xff\xfe\xfd\xfc"


async def listening(servers: str, topic: str, inbox: Inbox, **settings: Any) -> KafkaAdapter:
    """Return an adapter with one listener."""
    adapter = make_adapter(servers, **settings)
    await adapter.subscribe(topic, inbox, unique("group"))
    return adapter


async def test_tombstones_and_odd_headers_arrive(kafka: KafkaCluster) -> None:
    """A tombstone is an empty value; binary, missing and repeated headers are text."""
    servers, inbox = kafka.bootstrap_servers, Inbox()
    topic = await new_topic(servers)
    odd: list[tuple[str, bytes | None]] = [("a", b"1"), ("a", b"2"), ("b", b"\xff"), ("c", None)]
    await write(servers, topic, None, headers=odd)
    async with running(await listening(servers, topic, inbox)):
        await inbox.has(1)
    assert inbox.messages == [Message(topic, b"", b"key", {"a": "2", "b": "ff", "c": ""})]


async def test_a_record_above_the_fetch_size_arrives(kafka: KafkaCluster) -> None:
    """A record larger than `max_partition_fetch_bytes` arrives, and so do those around it."""
    servers, inbox = kafka.bootstrap_servers, Inbox()
    topic = await new_topic(servers)
    values = [b"small", b"x" * 200_000, b"small again"]
    await write(servers, topic, *values)
    options = {"max_partition_fetch_bytes": 1000, "fetch_max_bytes": 1000}
    async with running(await listening(servers, topic, inbox, options=options)):
        assert await inbox.has(3) == values


async def test_a_record_that_cannot_be_read_blocks_only_its_partition(kafka: KafkaCluster) -> None:
    """Everything before it and all other partitions go on, health names it, nothing is skipped."""
    servers, inbox, group = kafka.bootstrap_servers, Inbox(), unique("group")
    topic = await new_topic(servers, partitions=8)
    before = [b"before %d" % n for n in range(5)]
    await write(servers, topic, *before)
    await write_patched(servers, topic, break_name)
    await write(servers, topic, b"after")
    # Few enough for one fetch of all partitions, of which aiokafka forgets what it has taken.
    others = [b"%d" % n for n in range(140)]
    await write_around(servers, topic, others[:70])
    adapter = make_adapter(servers)
    await adapter.subscribe(topic, inbox, group)
    async with running(adapter):
        await write_around(servers, topic, others[70:])
        values = await inbox.has(145)
        await until(lambda: f"{topic}-0" in (adapter.health().consumers[0].error or ""))
        health = adapter.health().consumers[0]
        assert health.state == "reconnecting"
        assert "at offset 5: UnicodeDecodeError" in (health.error or "")
        assert not adapter.health().healthy
        while await committed(servers, group, topic) != 5:
            await asyncio.sleep(0.05)
    assert sorted(values) == sorted([*before, *others])


async def write_around(servers: str, topic: str, values: list[bytes]) -> None:
    """Write to all partitions but the first."""
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        for number, value in enumerate(values):
            await producer.send_and_wait(topic, value, partition=1 + number % 7)


async def test_an_unknown_codec_waits_for_its_library(
    kafka: KafkaCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch whose codec is not installed is read as soon as it is, and nothing of it is lost."""
    servers, inbox = kafka.bootstrap_servers, Inbox()
    topic = await new_topic(servers, partitions=2)
    zipped = [b"zipped %d" % n for n in range(20)]
    async with AIOKafkaProducer(bootstrap_servers=servers, compression_type="zstd") as producer:
        await asyncio.gather(*[await producer.send(topic, v, partition=0) for v in zipped])
    adapter = await listening(servers, topic, inbox)
    with monkeypatch.context() as missing:
        missing.setattr(aiokafka.codec, "has_zstd", lambda: False)
        async with running(adapter):
            await until(lambda: "UnsupportedCodecError" in str(adapter.health().consumers[0].error))
            await adapter.publish_many([Message(topic, b"plain", b"%d" % n) for n in range(20)])
            await until(lambda: b"plain" in inbox.values)
            assert not set(zipped) & set(inbox.values)
            missing.undo()
            await inbox.has(40)
            assert [value for value in inbox.values if value in set(zipped)] == zipped
            await until(lambda: adapter.health().healthy)
    assert len(inbox.messages) == 40


async def test_gaps_of_transactions_are_passed(kafka: KafkaCluster) -> None:
    """Aborted records are not delivered where asked for, and control records stop nobody."""
    servers, inbox, group = kafka.bootstrap_servers, Inbox(), unique("group")
    topic = await new_topic(servers)
    producer = AIOKafkaProducer(bootstrap_servers=servers, transactional_id=unique("tx"))
    await producer.start()
    for number in range(4):
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"%d" % number, partition=0)
        if number % 2:
            await producer.abort_transaction()
        else:
            await producer.commit_transaction()
    await producer.stop()
    await write(servers, topic, b"last")
    adapter = make_adapter(servers, options={"isolation_level": "read_committed"})
    await adapter.subscribe(topic, inbox, group)
    async with running(adapter):
        assert await inbox.has(3) == [b"0", b"2", b"last"]
    assert await committed(servers, group, topic) == 9  # each transaction ends with a record
    async with running(adapter):
        await adapter.publish(topic, b"next")
        assert await inbox.has(4) == [b"0", b"2", b"last", b"next"]


async def test_deleted_records_are_passed(kafka: KafkaCluster) -> None:
    """A group whose next record was deleted goes on with the oldest that is left."""
    servers, inbox, group = kafka.bootstrap_servers, Inbox(), unique("group")
    topic = await new_topic(servers)
    adapter = make_adapter(servers)
    await adapter.subscribe(topic, inbox, group)
    await write(servers, topic, b"0")
    async with running(adapter):
        await inbox.has(1)
    await write(servers, topic, *(b"%d" % n for n in range(1, 8)))
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=5)})
    await admin.close()
    async with running(adapter):
        assert await inbox.has(4) == [b"0", b"5", b"6", b"7"]
    assert await committed(servers, group, topic) == 8
