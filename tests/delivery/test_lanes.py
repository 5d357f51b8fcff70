"""The order of messages, how many are handled at once, and the drain."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable
from typing import Any

import pytest

from pyfly_messaging.delivery.lanes import Batch, Interrupted, KeyedLanes, SingleLane, lanes_for
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.delivery.settlement import Retry
from pyfly_messaging.message import Message
from pyfly_messaging.ports import MessageHandler
from tests.delivery.clock import VirtualLoop, on_virtual_time, turns
from tests.delivery.samples import Graveyard, failing, message, settlement


class Listener:
    """Lanes in front of a handler, and what became of the messages."""

    def __init__(
        self,
        handler: MessageHandler,
        *,
        concurrency: int = 1,
        on_idle: Callable[[], None] | None = None,
        **policy: Any,
    ) -> None:
        self.settled: list[str] = []
        self.graveyard = Graveyard()
        self.route = Route("orders", "group")
        self.route.add(settlement(handler, self.graveyard.bury, **policy))
        self.lanes = lanes_for("listener", concurrency, on_idle)

    def batch(self, *values: str, key: str | None = None) -> Batch[str]:
        """Return a batch; each token is the message's value."""
        coded = None if key is None else key.encode()
        messages = [message(value.encode(), key=coded) for value in values]
        return Batch(self.route, messages, values, self.settled.append)

    def submit(self, *values: str, key: str | None = None) -> None:
        """Submit a batch."""
        self.lanes.submit(self.batch(*values, key=key))

    async def drain(
        self, timeout: float | None = None, *, caller: asyncio.Task[Any] | None = None
    ) -> list[str]:
        """Drain; return the tokens that were handed back."""
        back = await self.lanes.drain(timeout, caller=caller)
        assert [message.value.decode() for message, _ in back] == [token for _, token in back]
        return [token for _, token in back]


class Script:
    """A handler that writes down what it does, and waits for permission where it is told to."""

    def __init__(self, *slow: str) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.running = 0
        self.at_once = 0
        self.gates = {value: asyncio.Event() for value in slow}

    async def __call__(self, message: Message) -> None:
        value = message.value.decode()
        self.begun.append(value)
        self.running += 1
        self.at_once = max(self.at_once, self.running)
        try:
            if value in self.gates:
                await self.gates[value].wait()
        finally:
            self.running -= 1
        self.ended.append(value)

    def let(self, *values: str) -> None:
        """Let handlers finish."""
        for value in values:
            self.gates[value].set()


def now() -> float:
    return asyncio.get_running_loop().time()


def timers() -> list[asyncio.TimerHandle]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.timers()


def workers() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "pyfly listener listener"]


class TestBothKinds:
    """What holds for any concurrency."""

    @pytest.mark.parametrize("concurrency", [1, 2, 4])
    @on_virtual_time
    async def test_every_message_is_settled_and_counted(self, concurrency: int) -> None:
        """Each message leaves flight when it is settled, and the last one is announced."""
        idle: list[int] = []
        script = Script("b")
        listener = Listener(
            script, concurrency=concurrency, on_idle=lambda: idle.append(listener.lanes.in_flight)
        )
        listener.submit("a", "b", "c")
        assert listener.lanes.in_flight == 3
        await turns()
        assert listener.lanes.in_flight == (2 if concurrency == 1 else 1)
        assert idle == []
        script.let("b")
        await turns()
        assert listener.lanes.in_flight == 0
        assert sorted(listener.settled) == ["a", "b", "c"]
        assert idle == [0]
        assert await listener.drain() == []

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_an_empty_batch_is_nothing(self, concurrency: int) -> None:
        """A batch without messages does not disturb those that follow."""
        listener = Listener(Script(), concurrency=concurrency)
        listener.submit()
        listener.submit("a")
        await turns()
        assert listener.settled == ["a"]
        assert await listener.drain() == []

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_room_comes_with_the_message_that_makes_it(self, concurrency: int) -> None:
        """`room` returns as soon as few enough are in flight, also in the middle of a batch."""
        script = Script("b", "c")
        listener = Listener(script, concurrency=concurrency)
        listener.submit("b", "c", key="same")
        waiting = [asyncio.create_task(listener.lanes.room(below)) for below in (1, 2)]
        await turns()
        assert [task.done() for task in waiting] == [False, False]
        script.let("b")
        await turns()
        assert [task.done() for task in waiting] == [False, True]
        script.let("c")
        await turns()
        assert [await task for task in waiting] == [True, True]
        assert await listener.drain() == []

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_room_has_a_time_limit(self, concurrency: int) -> None:
        """`room` answers False after its timeout, and True at once when there is room."""
        script = Script("a")
        listener = Listener(script, concurrency=concurrency)
        listener.submit("a")
        begun = now()
        assert await listener.lanes.room(1, 5.0) is False
        assert now() == begun + 5.0
        assert await listener.lanes.room(2, 5.0) is True
        assert now() == begun + 5.0
        script.let("a")
        assert await listener.drain() == []

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_closing_ends_the_wait_for_room(self, concurrency: int) -> None:
        """Nobody waits for room in lanes that are closed."""
        script = Script("a")
        listener = Listener(script, concurrency=concurrency)
        listener.submit("a")
        waiting = asyncio.create_task(listener.lanes.room(1))
        await turns()
        listener.lanes.close()
        assert await waiting is True
        script.let("a")
        assert await listener.drain() == []

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
    async def test_handlers_see_the_context_of_whoever_made_the_lanes(
        self, concurrency: int
    ) -> None:
        """Context variables of whoever submits first do not stay with a worker."""
        variable = contextvars.ContextVar("variable", default="unset")
        seen: list[str] = []

        async def handler(message: Message) -> None:
            seen.append(variable.get())

        variable.set("maker")
        listener = Listener(handler, concurrency=concurrency)
        variable.set("submitter")
        listener.submit("a")
        await turns()
        assert seen == ["maker"]
        assert variable.get() == "submitter"
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
        assert "listener listener: its worker failed" in caplog.messages
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


class TestSingleLane:
    """What holds with a concurrency of 1."""

    @on_virtual_time
    async def test_total_order(self) -> None:
        """Messages are handled one at a time, in the order in which they came."""
        script = Script("b", "c")
        listener = Listener(script)
        listener.submit("a", "b", key="x")
        listener.submit("c", key="y")
        await turns()
        assert script.begun == ["a", "b"]
        script.let("c")
        await turns()
        assert script.begun == ["a", "b"]
        script.let("b")
        await turns()
        assert listener.settled == ["a", "b", "c"]
        assert script.at_once == 1
        assert len(workers()) == 1
        assert await listener.drain() == []

    @on_virtual_time
    async def test_a_retry_holds_up_what_follows(self) -> None:
        """The next message is begun only when the one before it is settled, pauses included."""
        calls: list[tuple[str, float]] = []

        async def handler(message: Message) -> None:
            calls.append((message.value.decode(), now()))
            if message.value == b"a" and len(calls) < 3:
                raise ValueError("not yet")

        listener = Listener(handler, retry_delay=10.0, retry_multiplier=2.0)
        listener.submit("a", "b")
        await asyncio.sleep(100)
        assert calls == [("a", 0.0), ("a", 10.0), ("a", 30.0), ("b", 30.0)]
        assert await listener.drain() == []

    @on_virtual_time
    async def test_a_batch_goes_on_where_it_stood(self) -> None:
        """A batch whose worker was cancelled in the middle goes on with the message it was at."""
        calls: list[str] = []

        async def handler(message: Message) -> None:
            calls.append(message.value.decode())
            if calls == ["a", "b"]:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await asyncio.sleep(0)

        listener = Listener(handler, retry_delay=0.0)
        listener.submit("a", "b", "c")
        await asyncio.sleep(1)
        assert calls == ["a", "b", "b", "c"]
        assert listener.settled == ["a", "b", "c"]
        assert await listener.drain() == []

    @on_virtual_time
    async def test_a_pause_that_is_cancelled_is_no_attempt(self) -> None:
        """A worker that is cancelled between two attempts has not failed at anything."""
        calls: list[float] = []

        async def fails(message: Message) -> None:
            calls.append(now())
            raise ValueError(message)

        listener = Listener(fails, retries=1, retry_delay=10.0)
        listener.submit("a")
        await asyncio.sleep(1)
        (worker,) = workers()
        worker.cancel()
        await asyncio.sleep(100)
        assert calls == [0.0, pytest.approx(11.05)]
        assert listener.graveyard.letters[0].headers["x-pyfly-attempts"] == "2"
        assert listener.settled == ["a"]
        assert await listener.drain() == []


class Guest:
    """Somebody who visits a lane and waits there."""

    def __init__(self, lane: SingleLane) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self.left: asyncio.Future[None] = task.get_loop().create_future()
        self.interrupts: list[float] = []
        self.lane = lane

    def interrupt(self) -> None:
        self.interrupts.append(now())
        if len(self.interrupts) == 2:
            self.lane.leave()


class TestVisits:
    """A single lane in which somebody else runs a message."""

    def visited(self, listener: Listener) -> SingleLane:
        lane = listener.lanes
        assert isinstance(lane, SingleLane)
        lane.in_flight, lane.visited = 1, True
        return lane

    @on_virtual_time
    async def test_what_comes_waits_until_the_guest_leaves(self) -> None:
        """A visited lane begins nothing before it is given back."""
        script = Script()
        listener = Listener(script)
        listener.submit("a")
        await turns()
        lane = self.visited(listener)
        listener.submit("b")
        assert lane.in_flight == 2
        await asyncio.sleep(1)
        assert script.begun == ["a"]
        lane.leave()
        await turns()
        assert listener.settled == ["a", "b"]
        assert lane.in_flight == 0
        assert await listener.drain() == []

    @on_virtual_time
    async def test_a_worker_that_is_replaced_waits_too(self) -> None:
        """A worker that comes in place of a cancelled one does not disturb a visit."""
        script = Script()
        listener = Listener(script)
        listener.submit("a")
        await turns()
        lane = self.visited(listener)
        workers()[0].cancel()
        await turns()
        listener.submit("b")
        await asyncio.sleep(1)
        assert script.begun == ["a"]
        lane.leave()
        await turns()
        assert script.begun == ["a", "b"]
        assert await listener.drain() == []

    @on_virtual_time
    async def test_what_the_guest_does_not_settle_comes_first(self) -> None:
        """A message that a guest puts back goes on before what has come meanwhile."""
        script = Script()
        listener = Listener(script)
        lane = self.visited(listener)
        listener.submit("b")
        lane.put_back(listener.batch("a"), None)
        assert lane.in_flight == 3
        lane.leave()
        assert lane.in_flight == 2
        await turns()
        assert listener.settled == ["a", "b"]
        assert await listener.drain() == []

    @on_virtual_time
    async def test_what_the_guest_puts_back_goes_on_with_its_retry(self) -> None:
        """A message is put back together with the step that comes next, and its pause."""
        made: list[float] = []

        class Step:
            delay = 3.0

            async def __call__(self) -> Retry | None:
                made.append(now())
                return None

            async def failed(self, error: BaseException) -> Retry | None:
                raise AssertionError(error)

        script = Script()
        listener = Listener(script)
        lane = self.visited(listener)
        lane.put_back(listener.batch("a"), Step())
        lane.leave()
        await asyncio.sleep(10)
        assert made == [3.0]
        assert script.begun == []
        assert listener.settled == ["a"]
        assert await listener.drain() == []

    @on_virtual_time
    async def test_drain_waits_for_a_guest_and_interrupts_it(self) -> None:
        """A guest has until the deadline; then it is interrupted, each second again."""
        listener = Listener(Script())
        lane = self.visited(listener)
        lane.guest = guest = Guest(lane)
        assert await asyncio.create_task(listener.drain(5.0)) == []
        assert guest.interrupts == [5.0, 6.0]
        assert lane.guest is None

    @on_virtual_time
    async def test_drain_waits_no_longer_than_the_guest_stays(self) -> None:
        """A drain ends with the guest that leaves."""
        listener = Listener(Script())
        lane = self.visited(listener)
        lane.guest = guest = Guest(lane)
        draining = asyncio.create_task(listener.drain(5.0))
        await asyncio.sleep(2)
        lane.leave()
        assert await draining == []
        assert (now(), guest.interrupts) == (2.0, [])

    @on_virtual_time
    async def test_a_guest_that_drains_is_not_waited_for(self) -> None:
        """A guest can drain the lane that it visits."""
        listener = Listener(Script())
        lane = self.visited(listener)
        lane.guest = guest = Guest(lane)
        listener.submit("a")
        assert await listener.drain(5.0) == ["a"]
        assert (now(), guest.interrupts) == (0.0, [])
        lane.leave()
        await turns()
        assert listener.settled == []


class TestKeyedLanes:
    """What holds with a higher concurrency."""

    @on_virtual_time
    async def test_concurrency_bounds_what_runs(self) -> None:
        """Messages without a key run together, up to the concurrency, begun in order."""
        script = Script(*"abcde")
        listener = Listener(script, concurrency=3)
        listener.submit(*"abcde")
        await turns()
        assert script.begun == ["a", "b", "c"]
        script.let("b")
        await turns()
        assert script.begun == ["a", "b", "c", "d"]
        assert listener.settled == ["b"]
        script.let(*"acde")
        await turns()
        assert sorted(listener.settled) == list("abcde")
        assert script.at_once == 3
        assert await listener.drain() == []

    @on_virtual_time
    async def test_one_key_is_one_lane(self) -> None:
        """Messages that share a key are handled one after the other, beside other keys."""
        script = Script("a1", "b1")
        listener = Listener(script, concurrency=4)
        listener.submit("a1", "a2", key="a")
        listener.submit("b1", key="b")
        listener.submit("b2", key="b")
        listener.submit("none")
        await turns()
        assert script.begun == ["a1", "b1", "none"]
        script.let("b1")
        await turns()
        assert script.begun == ["a1", "b1", "none", "b2"]
        script.let("a1")
        await turns()
        assert listener.settled == ["none", "b1", "b2", "a1", "a2"]
        listener.submit("a3", key="a")
        await turns()
        assert listener.settled[-1] == "a3"
        assert await listener.drain() == []

    @on_virtual_time
    async def test_a_retry_occupies_no_place(self) -> None:
        """While a lane waits for its next attempt others run, and its own key stays in order."""
        calls: list[tuple[str, float]] = []

        async def handler(message: Message) -> None:
            calls.append((message.value.decode(), now()))
            if message.value == b"a" and len(calls) == 1:
                raise ValueError("not yet")
            await asyncio.sleep(1)

        listener = Listener(handler, concurrency=2, retry_delay=10.0)
        listener.submit("a", "a2", key="a")
        listener.submit("b", "c", "d")
        await asyncio.sleep(100)
        assert calls == [
            ("a", 0.0),
            ("b", 0.0),
            ("c", 0.0),
            ("d", 1.0),
            ("a", 10.0),
            ("a2", 11.0),
        ]
        assert await listener.drain() == []

    @on_virtual_time
    async def test_a_retry_without_a_pause_lets_others_go_first(self) -> None:
        """Without a pause too, a lane that has failed goes behind those that wait for a place."""
        calls: list[str] = []

        async def handler(message: Message) -> None:
            calls.append(message.value.decode())
            await asyncio.sleep(1)
            if message.value == b"a" and calls.count("a") == 1:
                raise ValueError("not yet")

        listener = Listener(handler, concurrency=2, retry_delay=0.0)
        listener.submit("a", "b", "c", "d")
        await asyncio.sleep(100)
        assert calls == ["a", "b", "c", "d", "a"]
        assert sorted(listener.settled) == list("abcd")
        assert await listener.drain() == []

    @on_virtual_time
    async def test_what_comes_back_is_in_the_order_of_arrival(self) -> None:
        """A drain hands back in the order of arrival, whatever was settled in between."""
        script = Script("a", "c")
        listener = Listener(script, concurrency=2)
        listener.submit("a", key="x")
        listener.submit("b", "c", key="y")
        listener.submit("d", key="x")
        await turns()
        assert await listener.drain(1.0) == ["a", "c", "d"]
        assert listener.settled == ["b"]


class TestInterrupted:
    """The step that follows an attempt which ended its task."""

    @on_virtual_time
    async def test_the_failure_is_counted_by_whom_it_happened_to(self) -> None:
        """The first attempt's failure goes to the route, a later one's to its own step."""
        graveyard = Graveyard()
        route = Route("orders", "group")
        route.add(settlement(Script(), graveyard.bury, retries=1, retry_delay=2.0))
        first = Interrupted(route, message(), None, GeneratorExit("first"))
        assert first.delay == 0.0
        retry = await first()
        assert retry is not None
        assert retry.delay == 2.0
        second = Interrupted(route, message(), retry, GeneratorExit("second"))
        assert await second() is None
        assert [str(error) for error in graveyard.errors] == ["second"]

    @on_virtual_time
    async def test_counting_can_be_interrupted_too(self) -> None:
        """What ends the task again while a failure is counted does not count as another one."""
        route = Route("orders", "group")
        route.add(settlement(Script()))
        step = Interrupted(route, message(), None, GeneratorExit("first"))
        assert await step.failed(GeneratorExit("again")) is step


@on_virtual_time
async def test_lanes_for_a_concurrency() -> None:
    """A concurrency of 1 is a single lane; more are lanes by key."""
    assert isinstance(lanes_for("listener", 1), SingleLane)
    assert isinstance(lanes_for("listener", 2), KeyedLanes)
