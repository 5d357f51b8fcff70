"""All partitions of a topic, for a listener without a group."""

from __future__ import annotations

from collections.abc import MutableMapping

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import UnknownTopicOrPartitionError
from aiokafka.structs import TopicPartition

from pyfly_messaging.adapters.kafka import internals
from pyfly_messaging.adapters.kafka.source import Begin, End, Offsets


class WholeTopic:
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

    async def start(self, begin: Begin, end: End) -> None:
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
        begin()

    async def positioned(self) -> None:
        """Wait for the position of every partition."""
        positions = {p: await self._consumer.position(p) for p in self._consumer.assignment()}
        for partition, position in positions.items():
            self._kept.setdefault(partition, position)

    async def anchor(self, starts: Offsets) -> None:
        """Do nothing: `positioned` has kept where each partition begins."""

    async def commit(self, offsets: Offsets) -> None:
        """Keep where to go on."""
        self._kept.update(offsets)

    @property
    def admitted(self) -> bool:
        """False: there is no group, and nobody to wait for."""
        return False

    async def keeps_place(self) -> bool:
        """Return False: only a listener that is positioned knows where it begins."""
        return False

    @property
    def grown(self) -> bool:
        """Whether the topic has got partitions since the start."""
        found = self._consumer.partitions_for_topic(self._topic)
        return found is not None and len(found) > len(self._consumer.assignment())

    def _partitions(self) -> list[TopicPartition]:
        found = self._consumer.partitions_for_topic(self._topic) or ()
        return [TopicPartition(self._topic, number) for number in sorted(found)]
