"""Cases of point 10: a stop that comes at a bad moment."""
# ruff: noqa: S101 - pytest explains an assertion that fails

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

import pytest

from pyfly_messaging.errors import NotStartedError
from pyfly_messaging.message import Message
from pyfly_messaging.testing.conformance.case import case
from pyfly_messaging.testing.conformance.leftovers import Leftovers
from pyfly_messaging.testing.conformance.stage import QUICK, Stage, fail, turns

_STUCK = 12  # listeners whose handlers never end
_SHUTDOWN = 1.0  # seconds for all of them; one after the other they would take 12


Stop: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class StopAtWorkCases(Stage):
    """10 Stop at work."""

    @case("redelivers")
    async def test_message_spent_while_it_stops(self) -> None:
        """A message that is spent while the broker stops is dead-lettered or comes again."""
        gate = self.gate()

        async def fail_at_the_stop(message: Message) -> None:
            await gate.wait()
            if len(probe.called) == 1:
                await fail(message)

        broker, topic, probe, letters = await self.burying(
            fail_at_the_stop, policy=QUICK.replace(retries=0)
        )
        await self.hand_over(broker, topic, b"spent")
        await probe.began(1)
        stopping = asyncio.create_task(self.stop(broker))
        await turns()
        gate.set()
        await stopping
        await self.start(broker)
        arrived = asyncio.create_task(probe.handled())
        buried = asyncio.create_task(letters.handled())
        await asyncio.wait({arrived, buried}, return_when=asyncio.FIRST_COMPLETED)
        arrived.cancel()
        buried.cancel()
        await asyncio.gather(arrived, buried, return_exceptions=True)
        assert {*probe.values, *letters.values} == {b"spent"}, "the message is lost"

    @case()
    async def test_stuck_listeners_share_the_timeout(self) -> None:
        """However many listeners are stuck, stop takes one shutdown timeout for all of them."""
        broker, gate = self.broker(shutdown=_SHUTDOWN), self.gate()
        probes = {self.name(): self.probe(lambda _: gate.wait()) for _ in range(_STUCK)}
        for topic, probe in probes.items():
            await broker.subscribe(topic, probe, self.name("group"))
        await self.start(broker)
        for topic, probe in probes.items():
            await self.hand_over(broker, topic, b"endless")
            await probe.began(1)
        # Far more than one timeout, for a machine that is busy, and less than one for each.
        bound = 0.9 * _STUCK * _SHUTDOWN
        await self.within(broker.stop(), f"stop() of {_STUCK} stuck listeners", bound)
        found = [(probe.done, probe.cancelled, probe.running) for probe in probes.values()]
        assert found == [([], 1, 0)] * _STUCK

    @case()
    async def test_stop_beside_a_stuck_listener(self) -> None:
        """While one listener is stuck, another finishes what it handles, and begins no more."""
        stuck, gate = self.probe(lambda _: asyncio.Event().wait()), self.gate()
        quick = self.probe(lambda _: gate.wait())
        broker, first, second = self.broker(shutdown=_SHUTDOWN), self.name(), self.name()
        await broker.subscribe(first, stuck, self.name("group"))
        await broker.subscribe(second, quick, self.name("group"))
        await self.start(broker)
        await self.hand_over(broker, first, b"endless")
        await stuck.began(1)
        await self.hand_over(broker, second, b"1", b"2", b"3")
        await quick.began(1)
        stopping = asyncio.create_task(self.stop(broker))
        await turns()
        gate.set()
        await stopping
        found = [message.value for message in quick.called]
        assert (found, quick.values, quick.cancelled) == ([b"1"], [b"1"], 0)
        assert (stuck.values, stuck.cancelled) == ([], 1)

    @case()
    async def test_handler_that_stops_its_broker(self) -> None:
        """A handler may stop its own broker: that does not wait for it, and leaves nothing."""
        before = Leftovers()

        async def stop(message: Message) -> None:
            began = time.monotonic()
            await broker.stop()
            took.append(time.monotonic() - began)

        took: list[float] = []
        broker, topic, probe = await self.listening(stop)
        await broker.subscribe(self.name(), self.probe(), self.name("group"))
        await self.hand_over(broker, topic, b"the end")
        await probe.handled()
        with pytest.raises(NotStartedError):
            await broker.publish(topic, b"too late")
        await asyncio.gather(*self._publishes, return_exceptions=True)
        await before.gone(self.deadline)
        assert (probe.values, probe.cancelled) == ([b"the end"], 0)
        assert took[0] < self.deadline / 2, "stop() has waited for the handler that called it"

    @case()
    async def test_handler_that_stops_its_broker_in_another_task(self) -> None:
        """A handler may stop its own broker through other tasks: that does not wait for it."""

        async def in_a_group(stop: Stop) -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(stop())

        ways: list[Callable[[Stop], Awaitable[object]]] = [
            lambda stop: asyncio.create_task(stop()),
            lambda stop: asyncio.gather(stop()),
            lambda stop: asyncio.wait_for(stop(), 2 * self.deadline),
            in_a_group,
        ]
        for way in ways:
            await self._stop_inside(way)

    async def _stop_inside(self, way: Callable[[Stop], Awaitable[object]]) -> None:
        async def stop(message: Message) -> None:
            began = time.monotonic()
            await way(broker.stop)
            took.append(time.monotonic() - began)

        took: list[float] = []
        broker, topic, probe = await self.listening(stop)
        await self.hand_over(broker, topic, b"the end")
        await probe.handled()
        await asyncio.gather(*self._publishes, return_exceptions=True)
        assert (probe.values, probe.cancelled) == ([b"the end"], 0)
        assert took[0] < self.deadline / 2, "stop() has waited for the handler that called it"

    @case()
    async def test_handler_that_stops_a_broker_that_stops(self) -> None:
        """A handler's stop returns at once while another is under way, which waits for it."""

        async def stop(message: Message) -> None:
            await gate.wait()
            began = time.monotonic()
            await broker.stop()
            took.append(time.monotonic() - began)

        gate, took = self.gate(), list[float]()
        broker, topic, probe = await self.listening(stop)
        await self.hand_over(broker, topic, b"the end")
        await probe.began(1)
        stopping = asyncio.create_task(self.stop(broker))
        await turns()
        gate.set()
        await stopping
        assert (probe.values, probe.cancelled, probe.running) == ([b"the end"], 0, 0)
        assert took[0] < self.deadline / 2, "stop() has waited for the stop that waits for it"

    @case()
    async def test_handlers_that_stop_each_others_broker(self) -> None:
        """Handlers of two brokers that stop each other's broker do not wait for each other."""

        def stopping(other: int) -> Callable[[Message], Awaitable[None]]:
            async def stop(message: Message) -> None:
                await gate.wait()
                began = time.monotonic()
                await listening[other][0].stop()
                took.append(time.monotonic() - began)

            return stop

        gate, took = self.gate(), list[float]()
        listening = [await self.listening(stopping(1)), await self.listening(stopping(0))]
        for broker, topic, probe in listening:
            await self.hand_over(broker, topic, b"the end")
            await probe.began(1)
        gate.set()
        for _, _, probe in listening:
            await probe.handled()
            assert (probe.values, probe.cancelled) == ([b"the end"], 0)
        await asyncio.gather(*self._publishes, return_exceptions=True)
        assert max(took) < self.deadline / 2, "each stop() has waited for the other's handler"

    @case("redelivers")
    async def test_handler_that_stops_its_broker_and_fails(self) -> None:
        """A handler that fails after it has stopped its own broker gets its message again, and
        then those behind it.
        """

        async def stop_and_fail(message: Message) -> None:
            if len(probe.called) == 1:
                await gate.wait()
                await broker.stop()
                await fail(message)

        gate = self.gate()
        broker, topic, probe = await self.listening(stop_and_fail)
        await self.hand_over(broker, topic, b"1", b"behind")
        gate.set()
        await probe.until(lambda: len(probe.called) > probe.running, "the end of the attempt")
        await self.start(broker)
        await self.hand_over(broker, topic, b"2")
        await probe.saw(b"2")
        assert probe.values == [b"1", b"behind", b"2"]
