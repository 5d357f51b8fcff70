"""The partitions that a consumer group gives to one of its members."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError, IllegalStateError, UnknownTopicOrPartitionError
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.structs import TopicPartition

from pyfly_messaging.adapters.kafka import internals
from pyfly_messaging.adapters.kafka.source import Begin, End, Offsets

_PAUSE = 0.05


class GroupShare:
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
        self._adrift: set[TopicPartition] = set()
        self._generation: int | None = None

    async def start(self, begin: Begin, end: End) -> None:
        """Join the group; return when it has assigned partitions."""

        def assigned() -> None:
            self._generation = self._current_generation
            # Whatever has made the group assign again may have changed the topic.
            internals.client_of(self._consumer).force_metadata_update()
            if self._from_latest:
                self._adrift = set(self._consumer.assignment())
            begin()

        self._consumer.subscribe([self._topic], listener=_Rebalance(assigned, end))
        with internals.bootstrapping():
            await self._consumer.start()

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
                await self.anchor(positions)
            except IllegalStateError:  # the group rebalances: there is a new assignment
                await asyncio.sleep(_PAUSE)
            else:
                return

    async def anchor(self, starts: Offsets) -> None:
        """Commit where the group begins at the end of a partition.

        Or else the next rebalance would take the end of that moment, and pass over what came
        between.
        """
        fresh = {}
        for partition in self._adrift & starts.keys():
            if await self._consumer.committed(partition) is None:
                fresh[partition] = starts[partition]
        if fresh:
            await self.commit(fresh)
        self._adrift.difference_update(starts)

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
    def admitted(self) -> bool:
        """Whether the group knows this member."""
        coordinator = internals.coordinator_of(self._consumer)
        return coordinator is not None and bool(coordinator.member_id)

    async def keeps_place(self) -> bool:
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
    def grown(self) -> bool:
        """False: aiokafka itself joins the group again when the topic grows."""
        return False


class _Rebalance(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Tells of an assignment, and of its end while the group still waits for this member."""

    def __init__(self, assigned: Begin, end: End) -> None:
        self._assigned = assigned
        self._end = end

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._end()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._assigned()
