"""Fetching records, so that a partition that cannot be read keeps no other from being read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import (
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
)
from aiokafka.structs import TopicPartition

from pyfly_messaging.adapters.kafka import errors, internals
from pyfly_messaging.adapters.kafka.unreadable import Gap, recover
from pyfly_messaging.delivery.backoff import Backoff
from pyfly_messaging.errors import BrokerError
from pyfly_messaging.logs import get_logger

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

Records: TypeAlias = "Sequence[ConsumerRecord[bytes, bytes]]"

Note: TypeAlias = Callable[[TopicPartition, Gap], Awaitable[None]]

logger = get_logger("pyfly_messaging.kafka")

# How long one fetch waits for records. Seconds.
_POLL_TIMEOUT_S = 1.0
# Between two attempts to read a partition that cannot be read.
_BACKOFF = Backoff(first=0.5, longest=10.0)
# After a failure, for how long each partition is read by itself, and how often. Seconds.
_SINGLE_READS_S, _SHORT_PAUSE_S = 2.0, 0.05
# To fetch a batch that cannot be read once more. Seconds.
_RECOVER_TIMEOUT_S = 10.0
# What keeps a partition from being read, and is not a record.
_NOT_OF_A_RECORD = (
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
)
_NOWHERE = TopicPartition("", 0)


@dataclass(slots=True)
class _Block:
    """A partition that cannot be read."""

    error: BaseException
    offset: int | None
    failures: int = 0
    due: float = 0.0
    noted: set[int] = field(default_factory=set)  # gaps of which there is a note


class Poller:
    """Fetches the records of one consumer.

    aiokafka raises what goes wrong while it unpacks a partition's records (a codec that is not
    installed, a checksum, a header name that is not UTF-8) from a fetch of all partitions, and then
    forgets the records of the others that it has already taken: they would be lost. Therefore the
    positions are put back after a failure, and each partition is read by itself, record by record,
    until the one that fails is found. It is tried again with growing pauses.

    Args:
        consumer: The consumer.
        note: Called for what is skipped because it fails a second time: leaves a note of it, or
            raises a BrokerError. None if nothing is skipped.

    """

    def __init__(self, consumer: AIOKafkaConsumer[bytes, bytes], note: Note | None = None) -> None:
        self._consumer = consumer
        self._note = note
        self._skipped: dict[TopicPartition, list[int]] = {}
        self._clock = asyncio.get_running_loop().time
        self._blocked: dict[TopicPartition, _Block] = {}
        self._single_reads_until = 0.0

    @property
    def error(self) -> str | None:
        """What keeps a partition from being read; None when all can be."""
        for partition, block in self._blocked.items():
            return (
                f"partition {partition.topic}-{partition.partition} cannot be read at offset"
                f" {block.offset}: {errors.describe(block.error)}"
            )
        return None

    async def keep_alive(self) -> None:
        """Fetch nothing, but show the group that the consumer is alive."""
        await self._consumer.getmany(_NOWHERE, timeout_ms=0)

    async def fetch(self, at_most: int) -> Mapping[TopicPartition, Records]:
        """Return records as soon as there are some, or nothing after a while.

        Raises:
            KafkaError, ConsumerStoppedError: The consumer cannot go on.

        """
        now = self._clock()
        if now < self._single_reads_until:
            due = [p for p in self._consumer.assignment() if self._is_due(p, now)]
            fetched = await self._fetch_each(due, at_most)
            if not fetched:
                await asyncio.sleep(_SHORT_PAUSE_S)
            return fetched
        if not self._blocked:
            return await self._fetch_all((), _POLL_TIMEOUT_S, at_most)
        return await self._fetch_around(now, at_most)

    def take_skipped(self) -> Mapping[TopicPartition, list[int]]:
        """Return the offsets that were skipped in the last fetch; its records are around them."""
        skipped, self._skipped = self._skipped, {}
        return skipped

    def put_back(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Read partitions again from an offset on, as far as they are still assigned."""
        assigned = self._consumer.assignment()
        for partition, offset in offsets.items():
            if partition in assigned:
                self._consumer.seek(partition, offset)

    async def _fetch_around(self, now: float, at_most: int) -> Mapping[TopicPartition, Records]:
        """Fetch while some partitions are blocked."""
        assigned = self._consumer.assignment()
        self._blocked = {p: block for p, block in self._blocked.items() if p in assigned}
        due = [partition for partition in self._blocked if self._is_due(partition, now)]
        if due and (fetched := await self._fetch_each(due, at_most)):
            return fetched
        readable = [partition for partition in assigned if partition not in self._blocked]
        until_due = min((block.due for block in self._blocked.values()), default=now) - now
        wait = min(_POLL_TIMEOUT_S, max(_SHORT_PAUSE_S, until_due))
        if readable:
            return await self._fetch_all(readable, wait, at_most)
        await asyncio.sleep(wait)
        return {}

    async def _fetch_all(
        self, partitions: Sequence[TopicPartition], wait: float, at_most: int
    ) -> Mapping[TopicPartition, Records]:
        before = internals.positions(self._consumer)
        try:
            fetched: Mapping[TopicPartition, Records] = await self._consumer.getmany(
                *partitions, timeout_ms=round(wait * 1000), max_records=at_most
            )
        except Exception as error:
            if not _is_of_a_partition(error):
                raise
            _rewind(self._consumer, before)
            self._single_reads_until = self._clock() + _SINGLE_READS_S
            return {}
        return fetched

    async def _fetch_each(
        self, partitions: Iterable[TopicPartition], at_most: int
    ) -> Mapping[TopicPartition, Records]:
        fetched: dict[TopicPartition, Records] = {}
        for partition in partitions:
            if at_most > 0:
                records = await self._step(partition, at_most)
                if records or partition in self._skipped:
                    fetched[partition] = records
                    at_most -= len(records)
        return fetched

    async def _step(self, partition: TopicPartition, at_most: int) -> Records:
        """Read a partition record by record, up to the one that cannot be read."""
        records: list[ConsumerRecord[bytes, bytes]] = []
        while len(records) < at_most:
            try:
                fetched = await self._consumer.getmany(partition, timeout_ms=0, max_records=1)
            except Exception as error:
                if not _is_of_a_partition(error):
                    raise
                if not records and (found := await self._skip(partition, error)) is not None:
                    return found
                self._block(partition, error)
                return records
            if not fetched:
                break
            records += fetched[partition]
        if records and self._blocked.pop(partition, None) is not None:
            logger.info("Kafka: partition %s-%d can be read again", *partition)
        return records

    async def _skip(self, partition: TopicPartition, error: Exception) -> Records | None:
        """Pass over what has failed at the same offset before, once there is a note of it.

        Returns:
            What can be read of the batch; None when the partition stays where it is.

        """
        block, position = (
            self._blocked.get(partition),
            internals.positions(self._consumer).get(partition),
        )
        if self._note is None or block is None or block.offset != position or position is None:
            return None
        if isinstance(error, _NOT_OF_A_RECORD):
            return None
        try:
            async with asyncio.timeout(_RECOVER_TIMEOUT_S):
                found = await recover(self._consumer, partition, position, error)
            for gap in found.gaps:
                if gap.first not in block.noted:
                    await self._note(partition, gap)
                    block.noted.add(gap.first)
        except (TimeoutError, KafkaError, BrokerError) as refusal:
            logger.warning("Kafka: partition %s-%d: %s", *partition, errors.describe(refusal))
            return None
        if partition not in self._consumer.assignment():
            return None
        self._consumer.seek(partition, found.next_offset)
        if found.gaps:
            self._skipped[partition] = [gap.last for gap in found.gaps]
        del self._blocked[partition]
        return found.records

    def _block(self, partition: TopicPartition, error: BaseException) -> None:
        if isinstance(error, RecordTooLargeError) and len(error.args) > 2:
            # aiokafka has already gone on to the next record.
            self._consumer.seek(partition, error.args[2])
        offset = internals.positions(self._consumer).get(partition)
        block = self._blocked.get(partition)
        if block is None or block.offset != offset:
            block = self._blocked[partition] = _Block(error, offset)
            logger.error(
                "Kafka: partition %s-%d cannot be read at offset %s; it is tried again, the other"
                " partitions go on (kafka.unreadable): %s",
                *partition,
                offset,
                errors.describe(error),
            )
        block.error = error
        block.failures += 1
        block.due = self._clock() + _BACKOFF.pause(block.failures)

    def _is_due(self, partition: TopicPartition, now: float) -> bool:
        block = self._blocked.get(partition)
        return block is None or block.due <= now


def _is_of_a_partition(error: Exception) -> bool:
    """Tell a record that cannot be unpacked from a consumer that cannot go on."""
    return isinstance(error, (*errors.UNREADABLE, TopicAuthorizationFailedError)) or not isinstance(
        error, errors.CLIENT_ERRORS
    )


def _rewind(consumer: AIOKafkaConsumer[bytes, bytes], before: Mapping[TopicPartition, int]) -> None:
    """Put partitions back to where they were read before a fetch that failed."""
    for partition, position in internals.positions(consumer).items():
        if partition in before and position != before[partition]:
            consumer.seek(partition, before[partition])
