"""Where a consumer's records come from: the share of a group's member, or the whole topic."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from aiokafka.structs import TopicPartition

Offsets = Mapping[TopicPartition, int]


class Source(Protocol):
    """What differs between a consumer of a group and one without."""

    async def start(self, begin: Callable[[], None], end: Callable[[], Awaitable[None]]) -> None:
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

    async def keeps_place(self) -> bool:
        """Tell whether nothing is missed however late the partitions are assigned."""
        ...

    @property
    def grown(self) -> bool:
        """Whether there are partitions that only a new start would find."""
        ...
