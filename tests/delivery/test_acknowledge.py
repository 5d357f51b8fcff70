"""When what is settled is acknowledged."""

from __future__ import annotations

import asyncio

import pytest

from pyfly_messaging.delivery.acknowledge import Acknowledger
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
