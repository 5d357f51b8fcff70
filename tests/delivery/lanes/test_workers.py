"""The tasks that run handlers, and handlers that end them."""

from __future__ import annotations

import asyncio
import logging

import pytest

from pyfly_messaging.delivery.lanes import Batch
from pyfly_messaging.message import Message
from tests.delivery.clock import VirtualLoop, on_virtual_time, turns
from tests.delivery.lanes.samples import Listener, Script, now, workers
from tests.delivery.samples import message


class TestWorkers:
    """A worker that was cancelled is replaced, and no message pays for it."""

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_a_handler_that_cancels_itself_has_failed(self, concurrency: int) -> None:
        """Cancelling the task that runs a handler is a failed attempt; another task goes on."""
        calls: list[float] = []

        async def cancels_itself(message: Message) -> None:
            calls.append(now())
            if len(calls) == 1:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await asyncio.sleep(100)

        listener = Listener(cancels_itself, concurrency=concurrency, retry_delay=1.0)
        listener.submit("a")
        await asyncio.sleep(10)
        assert calls == [0.0, pytest.approx(1.05)]
        assert listener.settled == ["a"]
        assert await listener.drain() == []

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_a_handler_that_always_cancels_itself_is_spent(self, concurrency: int) -> None:
        """Cancelling itself again and again ends, after the retries, at the dead letters."""

        async def cancels_itself(message: Message) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(100)

        listener = Listener(cancels_itself, concurrency=concurrency, retries=2)
        listener.submit("a")
        await asyncio.sleep(10)
        (letter,) = listener.graveyard.letters
        assert letter.headers["x-pyfly-attempts"] == "3"
        assert letter.headers["x-pyfly-exception"] == "asyncio.exceptions.CancelledError"
        assert listener.settled == ["a"]
        assert await listener.drain() == []

    @pytest.mark.parametrize("concurrency", [1, 3])
    @on_virtual_time
    async def test_what_comes_while_a_worker_is_replaced(self, concurrency: int) -> None:
        """The worker that replaces a cancelled one is not one too many."""
        script = Script(*"bcdefgh")

        async def handler(message: Message) -> None:
            if message.value == b"a" and "a" not in script.begun:
                script.begun.append("a")
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await asyncio.sleep(100)
            await script(message)

        listener = Listener(handler, concurrency=concurrency, retry_delay=0.0)
        listener.submit("a")
        await turns()
        assert workers() == []
        listener.submit(*"bcd")
        await asyncio.sleep(1)
        listener.submit(*"efgh")
        await asyncio.sleep(1)
        assert script.running == concurrency
        script.let(*"bcdefgh")
        await asyncio.sleep(1)
        assert script.at_once == concurrency
        assert sorted(listener.settled) == list("abcdefgh")
        assert len(script.begun) == 9
        assert await listener.drain() == []

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_an_idle_worker_that_is_cancelled_is_not_missed(self, concurrency: int) -> None:
        """A message that comes after an idle worker was cancelled is handled all the same."""
        listener = Listener(Script(), concurrency=concurrency)
        listener.submit("a")
        await asyncio.sleep(1)
        workers()[0].cancel()
        await asyncio.sleep(1)
        for value in ("b", "c"):
            listener.submit(value)
            await asyncio.sleep(1)
            assert listener.settled[-1] == value
        assert await listener.drain() == []

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_a_worker_that_is_woken_and_cancelled(self, concurrency: int) -> None:
        """A message is handled although the worker that was woken for it is cancelled."""
        listener = Listener(Script(), concurrency=concurrency)
        listener.submit("a")
        await turns()
        (worker,) = workers()
        listener.submit("b")
        worker.cancel()
        await asyncio.sleep(1)
        assert listener.settled == ["a", "b"]
        assert await listener.drain() == []

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_a_worker_that_is_cancelled_and_woken(self, concurrency: int) -> None:
        """A message is handled although nobody can be woken who is just being cancelled."""
        listener = Listener(Script(), concurrency=concurrency)
        listener.submit("a")
        await turns()
        (worker,) = workers()
        worker.cancel()
        listener.submit("b")
        await asyncio.sleep(1)
        assert listener.settled == ["a", "b"]
        assert await listener.drain() == []

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_a_cancellation_left_behind_is_not_charged_to_others(
        self, concurrency: int
    ) -> None:
        """A handler that cancels its task and returns has succeeded, and the next one is spared."""
        calls: list[bytes] = []

        async def handler(message: Message) -> None:
            calls.append(message.value)
            if message.value == b"a":
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            else:
                await asyncio.sleep(0)

        listener = Listener(handler, concurrency=concurrency)
        listener.submit("a", "b", key="same")
        await asyncio.sleep(1)
        assert calls == [b"a", b"b"]
        assert listener.settled == ["a", "b"]
        assert await listener.drain() == []

    @pytest.mark.parametrize("retry_delay", [0.0, 5.0])
    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_a_cancellation_left_behind_by_a_failure(
        self, concurrency: int, retry_delay: float
    ) -> None:
        """A handler that cancels its task and raises has failed once, not twice."""
        calls: list[float] = []

        async def handler(message: Message) -> None:
            calls.append(now())
            await asyncio.sleep(0)
            if len(calls) == 1:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                raise ValueError(message)

        listener = Listener(handler, concurrency=concurrency, retries=1, retry_delay=retry_delay)
        listener.submit("a")
        await asyncio.sleep(10)
        assert len(calls) == 2
        assert listener.settled == ["a"]
        assert listener.graveyard.letters == []
        assert await listener.drain() == []

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_an_error_of_the_adapter_ends_no_listener(
        self, concurrency: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An adapter whose `settle` raises is logged, and the message is tried again."""
        settled: list[str] = []
        refusals = [RuntimeError("no ledger")]

        def settle(token: str) -> None:
            if refusals:
                raise refusals.pop()
            settled.append(token)

        listener = Listener(Script(), concurrency=concurrency, retry_delay=0.0)
        listener.lanes.submit(Batch(listener.route, [message(b"a")], ["a"], settle))
        await asyncio.sleep(1)
        assert settled == ["a"]
        assert caplog.messages[0] == (
            "listener listener: its worker failed: RuntimeError: no ledger"
        )
        assert [record.exc_info for record in caplog.records] == [None] * 2
        assert await listener.drain() == []

    @pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
    @pytest.mark.parametrize("concurrency", [1, 2])
    def test_an_exit_leaves_the_event_loop(
        self, error: type[BaseException], concurrency: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What ends the process is not caught; if the loop goes on, it was a failed attempt."""
        caplog.set_level(logging.CRITICAL)
        errors = [error("enough")]
        loop = VirtualLoop()

        async def exits(message: Message) -> None:
            if errors:
                raise errors.pop()

        async def begin() -> Listener:
            return Listener(exits, concurrency=concurrency, retry_delay=5.0)

        listener = loop.run_until_complete(begin())
        loop.call_soon(listener.submit, "a")
        with pytest.raises(error, match="enough"):
            loop.run_until_complete(asyncio.sleep(1))
        assert listener.settled == []
        loop.run_until_complete(asyncio.sleep(10))
        assert listener.settled == ["a"]
        assert loop.run_until_complete(listener.drain()) == []
        loop.close()
