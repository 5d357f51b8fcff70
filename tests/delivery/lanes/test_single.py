"""One lane for everything, and its guests."""

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
