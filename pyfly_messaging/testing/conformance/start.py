"""Cases of point 8: start is all or nothing, and a message published right after it is seen."""
# ruff: noqa: S101 - pytest explains an assertion that fails

from __future__ import annotations

import asyncio

import pytest

from pyfly_messaging.errors import BrokerUnavailableError, NotStartedError
from pyfly_messaging.policy import Timeouts
from pyfly_messaging.ports import MessageBrokerPort
from pyfly_messaging.testing.conformance.case import case
from pyfly_messaging.testing.conformance.leftovers import Leftovers
from pyfly_messaging.testing.conformance.stage import QUICK, Stage, turns

_STARTUP = 0.5  # seconds for a start that cannot succeed
_SLACK = 2.0  # seconds that a busy machine may need to notice that they are over
_REFUSAL = "start() to give up"


class StartCases(Stage):
    """8 Start."""

    @case()
    async def test_broker_is_the_port(self) -> None:
        """An adapter is a ``MessageBrokerPort``, and can be made before an event loop runs."""
        broker = await asyncio.to_thread(self.broker)
        assert isinstance(broker, MessageBrokerPort)
        probe, topic = self.probe(), self.name()
        await broker.subscribe(topic, probe)
        await self.start(broker)
        await broker.publish(topic, b"message")
        await probe.handled()

    @case()
    async def test_message_right_after_start_is_seen(self) -> None:
        """What is published as soon as start has returned is seen, by 20 listeners of 20."""
        broker = self.broker()
        probes = {self.name(): self.probe() for _ in range(20)}
        for number, (topic, probe) in enumerate(probes.items()):
            await broker.subscribe(topic, probe, self.name("group") if number % 4 == 0 else None)
        await self.start(broker)
        await asyncio.gather(*(broker.publish(topic, topic.encode()) for topic in probes))
        for topic, probe in probes.items():
            await probe.handled()
            assert probe.values == [topic.encode()]

    @case()
    async def test_start_twice(self) -> None:
        """A start of a started broker changes nothing, also when both come at once."""
        broker, topic, probe = self.broker(), self.name(), self.probe()
        await broker.subscribe(topic, probe)
        await asyncio.gather(self.start(broker), self.start(broker))
        await self.start(broker)
        await broker.publish(topic, b"1", key=b"key")
        await broker.publish(topic, b"2", key=b"key")
        await probe.saw(b"2")
        assert probe.values == [b"1", b"2"]

    @case()
    async def test_start_without_listeners(self) -> None:
        """A broker that only publishes, or does nothing at all, starts and stops."""
        broker = self.broker()
        await self.start(broker)
        await self.stop(broker)

    @case()
    async def test_nothing_is_delivered_before_start(self) -> None:
        """Before ``start()`` no handler runs."""
        broker, topic, probe = self.broker(), self.name(), self.probe()
        await broker.subscribe(topic, probe)
        await turns()
        with pytest.raises(NotStartedError):
            await broker.publish(topic, b"too early")
        await self.start(broker)
        await broker.publish(topic, b"message")
        await probe.handled()
        assert probe.values == [b"message"]

    @case("unreachable")
    async def test_unreachable_broker(self) -> None:
        """A start of a broker out of reach raises ``BrokerUnavailableError``, which names the
        address, when the startup timeout is over or sooner; it leaves nothing behind.
        """
        timeouts = Timeouts(startup=_STARTUP)
        broker = self.taken(self.make_unreachable_broker(policy=QUICK, timeouts=timeouts))
        await broker.subscribe(self.name(), self.probe(), self.name("group"))
        before = Leftovers()
        for _ in range(2):
            with pytest.raises(BrokerUnavailableError) as caught:
                await self.within(broker.start(), _REFUSAL, _STARTUP + _SLACK)
            assert caught.value.address in str(caught.value)
            assert caught.value.attempts >= 1
            await before.gone(self.deadline)
        with pytest.raises(NotStartedError):
            await broker.publish(self.name(), b"message")
