"""One deadline for several steps."""

from __future__ import annotations

import asyncio

from pyfly_messaging.delivery.deadline import Deadline
from tests.delivery.clock import on_virtual_time


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
