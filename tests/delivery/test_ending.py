"""How tasks are ended."""

from __future__ import annotations

import asyncio

from pyfly_messaging.delivery import end_task
from tests.delivery.clock import on_virtual_time, turns


async def _swallow(times: int) -> str:
    for _ in range(times):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
    return "ended"


async def _running(times: int) -> asyncio.Task[str]:
    task = asyncio.create_task(_swallow(times))
    await turns()
    return task


@on_virtual_time
async def test_tasks_that_swallow_cancellations() -> None:
    """A task that goes on is cancelled again each second; what it returns stays in it."""
    tasks = [await _running(times) for times in (1, 2, 4)]
    assert await end_task(*tasks) == set()
    assert [task.result() for task in tasks] == ["ended"] * 3
    assert [task.cancelling() for task in tasks] == [1, 2, 4]
    assert asyncio.get_running_loop().time() == 3.0


@on_virtual_time
async def test_task_that_never_ends() -> None:
    """A task that ignores ten cancellations is returned, after ten seconds."""
    task = await _running(11)
    assert await end_task(task) == {task}
    assert asyncio.get_running_loop().time() == 10.0
    assert await end_task(task) == set()


@on_virtual_time
async def test_tasks_that_are_done() -> None:
    """A task that is done is left alone, and without tasks there is nothing to do."""
    task = await _running(0)
    assert await end_task(task) == await end_task() == set()
    assert task.result() == "ended"
