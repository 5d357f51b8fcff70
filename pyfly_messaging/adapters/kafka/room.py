"""How many bytes of messages a listener holds at most, and how many records it fetches next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, TypeAlias

from pyfly_messaging.settings import KafkaSettings

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

    Records: TypeAlias = Sequence[ConsumerRecord[bytes, bytes]]

_VALUE, _KEY = attrgetter("serialized_value_size"), attrgetter("serialized_key_size")
_HEADERS = attrgetter("headers")


class Room:
    """Bounds the bytes of keys, values and headers that are handed over and not settled.

    Small records are not counted one by one: as many as may be in flight have half of the bound,
    and cannot exceed it. The others have the other half, and are counted until they are settled;
    one that is larger than that is handed over when no other large one is there.

    Args:
        settings: How much may be in flight.

    Attributes:
        at_most: How many records to fetch next.

    """

    def __init__(self, settings: KafkaSettings) -> None:
        # Half of what may be in flight is fetched while the other half is handled.
        self.share = self.at_most = max(1, settings.max_in_flight // 2)
        self._small = settings.max_in_flight_bytes // (2 * settings.max_in_flight)
        self._limit = settings.max_in_flight_bytes - settings.max_in_flight_bytes // 2
        self._used = 0
        self._wanted = 0  # by the record that did not fit
        self._freed = asyncio.Event()

    async def wait(self, timeout: float) -> bool:
        """Wait until the next large record fits; False after ``timeout`` seconds."""
        if self._fits(self._wanted):
            self._wanted = 0
            return True
        self._freed.clear()
        try:
            async with asyncio.timeout(timeout):
                while not self._fits(self._wanted):
                    await self._freed.wait()
                    self._freed.clear()
        except TimeoutError:
            return False
        self._wanted = 0
        return True

    def take(
        self, records: Records, settle: Callable[[int], None]
    ) -> tuple[int, Callable[[int], None]]:
        """Count records of one partition.

        Args:
            records: In order.
            settle: What is called with the offset of each that is settled.

        Returns:
            How many of them fit, and what to call instead of ``settle``.

        """
        if not self._has_large(records):
            self.at_most = min(self.share, 2 * self.at_most)
            return len(records), settle
        sizes: dict[int, int] = {}
        taken = 0
        for record in records:
            if (size := _size(record)) > self._small:
                if not self._fits(size):
                    self._wanted = size
                    break
                self._used += size
                sizes[record.offset] = size
            taken += 1
        self.at_most = max(1, taken) if taken < len(records) else min(self.share, 2 * self.at_most)

        if not sizes:
            return taken, settle

        def release(offset: int) -> None:
            settle(offset)
            if offset in sizes:
                self._used -= sizes.pop(offset)
                self._freed.set()

        return taken, release

    def _fits(self, size: int) -> bool:
        return not self._used or self._used + size <= self._limit

    def _has_large(self, records: Records) -> bool:
        small = self._small // 4
        if max(map(_VALUE, records)) > small or max(map(_KEY, records)) > small:
            return True
        return any(map(_HEADERS, records)) and any(
            _size_of_headers(headers) > small for headers in map(_HEADERS, records)
        )


def _size(record: ConsumerRecord[bytes, bytes]) -> int:
    headers = _size_of_headers(record.headers)
    return (
        max(0, int(record.serialized_value_size))
        + max(0, int(record.serialized_key_size))
        + headers
    )


def _size_of_headers(headers: Iterable[tuple[str, bytes | None]]) -> int:
    size = 0
    for name, value in headers:
        size += len(name) if value is None else len(name) + len(value)
    return size
