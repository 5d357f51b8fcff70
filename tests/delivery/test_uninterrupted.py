"""Steps that go on to their end."""

from __future__ import annotations

import asyncio

import pytest

from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.uninterrupted import close_within, uninterrupted
from tests.delivery.clock import on_virtual_time, turns


@on_virtual_time
async def test_it_returns_what_the_step_returns() -> None:
    """Without a cancellation the caller gets the result, or the error."""

    async def answer() -> int:
        await asyncio.sleep(1)
        return 42

    async def refuse() -> None:
        await asyncio.sleep(1)
        raise ConnectionError("refused")

    assert await uninterrupted(answer()) == 42
    with pytest.raises(ConnectionError, match="refused"):
        await uninterrupted(refuse())


@on_virtual_time
@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancellation_follows_the_end_of_the_step(fails: bool) -> None:
    """The step goes on however often the caller is cancelled, and then the caller ends."""
    gate, ended = asyncio.Event(), False

    async def step() -> None:
        nonlocal ended
        await gate.wait()
        ended = True
        if fails:
            raise ConnectionError("refused")

    calls: list[int] = []
    caller = asyncio.create_task(uninterrupted(step(), on_cancel=lambda: calls.append(1)))
    for _ in range(3):
        await turns()
        caller.cancel()
    await turns()
    assert not caller.done()
    gate.set()
    await asyncio.wait((caller,))
    assert caller.cancelled()
    assert ended
    assert len(calls) == 3


@on_virtual_time
async def test_a_timeout_of_the_caller_stays_one() -> None:
    """What bounds the call raises its own error once the step is over."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await uninterrupted(asyncio.sleep(5))
    assert asyncio.get_running_loop().time() == 5.0


@on_virtual_time
async def test_a_close_that_is_cancelled_waits_no_longer() -> None:
    """The deadline is over at the first cancellation; the close goes on to its end."""
    handler = asyncio.get_running_loop().create_future()
    log: list[object] = []

    async def close(deadline: Deadline, caller: asyncio.Task[None] | None) -> None:
        log.append(caller)
        log.append(await deadline.wait([handler]))
        await asyncio.sleep(2)
        log.append("closed")

    stopping = asyncio.create_task(close_within(30.0, close))
    await turns()
    stopping.cancel()
    await asyncio.wait((stopping,))
    assert stopping.cancelled()
    assert log == [stopping, {handler}, "closed"]
    assert asyncio.get_running_loop().time() == 2.0
