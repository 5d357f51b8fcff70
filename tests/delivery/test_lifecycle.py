"""Starts and stops, one after the other."""

from __future__ import annotations

import asyncio
from contextvars import copy_context

import pytest

from pyfly_messaging.delivery.handling import handling
from pyfly_messaging.delivery.lifecycle import Lifecycle
from tests.delivery.clock import on_virtual_time, turns


class Connection:
    """What is opened and closed; it can be told to fail and to take time."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.refusals: list[BaseException] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.lifecycle = Lifecycle(self.open, self.close)

    def runs(self) -> bool:
        return self.lifecycle.running

    async def open(self) -> None:
        self.log.append("open")
        await self.gate.wait()
        if self.refusals:
            raise self.refusals.pop()
        self.log.append("opened")

    async def close(self) -> None:
        self.log.append("close")
        await self.gate.wait()
        self.log.append("closed")


@on_virtual_time
async def test_start_and_stop() -> None:
    """A start opens, a stop closes, and a stopped one can be started again."""
    connection = Connection()
    lifecycle = connection.lifecycle
    assert not connection.runs()
    for _ in range(2):
        connection.log.clear()
        await lifecycle.start()
        assert connection.runs()
        await lifecycle.stop()
        assert not connection.runs()
        assert connection.log == ["open", "opened", "close", "closed"]


@on_virtual_time
async def test_both_are_idempotent() -> None:
    """A second start or stop does nothing, and a stop before any start neither."""
    connection = Connection()
    lifecycle = connection.lifecycle
    await lifecycle.stop()
    assert connection.log == []
    await asyncio.gather(lifecycle.start(), lifecycle.start())
    assert connection.log == ["open", "opened"]
    await asyncio.gather(lifecycle.stop(), lifecycle.stop())
    assert connection.log == ["open", "opened", "close", "closed"]


@on_virtual_time
async def test_a_failed_start_is_closed() -> None:
    """What a failed start has opened is closed before the error is raised; a later one works."""
    connection = Connection()
    connection.refusals.append(ConnectionError("refused"))
    with pytest.raises(ConnectionError, match="refused"):
        await connection.lifecycle.start()
    assert connection.log == ["open", "close", "closed"]
    assert not connection.runs()
    await connection.lifecycle.stop()
    assert connection.log == ["open", "close", "closed"]
    await connection.lifecycle.start()
    assert connection.runs()


@on_virtual_time
async def test_a_cancelled_start_is_closed() -> None:
    """A start that is cancelled leaves nothing open."""
    connection = Connection()
    connection.gate.clear()
    starting = asyncio.create_task(connection.lifecycle.start())
    await turns()
    starting.cancel()
    await turns()
    connection.gate.set()
    await turns()
    assert starting.cancelled()
    assert connection.log == ["open", "close", "closed"]


@on_virtual_time
async def test_a_stop_waits_for_the_start() -> None:
    """A stop during a start begins when that has ended."""
    connection = Connection()
    connection.gate.clear()
    starting = asyncio.create_task(connection.lifecycle.start())
    await turns()
    stopping = asyncio.create_task(connection.lifecycle.stop())
    await turns()
    assert connection.log == ["open"]
    connection.gate.set()
    await asyncio.gather(starting, stopping)
    assert connection.log == ["open", "opened", "close", "closed"]


@on_virtual_time
async def test_a_stop_within_a_handler_does_not_wait_for_another() -> None:
    """A handler's stop returns at once while another is under way, and else closes itself."""
    connection = Connection()
    await connection.lifecycle.start()
    connection.gate.clear()
    stopping = asyncio.create_task(connection.lifecycle.stop())
    await turns()
    context = copy_context()
    context.run(handling.set, object())
    inside = asyncio.create_task(connection.lifecycle.stop(), context=context)
    outside = asyncio.create_task(connection.lifecycle.stop())
    await turns()
    assert (stopping.done(), inside.done(), outside.done()) == (False, True, False)
    connection.gate.set()
    await asyncio.gather(stopping, outside)
    await connection.lifecycle.start()
    await asyncio.create_task(connection.lifecycle.stop(), context=context)
    assert not connection.runs()


async def cancelled_stop(connection: Connection) -> None:
    await connection.lifecycle.start()
    connection.log.clear()
    connection.gate.clear()
    stopping = asyncio.create_task(connection.lifecycle.stop())
    await turns()
    stopping.cancel()
    await turns()
    assert stopping.cancelled()
    connection.gate.set()


@on_virtual_time
async def test_a_cancelled_stop_is_finished_by_the_next() -> None:
    """A stop that was cancelled is no start: the next stop closes what is left."""
    connection = Connection()
    await cancelled_stop(connection)
    assert not connection.runs()
    await connection.lifecycle.stop()
    assert connection.log == ["close", "close", "closed"]


@on_virtual_time
async def test_a_start_after_a_cancelled_stop() -> None:
    """A start after a cancelled stop finishes that first, and opens everything again."""
    connection = Connection()
    await cancelled_stop(connection)
    await connection.lifecycle.start()
    assert connection.log == ["close", "close", "closed", "open", "opened"]
    assert connection.runs()


def test_another_event_loop() -> None:
    """What was started and stopped by several at once starts again on another event loop."""
    log: list[str] = []

    async def note(what: str) -> None:
        log.append(what)
        await asyncio.sleep(0)

    lifecycle = Lifecycle(lambda: note("open"), lambda: note("close"))

    async def crowd() -> None:
        await asyncio.gather(*(lifecycle.start() for _ in range(3)))
        await asyncio.gather(*(lifecycle.stop() for _ in range(3)))

    asyncio.run(crowd())
    asyncio.run(crowd())
    assert log == ["open", "close"] * 2
