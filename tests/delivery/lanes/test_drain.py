"""The drain, with any concurrency."""

from __future__ import annotations

import asyncio

import pytest

from pyfly_messaging.message import Message
from tests.delivery.clock import on_virtual_time, turns
from tests.delivery.lanes.samples import Listener, Script, now, timers, workers
from tests.delivery.samples import failing


class TestDrain:
    """Running handlers finish or are cancelled; the rest is handed back."""

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_drain_lets_handlers_finish(self, concurrency: int) -> None:
        """A drain settles what runs and hands back, in order, what was not begun."""
        script = Script("a", "b")
        listener = Listener(script, concurrency=concurrency)
        listener.submit("a", "b")
        listener.submit("c", "d")
        await turns()
        draining = asyncio.create_task(listener.drain(60.0))
        await turns()
        assert not draining.done()
        script.let("a", "b")
        back = await draining
        assert back == (["b", "c", "d"] if concurrency == 1 else ["c", "d"])
        assert listener.settled == (["a"] if concurrency == 1 else ["a", "b"])
        assert workers() == []

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_drain_cancels_after_its_timeout(self, concurrency: int) -> None:
        """A handler that outlasts the deadline is cancelled and awaited; its message comes back."""
        script = Script("a")
        listener = Listener(script, concurrency=concurrency)
        listener.submit("a")
        await turns()
        begun = now()
        assert await listener.drain(7.0) == ["a"]
        assert now() == begun + 7.0
        assert (script.ended, script.running, listener.settled) == ([], 0, [])
        assert workers() == []

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_a_handler_that_goes_on_is_cancelled_again(self, concurrency: int) -> None:
        """A handler that catches its cancellation is cancelled again each second."""
        cancelled_at: list[float] = []

        async def stubborn(message: Message) -> None:
            while len(cancelled_at) < 3:
                try:
                    await asyncio.sleep(1_000)
                except asyncio.CancelledError:
                    cancelled_at.append(now())

        listener = Listener(stubborn, concurrency=concurrency)
        listener.submit("a", "b", key="same")
        await turns()
        assert await listener.drain(5.0) == ["b"]
        assert cancelled_at == [5.0, 6.0, 7.0]
        assert listener.settled == ["a"]

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_a_handler_that_cannot_be_cancelled_is_reported(
        self, concurrency: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A drain gives up on a handler in the end, says so, and never settles its message."""
        released = asyncio.Event()

        async def deaf(message: Message) -> None:
            while not released.is_set():
                try:
                    await released.wait()
                except asyncio.CancelledError:
                    continue

        listener = Listener(deaf, concurrency=concurrency)
        listener.submit("a", "b", key="same")
        await turns()
        assert await listener.drain(0.0) == ["a", "b"]
        assert now() == 10.0
        assert "listener listener: a handler ignores its cancellation" in caplog.messages
        released.set()
        await turns()
        assert listener.settled == []
        assert workers() == []

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_drain_cuts_a_pause_short(self, concurrency: int) -> None:
        """A message between two attempts comes back at once, and its pause leaves no timer."""

        async def fails(message: Message) -> None:
            raise ValueError(message)

        listener = Listener(fails, concurrency=concurrency, retry_delay=30.0)
        listener.submit("a", "b", key="same")
        await asyncio.sleep(1)
        assert await listener.drain(10.0) == ["a", "b"]
        assert now() == 1.0
        assert workers() == []
        assert timers() == []
        await asyncio.sleep(100)
        assert listener.settled == []

    @pytest.mark.parametrize("retry_delay", [0.0, 10.0])
    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_what_fails_while_closing_is_not_tried_again(
        self, concurrency: int, retry_delay: float
    ) -> None:
        """An attempt that fails after the lanes were closed comes back and leaves no timer."""
        gate = asyncio.Event()
        calls: list[bytes] = []

        async def fails(message: Message) -> None:
            calls.append(message.value)
            await gate.wait()
            raise ValueError(message)

        listener = Listener(fails, concurrency=concurrency, retry_delay=retry_delay)
        listener.submit("a")
        await turns()
        draining = asyncio.create_task(listener.drain())
        await turns()
        gate.set()
        assert await draining == ["a"]
        assert now() == 0.0
        assert timers() == []
        await asyncio.sleep(100)
        assert listener.settled == []
        assert calls == [b"a"]

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_closing_at_the_end_of_a_pause(self, concurrency: int) -> None:
        """Lanes that are closed in the moment in which a pause ends begin no attempt."""
        handler, calls = failing(ValueError())
        listener = Listener(handler, concurrency=concurrency, retry_delay=10.0)
        listener.submit("a")
        await turns()
        asyncio.get_running_loop().call_at(10.0, listener.lanes.close)
        await asyncio.sleep(20)
        assert await listener.drain() == ["a"]
        assert len(calls) == 1

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_drain_without_running_handlers(self, concurrency: int) -> None:
        """A drain of idle lanes returns at once; what is submitted afterwards is handed back."""
        script = Script()
        listener = Listener(script, concurrency=concurrency)
        assert await listener.drain() == []
        listener.submit("a", "b")
        await asyncio.sleep(1)
        assert script.begun == []
        assert await listener.drain() == ["a", "b"]

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_drain_of_idle_workers(self, concurrency: int) -> None:
        """Workers that wait for messages leave when the lanes are drained."""
        listener = Listener(Script(), concurrency=concurrency)
        listener.submit("a")
        await turns()
        assert len(workers()) == 1
        assert await listener.drain() == []
        assert workers() == []

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_a_worker_that_has_not_begun_begins_nothing(self, concurrency: int) -> None:
        """Lanes that are closed right after a submit begin nothing of it."""
        script = Script()
        listener = Listener(script, concurrency=concurrency)
        listener.submit("a")
        assert await listener.drain() == ["a"]
        assert script.begun == []

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_a_handler_that_drains_its_own_lanes(self, concurrency: int) -> None:
        """A handler's own drain does not wait for it: its message comes back, is never settled."""
        back: list[str] = []

        async def drains(message: Message) -> None:
            if message.value == b"b":
                back.extend(await listener.drain(100.0))

        listener = Listener(drains, concurrency=concurrency)
        listener.submit("a", "b", "c", key="same")
        await turns()
        assert back == ["b", "c"]
        assert listener.settled == ["a"]
        assert now() == 0.0
        assert workers() == []

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_a_drain_on_behalf_of_a_handler(self, concurrency: int) -> None:
        """A drain in a task of its own does not wait for the handler that it acts for."""
        back: list[str] = []

        async def drains(message: Message) -> None:
            caller = asyncio.current_task()
            back.extend(await asyncio.create_task(listener.drain(100.0, caller=caller)))

        listener = Listener(drains, concurrency=concurrency)
        listener.submit("a")
        await turns()
        assert (back, listener.settled, now()) == (["a"], [], 0.0)

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_a_drain_that_was_cancelled_can_be_repeated(self, concurrency: int) -> None:
        """A second drain finishes what a cancelled one has begun."""
        script = Script("a")
        listener = Listener(script, concurrency=concurrency)
        listener.submit("a", "b", key="same")
        await turns()
        first = asyncio.create_task(listener.drain())
        await turns()
        first.cancel()
        await turns()
        second = asyncio.create_task(listener.drain())
        await turns()
        script.let("a")
        assert await second == ["b"]
        assert first.cancelled()
