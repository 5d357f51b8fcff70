"""What a handler is kept to."""

from __future__ import annotations

import asyncio

import pytest

from pyfly_messaging.delivery.limits import at_most, within
from pyfly_messaging.message import Message
from tests.delivery.clock import on_virtual_time
from tests.delivery.samples import message


async def slow(message: Message) -> None:
    await asyncio.sleep(1)


@on_virtual_time
async def test_a_call_that_takes_too_long() -> None:
    """A call that outlasts its limit is cancelled and raises TimeoutError."""
    await within(slow, 2)(message())
    with pytest.raises(TimeoutError):
        await within(slow, 0.5)(message())


@on_virtual_time
async def test_calls_wait_for_a_place() -> None:
    """Five calls of a second each take three seconds when two may run at once."""
    limited = at_most(slow, 2)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*(limited(message()) for _ in range(5)))
    assert loop.time() - began == 3


def test_another_event_loop() -> None:
    """A limit that calls have waited for serves the next event loop too."""
    limited = at_most(slow, 1)

    @on_virtual_time
    async def crowd() -> None:
        await asyncio.gather(*(limited(message()) for _ in range(3)))

    crowd()
    crowd()
