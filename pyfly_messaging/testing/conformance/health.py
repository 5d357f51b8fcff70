"""Cases beyond the port: health tells the truth."""
# ruff: noqa: S101 - pytest explains an assertion that fails

from __future__ import annotations

import pytest

from pyfly_messaging.errors import BrokerUnavailableError
from pyfly_messaging.health import Health
from pyfly_messaging.policy import Timeouts
from pyfly_messaging.ports import MessageBrokerPort, ReportsHealth
from pyfly_messaging.testing.conformance.case import case
from pyfly_messaging.testing.conformance.stage import QUICK, Stage


class HealthCases(Stage):
    """Health."""

    @case("health")
    async def test_health_before_start_and_after_stop(self) -> None:
        """Before ``start()`` and after ``stop()`` a broker is neither started nor healthy."""
        broker = self.broker()
        await broker.subscribe(self.name(), self.probe(), self.name("group"))
        for _ in range(2):
            health = _health(broker)
            assert (health.started, health.publishing, health.healthy) == (False, False, False)
            assert [consumer.state for consumer in health.consumers] == ["stopped"]
            await self.start(broker)
            assert _health(broker).healthy
            await self.stop(broker)

    @case("health")
    async def test_health_of_each_consumer(self) -> None:
        """A started broker is healthy, with one running consumer for each topic and group."""
        broker, topic, other, group = self.broker(), self.name(), self.name(), self.name("group")
        await broker.subscribe(topic, self.probe(), group)
        await broker.subscribe(topic, self.probe(), group)
        await broker.subscribe(topic, self.probe())
        await self.start(broker)
        await broker.subscribe(other, self.probe(), group)
        health = _health(broker)
        assert (health.started, health.publishing, health.healthy) == (True, True, True)
        assert [(consumer.topic, consumer.group) for consumer in health.consumers] == [
            (topic, group),
            (topic, None),
            (other, group),
        ]
        for consumer in health.consumers:
            assert (consumer.state, consumer.in_flight, consumer.error) == ("running", 0, None)

    @case("health")
    async def test_health_counts_what_is_in_flight(self) -> None:
        """What has arrived and is not settled counts as in flight, until it is settled."""
        gate = self.gate()
        broker, topic, probe = await self.listening(lambda _: gate.wait())
        await self.hand_over(broker, topic, b"1")
        await probe.began(1)
        assert [consumer.in_flight for consumer in _health(broker).consumers] == [1]
        gate.set()
        await probe.handled()
        await self.hand_over(broker, topic, b"2")  # when this is handled, the first is settled
        await probe.handled(2)
        assert _health(broker).consumers[0].in_flight <= 1

    @case("health", "policies")
    async def test_health_names_the_listeners(self) -> None:
        """A consumer is called by the names that its listeners were given, else by their own."""
        broker, topic, group = self.broker(), self.name(), self.name("group")
        await self.listen(broker, topic, self.probe(), group, name="given-name")
        await self.listen(broker, topic, self.probe(), None)
        named, unnamed = (consumer.name for consumer in _health(broker).consumers)
        assert (named, unnamed) == ("given-name", "probe")

    @case("health", "unreachable")
    async def test_health_after_a_failed_start(self) -> None:
        """After a start that failed a broker is not healthy."""
        broker = self.make_unreachable_broker(policy=QUICK, timeouts=Timeouts(startup=0.2))
        await broker.subscribe(self.name(), self.probe(), self.name("group"))
        with pytest.raises(BrokerUnavailableError):
            await self.start(broker)
        health = _health(broker)
        assert (health.started, health.publishing, health.healthy) == (False, False, False)


def _health(broker: MessageBrokerPort) -> Health:
    assert isinstance(broker, ReportsHealth), "the broker has no health"
    return broker.health()
