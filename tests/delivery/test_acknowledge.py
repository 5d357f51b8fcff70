"""When what is settled is acknowledged."""

from __future__ import annotations

import asyncio

import pytest

from pyfly_messaging.delivery.acknowledge import Acknowledger
from pyfly_messaging.delivery.ending import end_task
from tests.delivery.clock import on_virtual_time, turns

INTERVAL = 5.0


class Source:
    """Notes when it is flushed; it can be told to raise, and to take time."""

    def __init__(self) -> None:
        self.flushed_at: list[float] = []
        self.errors: list[BaseException] = []
        self.seconds = 0.0
        self.under_way = 0
        self.acknowledger = Acknowledger(self.flush, interval=INTERVAL, name="listener")

    async def flush(self) -> None:
        self.under_way += 1
        assert self.under_way == 1
        try:
            self.flushed_at.append(asyncio.get_running_loop().time())
            await asyncio.sleep(self.seconds)
            if self.errors:
                raise self.errors.pop(0)
        finally:
            self.under_way -= 1


@on_virtual_time
async def test_it_sleeps_without_work() -> None:
    """With nothing in work nothing is flushed."""
    source = Source()
    source.acknowledger.start()
    await asyncio.sleep(100)
    assert source.flushed_at == []
    await source.acknowledger.stop()


@on_virtual_time
async def test_it_flushes_at_the_interval_while_there_is_work() -> None:
    """While messages are in work it flushes every interval; at the end once more, at once."""
    source = Source()
    source.acknowledger.start()
    source.acknowledger.begin()
    await asyncio.sleep(12)
    assert source.flushed_at == [5.0, 10.0]
    source.acknowledger.idle()
    await asyncio.sleep(100)
    assert source.flushed_at == [5.0, 10.0, 12.0]
    await source.acknowledger.stop()


@on_virtual_time
async def test_a_nudge_flushes_now() -> None:
    """A nudge does not wait for the interval, which begins anew."""
    source = Source()
    source.acknowledger.start()
    source.acknowledger.begin()
    await asyncio.sleep(1)
    source.acknowledger.nudge()
    source.acknowledger.nudge()
    await asyncio.sleep(6)
    assert source.flushed_at == [1.0, 6.0]
    source.acknowledger.idle()
    await turns()
    await source.acknowledger.stop()


@on_virtual_time
async def test_short_work_is_one_flush() -> None:
    """Work that ended before the task has run is flushed once."""
    source = Source()
    source.acknowledger.start()
    source.acknowledger.begin()
    source.acknowledger.idle()
    await asyncio.sleep(100)
    assert source.flushed_at == [0.0]
    await source.acknowledger.stop()


@on_virtual_time
async def test_work_that_begins_during_the_last_flush() -> None:
    """Work that begins while the last flush is under way is not forgotten."""
    source = Source()
    source.seconds = 1.0
    source.acknowledger.start()
    source.acknowledger.begin()
    source.acknowledger.idle()
    await asyncio.sleep(0.5)
    source.acknowledger.begin()
    await asyncio.sleep(6.0)
    assert source.flushed_at == [0.0, 6.0]
    source.acknowledger.idle()
    await asyncio.sleep(100)
    assert source.flushed_at == [0.0, 6.0, 7.0]
    await source.acknowledger.stop()


@pytest.mark.parametrize("error", [ValueError("unmapped"), asyncio.CancelledError()])
@on_virtual_time
async def test_a_flush_that_fails_is_repeated(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """A flush that raises, or is cancelled by a client, is logged and repeated."""
    source = Source()
    source.errors.append(error)
    source.acknowledger.start()
    source.acknowledger.begin()
    source.acknowledger.idle()
    await asyncio.sleep(100)
    assert source.flushed_at == [0.0, 5.0]
    (record,) = caplog.records
    assert record.getMessage().startswith("listener listener: acknowledging")
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    await source.acknowledger.stop()


@on_virtual_time
async def test_a_flush_that_always_fails_is_not_always_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What keeps failing is told once in a while, and not with a traceback for each time."""
    source = Source()
    source.errors += [ValueError("unmapped")] * 20
    source.acknowledger.start()
    source.acknowledger.begin()
    await asyncio.sleep(100)
    assert len(source.errors) < 5
    assert len(caplog.records) == 1
    await source.acknowledger.stop()


@on_virtual_time
async def test_stop_cancels_a_flush() -> None:
    """A stop does not wait for a flush that is under way, and can be repeated."""
    source = Source()
    source.seconds = 1_000.0
    source.acknowledger.start()
    source.acknowledger.begin()
    source.acknowledger.idle()
    await turns()
    assert source.under_way == 1
    await source.acknowledger.stop()
    assert source.under_way == 0
    assert asyncio.get_running_loop().time() == 0.0
    await source.acknowledger.stop()


@on_virtual_time
async def test_a_cancelled_task_is_no_failed_flush() -> None:
    """When somebody else cancels the task during a flush, it ends."""
    source = Source()
    source.seconds = 1_000.0
    source.acknowledger.start()
    source.acknowledger.begin()
    source.acknowledger.idle()
    await turns()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.sleep(100)
    assert source.flushed_at == [0.0]
    await source.acknowledger.stop()


class Swallowing:
    """A flush that swallows cancellations, as some clients do, and then returns or goes on."""

    def __init__(self, times: int, *, goes_on: bool) -> None:
        self.left = times
        self.goes_on = goes_on
        self.acknowledger = Acknowledger(self.flush, interval=INTERVAL, name="listener")

    async def flush(self) -> None:
        while self.left:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.left -= 1
                if not self.goes_on:
                    return
        await asyncio.Event().wait()

    async def stop(self) -> float:
        """Stop while a flush is under way; return how long that takes."""
        self.acknowledger.start()
        self.acknowledger.begin()
        self.acknowledger.idle()
        await turns()
        await self.acknowledger.stop()
        return asyncio.get_running_loop().time()


@pytest.mark.parametrize(
    ("times", "goes_on", "seconds"), [(1, False, 0.0), (1, True, 1.0), (3, True, 3.0)]
)
@on_virtual_time
async def test_stop_ends_a_flush_that_swallows_its_cancellation(
    times: int, goes_on: bool, seconds: float
) -> None:
    """A flush that swallows a cancellation is cancelled again; no task is left behind."""
    source = Swallowing(times, goes_on=goes_on)
    assert await source.stop() == seconds
    assert asyncio.all_tasks() == {asyncio.current_task()}


@on_virtual_time
async def test_stop_gives_up_on_a_flush_that_ignores_cancellations(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A flush that ignores every cancellation does not hold up the stop for ever."""
    source = Swallowing(15, goes_on=True)
    assert await source.stop() == 10.0
    (record,) = caplog.records
    assert record.getMessage() == "listener listener: acknowledging ignores its cancellation"
    await end_task(*asyncio.all_tasks() - {asyncio.current_task()})


@on_virtual_time
async def test_swallowed_cancellation_of_somebody_else() -> None:
    """A cancellation that is no stop, and that a flush swallows, does not end acknowledgement."""
    source = Swallowing(1, goes_on=False)
    source.acknowledger.start()
    source.acknowledger.begin()
    source.acknowledger.idle()
    await turns()
    (task,) = asyncio.all_tasks() - {asyncio.current_task()}
    task.cancel()
    await asyncio.sleep(1)
    assert not task.done()
    await source.acknowledger.stop()
