"""One time limit for many calls at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from pyfly_messaging.delivery.expiry import Expiry
from tests.delivery.clock import on_virtual_time, turns


def now() -> float:
    return asyncio.get_running_loop().time()


async def limited(expiry: Expiry, call: Coroutine[Any, Any, None]) -> None:
    with expiry:
        await call


@on_virtual_time
async def test_what_takes_too_long_is_a_timeout() -> None:
    """A call that outlasts the limit is cancelled and raises TimeoutError, at its deadline."""
    expiry = Expiry(5.0)
    await asyncio.sleep(1)

    async def call() -> None:
        await asyncio.sleep(2)
        assert expiry.left() == 3.0
        await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        await limited(expiry, call())
    assert now() == 6.0
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@on_virtual_time
async def test_what_is_quick_enough_is_left_alone() -> None:
    """A call within the limit is not disturbed, also long after it."""
    await limited(Expiry(5.0), asyncio.sleep(4))
    await asyncio.sleep(60)
    assert now() == 64.0


@on_virtual_time
async def test_every_call_has_its_own_deadline() -> None:
    """Calls that begin one after the other end one after the other."""
    expiry = Expiry(5.0)
    ended: list[tuple[int, float]] = []

    async def call(number: int) -> None:
        try:
            await limited(expiry, asyncio.sleep(60 if number % 2 == 0 else 1))
        except TimeoutError:
            ended.append((number, now()))

    async with asyncio.TaskGroup() as group:
        for number in range(6):
            group.create_task(call(number))
            await asyncio.sleep(2)
    assert ended == [(0, 5.0), (2, 9.0), (4, 13.0)]


@on_virtual_time
async def test_an_exception_passes() -> None:
    """What the call raises itself is not changed, and the limit is gone with it."""

    async def call() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await limited(Expiry(5.0), call())
    await asyncio.sleep(60)


@on_virtual_time
async def test_an_error_at_the_deadline_passes() -> None:
    """A call that answers its cancellation with an error raises that error."""

    async def call() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ValueError("mine") from None

    with pytest.raises(ValueError, match="mine"):
        await limited(Expiry(5.0), call())


@on_virtual_time
async def test_a_cancellation_by_others_passes() -> None:
    """A call whose task others cancel is cancelled, not timed out."""
    task = asyncio.create_task(limited(Expiry(5.0), asyncio.sleep(60)))
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(60)


@on_virtual_time
async def test_nothing_is_left_behind() -> None:
    """A cancellation by the limit is taken back, so that the task can go on and use it again."""
    expiry, task = Expiry(5.0), asyncio.current_task()
    assert task is not None
    for end in (5.0, 10.0, 15.0):
        with pytest.raises(TimeoutError):
            await limited(expiry, asyncio.sleep(60))
        assert (now(), task.cancelling()) == (end, 0)


@on_virtual_time
async def test_a_cancellation_by_others_at_the_deadline() -> None:
    """Whoever cancels a task at the very moment of its deadline is heard."""
    task = asyncio.create_task(limited(Expiry(5.0), asyncio.sleep(60)))
    await turns()
    asyncio.get_running_loop().call_at(5.0, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


def test_another_event_loop_has_its_own_timer() -> None:
    """What ran out of an event loop that has ended does not take the limit from the next one."""
    expiry = Expiry(0.01)

    async def quick() -> None:
        await limited(expiry, asyncio.sleep(0))

    asyncio.run(quick())
    with pytest.raises(TimeoutError):
        asyncio.run(limited(expiry, asyncio.sleep(60)))
