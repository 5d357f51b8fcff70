"""What holds for lanes of any concurrency."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from pyfly_messaging.delivery.lanes import KeyedLanes, SingleLane, lanes_for
from pyfly_messaging.message import Message
from tests.delivery.clock import on_virtual_time, turns
from tests.delivery.lanes.samples import Listener, Script, now


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


@on_virtual_time
async def test_lanes_for_a_concurrency() -> None:
    """A concurrency of 1 is a single lane; more are lanes by key."""
    assert isinstance(lanes_for("listener", 1), SingleLane)
    assert isinstance(lanes_for("listener", 2), KeyedLanes)
