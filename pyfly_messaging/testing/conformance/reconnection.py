"""Cases of point 11: after an outage every listener consumes again, and health tells the truth."""
# ruff: noqa: S101 - pytest explains an assertion that fails

from __future__ import annotations

import asyncio
import contextlib

from pyfly_messaging.errors import PublishError
from pyfly_messaging.ports import MessageBrokerPort, ReportsHealth
from pyfly_messaging.testing.conformance.case import case
from pyfly_messaging.testing.conformance.probe import Probe
from pyfly_messaging.testing.conformance.stage import Stage

_PAUSE_S = 0.05


class ReconnectionCases(Stage):
    """11 Reconnection."""

    @case("reconnects", deadlines=6)
    async def test_every_listener_consumes_again_after_an_outage(self) -> None:
        """After an outage every listener consumes again, with a group and without."""
        broker, topic, other = self.broker(), self.name(), self.name()
        first, alone, second = self.probe(), self.probe(), self.probe()
        await broker.subscribe(topic, first, self.name("group"))
        await broker.subscribe(topic, alone)
        await broker.subscribe(other, second, self.name("group"))
        await self.start(broker)
        for where in (topic, other):
            await broker.publish(where, b"before", key=b"key")
        for probe in (first, alone, second):
            await probe.saw(b"before")
        await self.break_connection()
        await asyncio.sleep(_PAUSE_S)
        await self.restore()
        await self.within(_until_seen(broker, topic, first, alone), "the listeners of a topic")
        await self.within(_until_seen(broker, other, second), "the listener of another topic")

    @case("reconnects", "health", deadlines=6)
    async def test_health_during_an_outage(self) -> None:
        """During an outage a broker is started and not healthy; afterwards it is healthy again."""
        broker, _, _ = await self.listening()
        assert isinstance(broker, ReportsHealth), "the broker has no health"
        await self.break_connection()
        await self.within(_until_healthy(broker, healthy=False), "health to notice the outage")
        assert broker.health().started
        await self.restore()
        await self.within(_until_healthy(broker, healthy=True), "health to notice its end")


async def _until_seen(broker: MessageBrokerPort, topic: str, *probes: Probe) -> None:
    """Publish until each handler has seen one of the messages; a publish may still fail."""
    before = [len(probe.done) for probe in probes]
    while any(len(probe.done) == count for probe, count in zip(probes, before, strict=True)):
        with contextlib.suppress(PublishError):
            await broker.publish(topic, b"after", key=b"key")
        await asyncio.sleep(_PAUSE_S)


async def _until_healthy(broker: ReportsHealth, *, healthy: bool) -> None:
    while broker.health().healthy is not healthy:
        await asyncio.sleep(_PAUSE_S)
