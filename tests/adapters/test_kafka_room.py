"""The bytes that a listener holds."""

from collections.abc import Callable

import pytest
from aiokafka.structs import ConsumerRecord

from pyfly_messaging.adapters.kafka.room import Room
from pyfly_messaging.settings import KafkaSettings


def record(
    offset: int, value: int, key: int = 0, headers: tuple[tuple[str, bytes | None], ...] = ()
) -> "ConsumerRecord[bytes, bytes]":
    """Return a record of some size."""
    return ConsumerRecord("t", 0, offset, 0, 0, bytes(key), bytes(value), None, key, value, headers)


def room(count: int, size: int) -> Room:
    """Return the room of a bound of records and bytes."""
    return Room(KafkaSettings(max_in_flight=count, max_in_flight_bytes=size))


async def test_small_records_are_not_counted() -> None:
    """Records of which as many as may be in flight fit need no count."""
    small, settled = room(10, 2000), list[int]()
    settle: Callable[[int], None] = settled.append
    for _ in range(20):
        assert small.take([record(n, 90) for n in range(5)], settle) == (5, settle)
    assert await small.wait(0)


@pytest.mark.parametrize(
    "large",
    [record(1, 400), record(1, 0, key=400), record(1, 0, headers=(("n" * 200, b"v" * 200),))],
    ids=["value", "key", "headers"],
)
async def test_large_records_wait_for_room(large: "ConsumerRecord[bytes, bytes]") -> None:
    """What does not fit is left out, and fits when enough is settled."""
    bound, settled = room(10, 2000), list[int]()
    records = [large._replace(offset=n) for n in range(4)] if hasattr(large, "_replace") else []
    records = records or [
        record(n, len(large.value or b""), len(large.key or b""), tuple(large.headers))
        for n in range(4)
    ]
    taken, settle = bound.take(records, settled.append)
    assert taken == 2
    assert bound.at_most == 2
    assert not await bound.wait(0)
    settle(0)
    assert settled == [0]
    assert await bound.wait(0)
    assert bound.take(records[2:], settled.append)[0] == 1


async def test_one_that_is_too_large_goes_alone() -> None:
    """A record above the whole bound is handed over when no other large one is there."""
    bound, settled = room(10, 2000), list[int]()
    taken, settle = bound.take([record(0, 9000), record(1, 9000), record(2, 1)], settled.append)
    assert taken == 1
    assert not await bound.wait(0)
    settle(0)
    assert await bound.wait(0)
    assert bound.take([record(1, 9000)], settled.append)[0] == 1


async def test_as_many_are_fetched_as_there_is_room() -> None:
    """Fetches shrink to what fitted, and grow again when all fits."""
    bound = room(10, 2000)
    assert bound.at_most == 5
    bound.take([record(n, 600) for n in range(5)], lambda offset: None)
    assert bound.at_most == 1
    for expected in (2, 4, 5, 5):
        bound.take([record(9, 1)], lambda offset: None)
        assert bound.at_most == expected
