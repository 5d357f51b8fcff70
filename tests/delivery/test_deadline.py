"""One deadline for several steps."""

from __future__ import annotations

import asyncio

from pyfly_messaging.delivery.deadline import Deadline
from tests.delivery.clock import on_virtual_time, turns


@on_virtual_time
async def test_what_is_left_shrinks_to_nothing() -> None:
    """What is left shrinks with the time that passes, and is never negative."""
    deadline = Deadline(10.0)
    assert deadline.left() == 10.0
    await asyncio.sleep(4)
    assert deadline.left() == 6.0
    assert deadline.left(at_most=1.5) == 1.5
    assert deadline.left(at_most=100.0) == 6.0
    await asyncio.sleep(10)
    assert deadline.left() == 0.0
    assert deadline.left(at_most=1.5) == 0.0


@on_virtual_time
async def test_waiting_ends_when_all_is_done_or_the_time_is_over() -> None:
    """What is not done by then is returned."""
    loop = asyncio.get_running_loop()
    quick, slow = asyncio.ensure_future(asyncio.sleep(2)), loop.create_future()
    assert await Deadline(10.0).wait([quick]) == set()
    assert loop.time() == 2.0
    assert await Deadline(10.0).wait([quick, slow]) == {slow}
    assert loop.time() == 12.0
    assert await Deadline(0.0).wait([slow]) == {slow}
    assert await Deadline(0.0).wait([]) == set()


@on_virtual_time
async def test_a_deadline_that_expires_ends_all_waiting() -> None:
    """It is over for who waits, and for who comes later."""
    deadline, slow = Deadline(10.0), asyncio.get_running_loop().create_future()
    waiting = [asyncio.create_task(deadline.wait([slow])) for _ in range(2)]
    await turns()
    for _ in range(2):
        deadline.expire()
    assert await asyncio.gather(*waiting) == [{slow}, {slow}]
    assert deadline.left() == 0.0
    assert await deadline.wait([slow]) == {slow}
    assert asyncio.get_running_loop().time() == 0.0
