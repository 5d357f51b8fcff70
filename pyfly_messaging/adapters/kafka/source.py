"""Where a consumer's records come from: the share of a group's member, or the whole topic."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from aiokafka.structs import TopicPartition

Offsets = Mapping[TopicPartition, int]
Begin = Callable[[], None]
End = Callable[[], Awaitable[None]]


class Source(Protocol):
    """What differs between a consumer of a group and one without."""

    async def start(self, begin: Begin, end: End) -> None:
        """Start the consumer; return when partitions are assigned.

        Args:
            begin: To be called with each new assignment.
            end: To be awaited before partitions are given up.

        """
        ...

    async def positioned(self) -> None:
        """Wait until it is known where each partition is read next."""
        ...

    async def anchor(self, starts: Offsets) -> None:
        """Hold on to where partitions begin of which nothing is kept yet.

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
    def admitted(self) -> bool:
        """Whether a group has let the consumer in, so that it is others who hold it up."""
        ...

    async def keeps_place(self) -> bool:
        """Tell whether nothing is missed however late the partitions are assigned.

        Raises:
            KafkaError: No answer.

        """
        ...

    @property
    def grown(self) -> bool:
        """Whether there are partitions that only a new start would find."""
        ...
