"""Records that cannot be read, where the operator has them skipped: exactly those, with a note."""

import asyncio
import struct
from collections.abc import Callable
from pathlib import Path

import aiokafka.codec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import ConsumerRecord, TopicPartition

from pyfly_messaging.adapters.kafka.dead_letters import DeadLetters
from pyfly_messaging.errors import PublishError
from pyfly_messaging.policy import ListenerPolicy
from tests.brokers import KafkaCluster, KafkaFactory
from tests.integration.test_kafka_support import (
    DEADLINE,
    Inbox,
    has_committed,
    make_adapter,
    new_topic,
    nothing_left,
    read,
    running,
    unique,
    until,
    write,
)

_CHECKSUM, _CHECKED = slice(17, 21), 21


async def write_batch(
    servers: str, topic: str, *values: bytes, patch: Callable[[bytearray], None], codec: int = 0
) -> None:
    """Write values as one batch of partition 0, changed on the way, with the right checksum."""
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
        batch = BatchBuilder(100_000, codec)
        for value in values:
            batch.append(key=None, value=value, timestamp=None, headers=[("name", b"value")])
        batch.close()
        buffer = bytearray(batch._build())
        patch(buffer)
        buffer[_CHECKSUM] = struct.pack(">I", calc_crc32c(bytes(buffer[_CHECKED:])))
        batch._buffer = bytes(buffer)
        await (await producer.send_batch(batch, topic, partition=0))


def break_names(*positions: int) -> Callable[[bytearray], None]:
    """Return what makes the header names of some records of a batch no UTF-8."""

    def patch(buffer: bytearray) -> None:
        at = [i for i in range(len(buffer)) if buffer.startswith(b"name", i)]
        for position in positions:
            buffer[at[position] : at[position] + 4] = b"\xff\xfe\xfd\xfc"

    return patch


def headers_of(letter: ConsumerRecord[bytes, bytes]) -> dict[str, str]:
    """Return headers without the prefix that all of ours have."""
    return {name.removeprefix("x-pyfly-"): text.decode() for name, text in letter.headers}


@pytest.mark.parametrize("grouped", [True, False], ids=["group", "no group"])
async def test_one_record_of_a_batch_is_skipped(kafka: KafkaCluster, grouped: bool) -> None:
    """Those before and behind it in the same batch are handled; a note says where it is."""
    servers, inbox, group = kafka.bootstrap_servers, Inbox(), unique("group")
    topic = await new_topic(servers)
    adapter = make_adapter(servers, unreadable="skip")
    await adapter.subscribe(topic, inbox, group if grouped else None)
    async with nothing_left(), running(adapter):
        await write(servers, topic, b"0")
        values = [b"%d" % n for n in range(1, 7)]
        await write_batch(servers, topic, *values, patch=break_names(1, 3, 4))
        await write(servers, topic, b"7")
        assert await inbox.has(5) == [b"0", b"1", b"3", b"6", b"7"]
        health = adapter.health().consumers[0]
        assert (health.state, health.error, health.skipped) == ("running", None, 3)
        if grouped:
            await has_committed(servers, group, topic, 8)
        notes = await read(servers, f"{topic}.dlt", 2)
    for note, offset, size in zip(notes, ("2", "4"), (20, 40), strict=True):
        headers = headers_of(note)
        assert (note.value, note.key) == (b"", None)
        assert headers["original-topic"] == topic
        assert headers.get("original-group") == (group if grouped else None)
        assert (headers["original-partition"], headers["original-offset"]) == ("0", offset)
        assert size / 2 < int(headers["original-size"]) < size * 1.5
        assert headers["omitted"] == "value,key,headers"
        assert headers["exception"] == "UnicodeDecodeError"
        assert "utf-8" in headers["exception-message"]


async def test_the_last_record_is_skipped_and_committed(kafka: KafkaCluster) -> None:
    """Where nothing follows, the offset is committed past it, and a restart does not meet it."""
    servers, inbox, group = kafka.bootstrap_servers, Inbox(), unique("group")
    topic = await new_topic(servers)
    await write_batch(servers, topic, b"0", patch=break_names(0))
    for _ in range(2):
        adapter = make_adapter(servers, unreadable="skip")
        await adapter.subscribe(topic, inbox, group)
        async with running(adapter):
            await has_committed(servers, group, topic, 1)
            await adapter.publish(f"{topic}.dlt", b"end")
    letters = await read(servers, f"{topic}.dlt", 3)
    assert [letter.value for letter in letters] == [b"", b"end", b"end"]
    assert inbox.values == []


async def test_a_codec_that_is_not_there_costs_the_batch(
    kafka: KafkaCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that cannot be unpacked is skipped whole, with one note; what follows is handled."""
    servers, inbox, group = kafka.bootstrap_servers, Inbox(), unique("group")
    topic = await new_topic(servers)
    monkeypatch.setattr(aiokafka.codec, "has_zstd", lambda: True)
    zipped = [b"%d" % n for n in range(1, 6)]
    await write(servers, topic, b"0")
    await write_batch(servers, topic, *zipped, patch=lambda buffer: None, codec=4)
    await write(servers, topic, b"6")
    monkeypatch.setattr(aiokafka.codec, "has_zstd", lambda: False)
    adapter = make_adapter(servers, unreadable="skip")
    await adapter.subscribe(topic, inbox, group)
    async with running(adapter):
        assert await inbox.has(2) == [b"0", b"6"]
        assert adapter.health().consumers[0].skipped == 5
        await has_committed(servers, group, topic, 7)
        (note,) = await read(servers, f"{topic}.dlt", 1)
    headers = headers_of(note)
    assert headers["original-offset"] == "1"
    assert headers["exception"] == "aiokafka.errors.UnsupportedCodecError"
    assert headers["exception-message"].startswith("offsets 1 to 5: ")


async def ends_at(servers: str, topic: str, offset: int) -> None:
    """Wait until a topic ends at an offset."""
    partition = TopicPartition(topic, 0)
    async with AIOKafkaConsumer(bootstrap_servers=servers) as consumer, asyncio.timeout(DEADLINE):
        while (await consumer.end_offsets([partition]))[partition] < offset:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("broken", [0, 1], ids=["first", "second"])
async def test_what_lies_behind_an_aborted_transaction(kafka: KafkaCluster, broken: int) -> None:
    """A batch is found although there are records before it that no handler ever gets."""
    servers, inbox, group = kafka.bootstrap_servers, Inbox(), unique("group")
    topic = await new_topic(servers)
    producer = AIOKafkaProducer(bootstrap_servers=servers, transactional_id=unique("tx"))
    await producer.start()
    await producer.begin_transaction()
    await producer.send_and_wait(topic, b"aborted", partition=0)
    await producer.abort_transaction()
    await producer.stop()
    await ends_at(servers, topic, 2)  # the mark of the abort, which the broker writes later
    values = [b"2", b"3", b"4"]
    await write_batch(servers, topic, *values, patch=break_names(broken))
    options = {"isolation_level": "read_committed"}
    adapter = make_adapter(servers, unreadable="skip", options=options)
    await adapter.subscribe(topic, inbox, group)
    async with running(adapter):
        assert await inbox.has(2) == [v for n, v in enumerate(values) if n != broken]
        await has_committed(servers, group, topic, 5)
        (note,) = await read(servers, f"{topic}.dlt", 1)
    assert headers_of(note)["original-offset"] == str(2 + broken)


def damage(cluster: KafkaCluster, topic: str, value: bytes) -> None:
    """Change a value where the broker keeps it, as a failing disk does."""
    (log,) = Path(cluster._nodes[0].folder).rglob(f"{topic}-0/*.log")
    content = log.read_bytes()
    with log.open("r+b") as file:
        file.seek(content.index(value))
        file.write(value.upper())


async def test_a_broken_checksum_costs_the_batch(
    kafka_cluster: KafkaFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """A batch that a disk has damaged is skipped whole; with `dead-letter: false` it is logged."""
    cluster = await asyncio.to_thread(kafka_cluster)
    servers = cluster.bootstrap_servers
    topic = await new_topic(servers)
    await write(servers, topic, b"0", b"damaged", b"2")
    damage(cluster, topic, b"damaged")
    for policy in (ListenerPolicy(), ListenerPolicy(dead_letter=False)):
        inbox = Inbox()
        adapter = make_adapter(servers, unreadable="skip")
        await adapter.subscribe(topic, inbox, group := unique("group"), policy=policy)
        async with running(adapter):
            assert await inbox.has(2) == [b"0", b"2"]
            await has_committed(servers, group, topic, 3)
            await adapter.publish(f"{topic}.dlt", b"end")
    note, *ends = await read(servers, f"{topic}.dlt", 3)
    assert [end.value for end in ends] == [b"end", b"end"]
    headers = headers_of(note)
    assert headers["original-offset"] == "1"
    assert headers["exception"] == "aiokafka.errors.CorruptRecordException"
    assert "no note" in caplog.text


async def test_the_note_is_confirmed_before_the_position_moves(
    kafka: KafkaCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While there is no note the partition waits; then it goes on."""
    servers, inbox, group = kafka.bootstrap_servers, Inbox(), unique("group")
    topic, refused = await new_topic(servers), asyncio.Event()
    await write_batch(servers, topic, b"0", b"1", patch=break_names(0))
    adapter = make_adapter(servers, unreadable="skip")
    await adapter.subscribe(topic, inbox, group)

    async def refuse(*arguments: object) -> None:
        refused.set()
        raise PublishError("no")

    async with running(adapter):
        with monkeypatch.context() as patched:
            patched.setattr(DeadLetters, "__call__", refuse)
            await refused.wait()
            await until(lambda: "cannot be read at offset 0" in str(adapter.health().consumers))
            assert inbox.values == []
        assert await inbox.has(1) == [b"1"]
        await until(lambda: adapter.health().healthy)
    (note,) = await read(servers, f"{topic}.dlt", 1)
    assert headers_of(note)["original-offset"] == "0"
