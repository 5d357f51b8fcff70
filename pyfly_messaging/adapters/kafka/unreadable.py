"""What can be read of a batch that aiokafka cannot unpack, and the note of what cannot."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import CorruptRecordException, KafkaError, NoError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import ConsumerRecord, TopicPartition

from pyfly_messaging.adapters.kafka import errors, internals
from pyfly_messaging.adapters.kafka.internals import RawBatch
from pyfly_messaging.delivery import dead_letter
from pyfly_messaging.delivery.dead_letter import PublishDeadLetter
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.logs import get_logger
from pyfly_messaging.message import Message

if TYPE_CHECKING:
    Record: TypeAlias = ConsumerRecord[bytes, bytes]


logger = get_logger("pyfly_messaging.kafka")


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets that cannot be read.

    Attributes:
        first: The first of them.
        last: The last of them.
        size: Their bytes in the batch, compressed if the batch is.
        error: Why.

    """

    first: int
    last: int
    size: int
    error: BaseException


@dataclass(frozen=True, slots=True)
class Recovered:
    """A batch that cannot be read as a whole.

    Attributes:
        records: What can be read of it.
        gaps: What cannot; none when it has failed only on its way here.
        next_offset: Where the partition goes on.

    """

    records: list[Record]
    gaps: list[Gap]
    next_offset: int


async def recover(
    consumer: AIOKafkaConsumer[bytes, bytes],
    partition: TopicPartition,
    position: int,
    error: BaseException,
) -> Recovered:
    """Return what can be read of the batch at which a consumer has failed.

    aiokafka begins each time at the beginning of the batch, so that no position beyond a record
    that it cannot unpack helps: the batch is fetched and unpacked here. In one whose checksum is
    wrong, or whose codec is unknown, nothing can be read.

    Args:
        consumer: The consumer.
        partition: What it reads.
        position: The first offset that was not read.
        error: What it has failed with.

    Raises:
        KafkaError: The batch cannot be fetched now.

    """
    position = max(position, internals.base_offset_of(error))
    raw, high_watermark = await _fetch(consumer, partition, position)
    size = len(raw)
    try:
        content, following = internals.split(raw)
        size = len(content)
        batch = RawBatch(content)
        end = batch.next_offset
        if not batch.is_intact:  # its own end is not to be trusted
            if len(following) >= 8:
                end = int.from_bytes(following[:8], "big")
            end = max(position + 1, min(end, high_watermark))
            return Recovered([], [Gap(position, end - 1, size, error)], end)
        if batch.magic < 2 or not batch.base_offset <= position < end:
            raise CorruptRecordException("its header is broken")  # noqa: TRY301
    except (TypeError, ValueError, IndexError, struct.error, CorruptRecordException):
        # No batch at all, or in the format before Kafka 0.11: on to the next offset.
        return Recovered([], [Gap(position, position, size, error)], position + 1)
    found = list(_unpack(batch, position, error))
    gaps = list(_merged(each for each in found if isinstance(each, Gap)))
    readable = [_as_consumed(partition, each) for each in found if not isinstance(each, Gap)]
    return Recovered(readable, gaps, end)


async def _fetch(
    consumer: AIOKafkaConsumer[bytes, bytes], partition: TopicPartition, position: int
) -> tuple[bytes, int]:
    """Return record batches as they are, from the one with an offset on, and the high watermark."""
    client, at_most = internals.client_of(consumer), internals.largest_fetch(consumer)
    request = FetchRequest(
        0, 1, at_most, 0, [(partition.topic, [(partition.partition, position, at_most)])]
    )
    leader = client.cluster.leader_for_partition(partition)
    response = await client.send(leader, request)
    ((_, ((_, code, high_watermark, *_, raw),)),) = response.topics
    if (refused := for_code(code)) is not NoError:
        raise refused(partition)
    if not raw:
        raise KafkaError(f"nothing at offset {position}")
    return bytes(raw), high_watermark


def _unpack(batch: RawBatch, position: int, error: BaseException) -> Iterator[Gap | Any]:
    """Yield each record of a batch from an offset on, and each gap.

    Each record says how long it is; a broken one may say a wrong length.
    """
    at, end = batch.base_offset, batch.next_offset
    try:
        batch.decompress()
        for _ in range(batch.count):
            length, start = batch.number_at(batch.at)
            if not 0 <= length <= batch.size - start:
                raise CorruptRecordException("its length is wrong")  # noqa: TRY301
            _, delta_at = batch.number_at(start + 1)  # behind the attributes
            delta, _ = batch.number_at(delta_at)
            if not at <= batch.base_offset + delta < end:
                raise CorruptRecordException("its offset is wrong")  # noqa: TRY301
            at = batch.base_offset + delta
            try:
                record = batch.read()
            except (ValueError, IndexError, KafkaError) as broken:
                if at >= position:
                    yield Gap(at, at, length, error if at == position else broken)
                batch.skip_to(start + length)
            else:
                if at >= position:
                    yield record
            at += 1
    except Exception as broken:  # noqa: BLE001 - whatever a codec or broken bytes lead to
        at = max(at, position)
        if at < end:
            yield Gap(at, end - 1, batch.size, error if at == position else broken)


def _merged(gaps: Iterable[Gap]) -> Iterator[Gap]:
    """Yield gaps, those that lie side by side as one."""
    before: Gap | None = None
    for gap in gaps:
        if before is not None and before.last + 1 == gap.first:
            before = replace(before, last=gap.last, size=before.size + gap.size)
        else:
            if before is not None:
                yield before
            before = gap
    if before is not None:
        yield before


def _as_consumed(partition: TopicPartition, record: Any) -> Record:
    """Return a record as a consumer does."""
    key, value = record.key, record.value
    return ConsumerRecord(
        partition.topic,
        partition.partition,
        record.offset,
        record.timestamp,
        record.timestamp_type,
        key,
        value,
        record.checksum,
        -1 if key is None else len(key),
        -1 if value is None else len(value),
        tuple(record.headers),
    )


class SkipNotes:
    """Leaves a note on the dead-letter topics of a route, and counts.

    Args:
        route: Whose records they are.
        publish: How to publish a dead letter.

    Attributes:
        count: Offsets that were skipped.

    """

    def __init__(self, route: Route, publish: PublishDeadLetter) -> None:
        self.count = 0
        self._route = route
        self._publish = publish

    async def __call__(self, partition: TopicPartition, gap: Gap) -> None:
        """Return when the note is confirmed; with ``dead_letter: false`` there is only a log.

        Raises:
            BrokerError: It is not confirmed.

        """
        policies = (subscription.policy for subscription in self._route.subscriptions)
        topics = {policy.dead_letter_topic_for(partition.topic) for policy in policies} - {None}
        for topic in sorted(filter(None, topics)):
            await self._publish(self._note(topic, partition, gap), gap.error)
        self.count += gap.last + 1 - gap.first
        logger.error(
            "Kafka: listener %s: offsets %d to %d of partition %s-%d cannot be read and are skipped"
            " (kafka.unreadable: skip); %s; %d in all since the start: %s",
            self._route.name,
            gap.first,
            gap.last,
            *partition,
            f"a note went to {', '.join(sorted(filter(None, topics)))}" if topics else "no note",
            self.count,
            errors.describe(gap.error),
        )

    def _note(self, topic: str, partition: TopicPartition, gap: Gap) -> Message:
        unread = dead_letter.dead_letter(
            Message(partition.topic, b""),
            topic,
            group=self._route.group,
            attempts=0,
            error=gap.error,
        )
        where = {
            dead_letter.ORIGINAL_PARTITION: str(partition.partition),
            dead_letter.ORIGINAL_OFFSET: str(gap.first),
        }
        headers = dead_letter.note(unread, where).headers
        headers[dead_letter.ORIGINAL_SIZE] = str(gap.size)
        headers[dead_letter.OMITTED] = "value,key,headers"
        if gap.last > gap.first:
            text = f"offsets {gap.first} to {gap.last}: {headers[dead_letter.EXCEPTION_MESSAGE]}"
            headers[dead_letter.EXCEPTION_MESSAGE] = text
        return Message(topic, b"", None, headers)
