"""Where records come from: the partitions of a group's member, or all partitions of a topic."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError, IllegalStateError, UnknownTopicOrPartitionError
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.structs import TopicPartition

from pyfly_messaging.adapters.kafka import internals

# While the group rebalances. Seconds.
_PAUSE_S = 0.05

Offsets = Mapping[TopicPartition, int]


class PartitionListener(Protocol):
    """What handles the records of the partitions that a source has."""

    def begin_assignment(self) -> None:
        """Begin with a new assignment."""
        ...

    async def end_assignment(self) -> None:
        """End an assignment; the partitions are given up when this returns."""
        ...


class Source(Protocol):
    """What differs between a consumer of a group and one without."""

    async def start(self, listener: PartitionListener) -> None:
        """Start the consumer; return when partitions are assigned.

        Args:
            listener: Is told of each assignment, and of its end.

        """
        ...

    async def positioned(self) -> None:
        """Wait until it is known where each partition is read next."""
        ...

    async def commit_start(self, starts: Offsets) -> None:
        """Commit where partitions begin of which nothing is committed yet.

        Args:
            starts: The first offset that was fetched of some of them.

        """
        ...

    async def commit(self, offsets: Offsets) -> None:
        """Keep where to go on: the offset of the next record of each partition.

        Raises:
            KafkaError: It is not kept.

        """
        ...

    @property
    def has_joined(self) -> bool:
        """Whether the group knows this consumer; then only other members delay it."""
        ...

    async def misses_nothing(self) -> bool:
        """Tell whether nothing is missed however late the partitions are assigned.

        Raises:
            KafkaError: No answer.

        """
        ...

    @property
    def has_new_partitions(self) -> bool:
        """Whether there are partitions that only a new start would find."""
        ...


class GroupPartitions:
    """A member of a named group.

    Args:
        consumer: The member; not started.
        topic: What it consumes.
        from_latest: Whether the group begins at the end of a partition of which nothing is
            committed.

    """

    def __init__(
        self, consumer: AIOKafkaConsumer[bytes, bytes], topic: str, *, from_latest: bool
    ) -> None:
        self._consumer = consumer
        self._topic = topic
        self._from_latest = from_latest
        self._without_start: set[TopicPartition] = set()
        self._generation: int | None = None

    async def start(self, listener: PartitionListener) -> None:
        """Join the group; return when it has assigned partitions."""
        self._consumer.subscribe([self._topic], listener=_Rebalance(self, listener))
        with internals.bootstrapping():
            await self._consumer.start()

    def note_assignment(self) -> None:
        """Note for which generation of the group commits count from now on."""
        self._generation = self._current_generation
        # The topic may have changed: that makes the group assign again, too.
        internals.client_of(self._consumer).force_metadata_update()
        if self._from_latest:
            self._without_start = set(self._consumer.assignment())

    async def positioned(self) -> None:
        """Wait for the position of every partition.

        Only then is a message seen that is published next: a group that begins at the end of a
        partition would otherwise find that end later.
        """
        while True:
            try:
                positions = {
                    partition: await self._consumer.position(partition)
                    for partition in self._consumer.assignment()
                }
                await self.commit_start(positions)
            except IllegalStateError:  # the group rebalances: there is a new assignment
                await asyncio.sleep(_PAUSE_S)
            else:
                return

    async def commit_start(self, starts: Offsets) -> None:
        """Commit where the group begins at the end of a partition.

        Or else the next rebalance would take the end of that moment, and pass over what came
        between.
        """
        fresh = {}
        for partition in self._without_start & starts.keys():
            if await self._consumer.committed(partition) is None:
                fresh[partition] = starts[partition]
        if fresh:
            await self.commit(fresh)
        self._without_start.difference_update(starts)

    async def commit(self, offsets: Offsets) -> None:
        """Commit, unless the group has gone on to another generation.

        The broker checks the member, not whose the partitions are: offsets of an assignment that
        is over would be taken in the name of the next one.
        """
        if self._current_generation != self._generation:
            raise CommitFailedError
        # Repeated for long enough it would be taken for another topic of the same name.
        if self._consumer.partitions_for_topic(self._topic) is None:
            raise UnknownTopicOrPartitionError(self._topic)
        await self._consumer.commit(dict(offsets))

    @property
    def has_joined(self) -> bool:
        """Whether the group knows this member."""
        coordinator = internals.coordinator_of(self._consumer)
        return coordinator is not None and bool(coordinator.member_id)

    async def misses_nothing(self) -> bool:
        """Tell whether nothing is missed however late the partitions are assigned.

        A group that begins at the end misses what is published before it knows that end.

        Raises:
            KafkaError: The group's coordinator does not answer.

        """
        if not self._from_latest:
            return True
        coordinator = internals.coordinator_of(self._consumer)
        if coordinator is None:
            return False
        partitions = sorted(self._consumer.partitions_for_topic(self._topic) or ())
        answer = await internals.ask_coordinator(
            coordinator, OffsetFetchRequest(coordinator.group_id, [(self._topic, partitions)])
        )
        committed = [offset for _, found in answer.topics for _, offset, _, _ in found]
        return bool(committed) and min(committed) >= 0

    @property
    def _current_generation(self) -> int | None:
        coordinator = internals.coordinator_of(self._consumer)
        return None if coordinator is None else int(coordinator.generation)

    @property
    def has_new_partitions(self) -> bool:
        """False: aiokafka itself joins the group again when the topic grows."""
        return False


class _Rebalance(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Tells of an assignment, and of its end while the group still waits for this member."""

    def __init__(self, partitions: GroupPartitions, listener: PartitionListener) -> None:
        self._partitions = partitions
        self._listener = listener

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._listener.end_assignment()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._partitions.note_assignment()
        self._listener.begin_assignment()


class AllPartitions:
    """Every partition, at first from one end, later from where the listener was.

    aiokafka would go back to the end of every partition whenever the number of partitions
    changes, and a new consumer would begin there too; what was published meanwhile would be
    passed over. So partitions are assigned here, and their positions kept in memory.

    Args:
        consumer: Without a group, and told to begin at the beginning; not started.
        topic: What it consumes.
        kept: The next offset of each partition; empty for a listener that begins. Outlives the
            consumer.
        at_end: Whether a listener begins at the end of every partition, or at the beginning.

    """

    def __init__(
        self,
        consumer: AIOKafkaConsumer[bytes, bytes],
        topic: str,
        kept: MutableMapping[TopicPartition, int],
        *,
        at_end: bool,
    ) -> None:
        self._consumer = consumer
        self._topic = topic
        self._kept = kept
        self._at_end = at_end

    async def start(self, listener: PartitionListener) -> None:
        """Take all partitions; return when it is known where each is read next."""
        consumer = self._consumer
        # aiokafka asks for the metadata of topics of which something is assigned.
        consumer.assign([TopicPartition(self._topic, 0)])
        with internals.bootstrapping():
            await consumer.start()
        partitions = self._partitions()
        if not partitions:
            raise UnknownTopicOrPartitionError(self._topic)
        consumer.assign(partitions)
        if self._kept:
            # A partition that is new since then is read from its beginning.
            for partition in self._kept.keys() & set(partitions):
                consumer.seek(partition, self._kept[partition])
        elif self._at_end:
            await consumer.seek_to_end(*partitions)
        await self.positioned()
        listener.begin_assignment()

    async def positioned(self) -> None:
        """Wait for the position of every partition."""
        positions = {p: await self._consumer.position(p) for p in self._consumer.assignment()}
        for partition, position in positions.items():
            self._kept.setdefault(partition, position)

    async def commit_start(self, starts: Offsets) -> None:
        """Do nothing: `positioned` has kept where each partition begins."""

    async def commit(self, offsets: Offsets) -> None:
        """Keep where to go on."""
        self._kept.update(offsets)

    @property
    def has_joined(self) -> bool:
        """False: there is no group."""
        return False

    async def misses_nothing(self) -> bool:
        """Return False: only a listener that is positioned knows where it begins."""
        return False

    @property
    def has_new_partitions(self) -> bool:
        """Whether the topic has got partitions since the start."""
        found = self._consumer.partitions_for_topic(self._topic)
        return found is not None and len(found) > len(self._consumer.assignment())

    def _partitions(self) -> list[TopicPartition]:
        found = self._consumer.partitions_for_topic(self._topic) or ()
        return [TopicPartition(self._topic, number) for number in sorted(found)]
