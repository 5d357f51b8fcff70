"""Cases of point 7: a slow handler, and what waits for it."""
# ruff: noqa: S101 - pytest explains an assertion that fails

from __future__ import annotations

import asyncio

from pyfly_messaging.message import Message
from pyfly_messaging.ports import ReportsHealth
from pyfly_messaging.testing.conformance.case import case
from pyfly_messaging.testing.conformance.compare import expect
from pyfly_messaging.testing.conformance.stage import Stage


class BackpressureCases(Stage):
    """7 Backpressure."""

    @case("in_flight_limit", "health")
    async def test_messages_in_flight_are_bounded(self) -> None:
        """However many messages wait, a listener holds no more than its limit; it gets them all."""
        broker = self.broker()
        assert isinstance(broker, ReportsHealth)
        topic, gate, limit = self.name(), self.gate(), self.capabilities.in_flight_limit
        assert limit is not None
        held: list[int] = []

        async def note(message: Message) -> None:
            await gate.wait()
            (consumer,) = broker.health().consumers
            held.append(consumer.in_flight)

        probe = self.probe(note)
        await broker.subscribe(topic, probe, self.name("group"))
        await self.start(broker)
        count = 2 * limit + 20
        await asyncio.gather(
            *(self.hand_over(broker, topic, b"%d" % n, key=b"%d" % n) for n in range(count))
        )
        gate.set()
        await probe.handled(count)
        assert 1 < max(held) <= limit

    @case()
    async def test_slow_listener_gets_everything(self) -> None:
        """A listener that is slower than its publishers gets every message in the end, in order."""
        gate = self.gate()
        broker, topic, probe = await self.listening(lambda _: gate.wait())
        values = [b"%d" % number for number in range(300)]
        await self.hand_over(broker, topic, *values)
        await probe.began(1)
        gate.set()
        await probe.handled(300)
        expect(probe.values, values, order=True)

    @case()
    async def test_slow_topic_holds_up_no_other(self) -> None:
        """A topic whose handlers are all busy holds up no other topic, of the same group either."""
        broker, group, gate = self.broker(), self.name("group"), self.gate()
        slow_topic, topic = self.name("slow"), self.name("quick")
        slow, quick = self.probe(lambda _: gate.wait()), self.probe()
        await broker.subscribe(slow_topic, slow, group)
        await broker.subscribe(topic, quick, group)
        await self.start(broker)
        await self.hand_over(broker, slow_topic, *[b"%d" % number for number in range(10)])
        await slow.began(1)
        for number in range(10):
            await broker.publish(topic, b"%d" % number, key=b"key")
        await quick.handled(10)
        assert slow.done == []
