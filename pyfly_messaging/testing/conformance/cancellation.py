"""Cases of points 1 and 8 to 10: a call that is cancelled at any moment leaves nothing behind.

A cancelled call raises `asyncio.CancelledError`, or it had its whole effect and returns.
"""
# ruff: noqa: S101 - pytest explains an assertion that fails

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from typing import Any, TypeAlias

import pytest

from pyfly_messaging.errors import NotStartedError
from pyfly_messaging.message import Message
from pyfly_messaging.ports import MessageBrokerPort, PublishesBatches, ReportsHealth
from pyfly_messaging.testing.conformance.case import case
from pyfly_messaging.testing.conformance.compare import expect
from pyfly_messaging.testing.conformance.growth import Growth
from pyfly_messaging.testing.conformance.leftovers import Leftovers
from pyfly_messaging.testing.conformance.moments import Moment, moments
from pyfly_messaging.testing.conformance.probe import Probe
from pyfly_messaging.testing.conformance.stage import Stage
from pyfly_messaging.testing.conformance.traffic import Traffic

_SEED = 20_260
_LONGEST_S = 1.0  # a call that takes longer is cancelled within this time
_KEYS = [b"%d" % number for number in range(12)]

Place: TypeAlias = tuple[str, Probe, str | None]
"""A topic, the handler that listens there, and its group."""


class CancellationCases(Stage):
    """Cancellation."""

    @case(deadlines=8)
    async def test_cancelled_subscribe_leaves_nothing(self) -> None:
        """A subscribe that is cancelled on a running broker leaves nothing behind, and can be
        repeated.
        """
        await self._cancel_subscribes(24)

    @case(deadlines=8)
    async def test_subscribe_cancelled_twice(self) -> None:
        """A subscribe that is cancelled again, while it ends because of the first cancellation,
        leaves nothing behind either.
        """
        await self._cancel_subscribes(12, twice=True)

    async def _cancel_subscribes(self, count: int, *, twice: bool = False) -> None:
        __tracebackhide__ = True
        before, growth = Leftovers(), Growth()
        broker, topic, other = await self.listening()
        await broker.publish(topic, b"first", key=b"key")
        took = await _seconds(broker.subscribe(*self._place(self.name("group"))))
        places = [self._place(self.name("group")), self._place(None)]
        await growth.measure()
        for moment in moments(_SEED, took, count, twice=twice):
            which = moment.number // 2 % 2
            with moment.named():
                listeners = _listeners(broker)
                call = broker.subscribe(*places[which])
                if await self._is_cancelled(call, "subscribe()", moment):
                    assert _listeners(broker) == listeners
                    await growth.gone(self.deadline)
                else:
                    await self._listens(broker, places[which])
                    places[which] = self._place(places[which][2])
                    await growth.measure()
        for place in places:
            await broker.subscribe(*place)
            await self._listens(broker, place)
        await broker.publish(topic, b"last", key=b"key")
        await other.handled(2)
        expect(other.values, (b"first", b"last"))
        await self.stop(broker)
        await before.gone(self.deadline)

    @case(deadlines=8)
    async def test_cancelled_subscribe_hurts_no_other(self) -> None:
        """A subscribe that is cancelled does not disturb the listeners that are there: each gets
        every message once, and those of other groups go on running.
        """
        broker, topic, other, group = self.broker(), self.name(), self.name(), self.name("group")
        sharing = [self.probe()]  # with those that join its group
        others = [self.probe() for _ in range(3)]
        for at, probe, place in (
            (topic, sharing[0], group),
            (topic, others[0], self.name("group")),
            (topic, others[1], None),
            (other, others[2], group),
        ):
            await broker.subscribe(at, probe, place)
        await self.start(broker)
        took = await _seconds(broker.subscribe(*self._place(group)))
        async with Traffic(broker, (topic, other)) as traffic:
            for moment in moments(_SEED, took, 40):
                joining = self.probe()
                sharing.append(joining)
                with moment.named():
                    await asyncio.gather(
                        self._is_cancelled(
                            broker.subscribe(topic, joining, group), "subscribe()", moment
                        ),
                        self._is_cancelled(
                            broker.subscribe(*self._place(group)), "subscribe()", moment
                        ),
                    )
                    elsewhere = [each for each in _listeners(broker) if each[1] != group]
                    assert {state for _, _, state in elsewhere} <= {"running"}
        await _heard(sharing, traffic.confirmed[topic], self.deadline)
        await _heard(others[:1], traffic.confirmed[topic], self.deadline)
        await _heard(others[1:2], traffic.confirmed[topic], self.deadline)
        await _heard(others[2:], traffic.confirmed[other], self.deadline)

    @case(deadlines=8)
    async def test_cancelled_start_leaves_nothing(self) -> None:
        """A start that is cancelled leaves nothing behind, and the next one works."""
        await self._cancel_starts(24)

    @case(deadlines=8)
    async def test_start_cancelled_twice(self) -> None:
        """A start that is cancelled again, while it ends because of the first cancellation, leaves
        nothing behind either.
        """
        await self._cancel_starts(12, twice=True)

    async def _cancel_starts(self, count: int, *, twice: bool = False) -> None:
        __tracebackhide__ = True
        broker = self.broker()
        places = [self._place(self.name("group")), self._place(None)]
        for place in places:
            await broker.subscribe(*place)
        before = Leftovers()
        took = await _seconds(self.start(broker))
        await self.stop(broker)
        for moment in moments(_SEED, took, count, twice=twice):
            with moment.named():
                if await self._is_cancelled(broker.start(), "start()", moment):
                    assert "running" not in {state for _, _, state in _listeners(broker)}
                    with pytest.raises(NotStartedError):
                        await broker.publish(places[0][0], b"too early")
                    await before.gone(self.deadline)
                else:
                    await self._listens(broker, places[0])
                if moment.number % 6 == 5:
                    await self.start(broker)
                    for place in places:
                        await self._listens(broker, place)
                await self.stop(broker)
                await before.gone(self.deadline)

    @case(deadlines=8)
    async def test_cancelled_stop_leaves_nothing(self) -> None:
        """A stop that is cancelled does not wait for handlers any longer, and leaves nothing
        behind. Another stop has nothing to do, and a start works.
        """
        await self._cancel_stops(24)

    @case(deadlines=8)
    async def test_stop_cancelled_twice(self) -> None:
        """A stop that is cancelled again, while it ends because of the first cancellation, leaves
        nothing behind either.
        """
        await self._cancel_stops(12, twice=True)

    async def _cancel_stops(self, count: int, *, twice: bool = False) -> None:
        __tracebackhide__ = True
        before, gate = Leftovers(), self.gate()
        broker, topic, probe = await self.listening(lambda _: gate.wait())
        await broker.subscribe(*self._place(None))
        took = await _seconds(self.stop(broker))
        for moment in moments(_SEED, took, count, twice=twice):
            gate.clear() if moment.number // 2 % 2 else gate.set()
            with moment.named():
                began = len(probe.called)  # what was cut short comes again
                await self.start(broker)
                await self.hand_over(broker, topic, b"%d" % moment.number)
                await probe.began(began + 1)
                await self._is_cancelled(broker.stop(), "stop()", moment, self.deadline / 2)
                await self.within(broker.stop(), "another stop() to return", self.deadline / 2)
                await self.within(_ended(self._publishes), "the publishes to end")
                await before.gone(self.deadline)
                assert (probe.running, _running(broker)) == (0, set())
                with pytest.raises(NotStartedError):
                    await broker.publish(topic, b"too late")
        gate.set()
        await self.start(broker)
        await self.hand_over(broker, topic, b"last")
        await probe.saw(b"last")

    @case("redelivers", deadlines=8)
    async def test_cancelled_stop_loses_nothing(self) -> None:
        """What is not settled when a stop is cancelled comes again after the next start."""
        sent: list[bytes] = []
        broker, topic, probe = await self.listening(lambda _: asyncio.sleep(0.001))
        await self.stop(broker)
        for moment in moments(_SEED, 0.02, 12):
            values = [b"%d.%d" % (moment.number, number) for number in range(10)]
            sent += values
            with moment.named():
                await self.start(broker)
                await self.hand_over(broker, topic, *values)
                await self._is_cancelled(broker.stop(), "stop()", moment)
        await self.stop(broker)
        await self.start(broker)
        await probe.saw_all(sent)

    @case(deadlines=8)
    async def test_cancelled_publish_leaves_nothing(self) -> None:
        """A publish that is cancelled, of one message or of many, leaves nothing behind; those that
        follow arrive, and the listeners go on running.
        """
        growth = Growth()
        broker, topic, probe = await self.listening(lambda _: asyncio.sleep(0))
        took = await _seconds(self._publish(broker, topic, b"first", many=True))
        await growth.measure()
        for moment in moments(_SEED, took, 40):
            value = b"%d" % moment.number
            call = self._publish(broker, topic, b"cancelled " + value, many=moment.number % 4 > 1)
            with moment.named():
                await self._is_cancelled(call, "publish()", moment)
                await broker.publish(topic, value, key=value)
                await growth.gone(self.deadline)
                assert _running(broker) <= {topic}
        kept = [b"%d" % number for number in range(40)]
        await probe.saw_all(kept)
        expect((value for value in probe.values if value.isdigit()), kept)

    async def _publish(
        self, broker: MessageBrokerPort, topic: str, value: bytes, *, many: bool
    ) -> None:
        """Publish one message, or several where the broker takes batches."""
        if many and isinstance(broker, PublishesBatches):
            await broker.publish_many([Message(topic, value, key) for key in _KEYS])
        else:
            await broker.publish(topic, value, key=b"key")

    def _place(self, group: str | None) -> Place:
        return self.name(), self.probe(), group

    async def _listens(self, broker: MessageBrokerPort, place: Place) -> None:
        """See that a listener gets every message, whatever its key, once."""
        __tracebackhide__ = True
        topic, probe, _ = place
        count = len(probe.done)
        for key in _KEYS:
            await broker.publish(topic, key, key=key)
        await probe.handled(count + len(_KEYS))
        expect(probe.values[count:], _KEYS)

    async def _is_cancelled(
        self,
        call: Coroutine[Any, Any, None],
        what: str,
        moment: Moment,
        seconds: float | None = None,
    ) -> bool:
        """Cancel a call; tell whether it was cancelled, False if it returned as always."""
        __tracebackhide__ = True
        task = asyncio.create_task(call)
        await moment.cancel(task)
        await self.within(asyncio.wait({task}), f"the cancelled {what} to end", seconds)
        if task.cancelled():
            return True
        if (error := task.exception()) is not None:
            raise AssertionError(f"{what} raised {error!r}") from error
        return False


async def _seconds(call: Coroutine[Any, Any, None]) -> float:
    """Return how long a call takes, within bounds."""
    began = time.monotonic()
    await call
    return min(time.monotonic() - began, _LONGEST_S)


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


async def _heard(probes: list[Probe], wanted: list[bytes], deadline: float) -> None:
    """See that handlers of one group got every message, once."""
    __tracebackhide__ = True
    with contextlib.suppress(TimeoutError):  # what is missing is told below
        async with asyncio.timeout(deadline):
            while sum(len(probe.done) for probe in probes) < len(wanted):
                await asyncio.sleep(0.01)
    expect((value for probe in probes for value in probe.values), wanted)


def _listeners(broker: MessageBrokerPort) -> list[tuple[str, str | None, str]]:
    """Return topic, group and state of each listener; nothing where the broker cannot tell."""
    if not isinstance(broker, ReportsHealth):
        return []
    return [(each.topic, each.group, each.state) for each in broker.health().consumers]


def _running(broker: MessageBrokerPort) -> set[str]:
    """Return the topics whose listeners run."""
    return {topic for topic, _, state in _listeners(broker) if state == "running"}
