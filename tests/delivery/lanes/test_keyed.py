"""Lanes by key."""

from __future__ import annotations

import asyncio

from pyfly_messaging.message import Message
from tests.delivery.clock import on_virtual_time, turns
from tests.delivery.lanes.samples import Listener, Script, now


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
