"""One lane for everything."""

from __future__ import annotations

import asyncio

import pytest

from pyfly_messaging.delivery.lanes import SingleLane
from pyfly_messaging.delivery.settlement import Retry
from pyfly_messaging.message import Message
from tests.delivery.clock import on_virtual_time, turns
from tests.delivery.lanes.samples import Listener, Script, now, workers


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


class TestFirst:
    """A message that was begun outside of the workers."""

    def listener(self, script: Script) -> tuple[Listener, SingleLane]:
        listener = Listener(script)
        lane = listener.lanes
        assert isinstance(lane, SingleLane)
        return listener, lane

    @on_virtual_time
    async def test_it_goes_on_before_all_others(self) -> None:
        """A message that is put first comes before those that have been submitted."""
        listener, lane = self.listener(Script())
        lane.in_flight = 1
        listener.submit("b")
        lane.put_first(listener.batch("a"), None)
        assert lane.in_flight == 2
        await turns()
        assert (listener.settled, lane.in_flight) == (["a", "b"], 0)
        assert await listener.drain() == []

    @on_virtual_time
    async def test_it_goes_on_with_its_retry(self) -> None:
        """A message is put first together with the step that comes next, and its pause."""
        made: list[float] = []

        class Step:
            delay = 3.0

            async def __call__(self) -> Retry | None:
                made.append(now())
                return None

            async def failed(self, error: BaseException) -> Retry | None:
                raise AssertionError(error)

        script = Script()
        listener, lane = self.listener(script)
        lane.in_flight = 1
        lane.put_first(listener.batch("a"), Step())
        await asyncio.sleep(10)
        assert (made, script.begun, listener.settled) == ([3.0], [], ["a"])
        assert await listener.drain() == []

    @on_virtual_time
    async def test_it_is_settled_outside(self) -> None:
        """What was put first can be settled from outside, but not after it was handed back."""
        listener, lane = self.listener(Script())
        lane.in_flight = 1
        lane.put_first(listener.batch("a"), None)
        lane.settle_first()
        assert (listener.settled, lane.in_flight) == (["a"], 0)
        lane.in_flight = 1
        lane.put_first(listener.batch("b"), None)
        assert await listener.drain() == ["b"]
        lane.settle_first()
        assert listener.settled == ["a"]
