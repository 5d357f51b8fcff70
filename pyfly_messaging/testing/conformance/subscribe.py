"""Cases of point 9: subscribe works before and after start."""
# ruff: noqa: S101 - pytest explains an assertion that fails

from __future__ import annotations

import functools

import pytest

from pyfly_messaging.message import Message
from pyfly_messaging.ports import AppliesPolicies
from pyfly_messaging.testing.conformance.case import case
from pyfly_messaging.testing.conformance.compare import expect
from pyfly_messaging.testing.conformance.probe import Probe
from pyfly_messaging.testing.conformance.stage import QUICK, Stage


class _Service:
    """Something whose method listens."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    async def on_message(self, message: Message) -> None:
        await self._probe(message)


async def _pass_on(probe: Probe, message: Message) -> None:
    await probe(message)


class SubscribeCases(Stage):
    """9 Subscribe."""

    @case()
    async def test_subscribe_on_a_running_broker(self) -> None:
        """A subscribe after ``start()`` returns when its consumer runs: what is published right
        afterwards is seen, with a group and without.
        """
        broker = self.broker()
        await self.start(broker)
        for number in range(6):
            topic, probe = self.name(), self.probe()
            group = self.name("group") if number % 2 else None
            await self.within(broker.subscribe(topic, probe, group), "subscribe() to return")
            await broker.publish(topic, b"message")
            await probe.handled()

    @case()
    async def test_second_handler_joins_its_group(self) -> None:
        """A handler that is subscribed to a running group shares its messages from then on."""
        group = self.name("group")
        broker, topic, first = await self.listening(group=group)
        await broker.publish(topic, b"0", key=b"key")
        await first.handled()
        second = self.probe()
        await broker.subscribe(topic, second, group)
        values = [b"1", b"2", b"3", b"4"]
        for value in values:
            await broker.publish(topic, value, key=b"key")
        await first.handled(3)
        await second.handled(2)
        expect(first.values + second.values, [b"0", *values])

    @case()
    async def test_second_handler_without_group_on_a_running_broker(self) -> None:
        """A handler that is subscribed later without a group gets every later message, too."""
        broker, topic, first, second = self.broker(), self.name(), self.probe(), self.probe()
        await broker.subscribe(topic, first)
        await self.start(broker)
        await broker.publish(topic, b"1", key=b"key")
        await first.handled()
        await broker.subscribe(topic, second)
        await broker.publish(topic, b"2", key=b"key")
        await first.handled(2)
        await second.handled()
        assert (first.values, second.values) == ([b"1", b"2"], [b"2"])

    @case()
    async def test_subscribe_between_stop_and_start(self) -> None:
        """A subscribe on a stopped broker counts from its next start."""
        broker, first_topic, first = await self.listening()
        await self.stop(broker)
        topic, probe = self.name(), self.probe()
        await broker.subscribe(topic, probe, self.name("group"))
        await self.start(broker)
        await broker.publish(topic, b"message")
        await broker.publish(first_topic, b"message")
        await probe.handled()
        await first.handled()

    @case()
    async def test_handler_subscribes_another(self) -> None:
        """A handler may subscribe others, to another topic in another group or none."""
        await self._subscribe_within(self.name("group"), self.name("group"), None)

    @case()
    async def test_handler_subscribes_in_its_own_group(self) -> None:
        """A handler may subscribe another, to another topic in its own group."""
        group = self.name("group")
        await self._subscribe_within(group, group)

    async def _subscribe_within(self, group: str, *groups: str | None) -> None:
        __tracebackhide__ = True
        broker, topic, other = self.broker(), self.name(), self.name()
        probes = [self.probe() for _ in groups]

        async def subscribe(message: Message) -> None:
            for probe, place in zip(probes, groups, strict=True):
                await broker.subscribe(other, probe, place)

        first = self.probe(subscribe)
        await broker.subscribe(topic, first, group)
        await self.start(broker)
        await self.hand_over(broker, topic, b"message")
        await first.handled()
        await broker.publish(other, b"message")
        for probe in probes:
            await probe.handled()

    @case()
    async def test_kinds_of_handlers(self) -> None:
        """Functions, bound methods, partials and objects with an async ``__call__`` can listen."""
        broker, topic, group, probe = self.broker(), self.name(), self.name("group"), self.probe()

        async def function(message: Message) -> None:
            await probe(message)

        partial = functools.partial(_pass_on, probe)
        for handler in (function, _Service(probe).on_message, partial, self.probe(probe)):
            await broker.subscribe(topic, handler, group)
        await self.start(broker)
        values = [b"1", b"2", b"3", b"4"]
        for value in values:
            await broker.publish(topic, value, key=b"key")
        await probe.handled(4)
        expect(probe.values, values, order=True)

    @case("policies")
    async def test_broker_tells_its_default_policy(self) -> None:
        """A broker that applies policies says which one a subscription without any has."""
        broker = self.broker(QUICK)
        assert isinstance(broker, AppliesPolicies), "the broker has no default_policy"
        assert broker.default_policy == QUICK

    @case()
    async def test_same_subscription_twice(self) -> None:
        """The same handler on the same topic in the same group is refused, and counts once."""
        broker, topic, probe, group = self.broker(), self.name(), self.probe(), self.name("group")

        async def refused() -> None:
            for place in (group, None):
                with pytest.raises(ValueError, match=topic):
                    await broker.subscribe(topic, probe, place)

        await broker.subscribe(topic, probe, group)
        await broker.subscribe(topic, probe)
        await refused()
        await self.start(broker)
        await refused()
        for value in (b"1", b"2"):
            await broker.publish(topic, value, key=b"key")
        await probe.until(lambda: probe.values.count(b"2") == 2, "the second message, twice")
        expect(probe.values, (b"1", b"1", b"2", b"2"))

    @case()
    async def test_equal_methods_are_the_same_handler(self) -> None:
        """A method of the same object is the same handler, and one of another object another."""
        broker, topic, group = self.broker(), self.name(), self.name("group")
        probe = self.probe()
        service, other = _Service(probe), _Service(probe)
        await broker.subscribe(topic, service.on_message, group)
        with pytest.raises(ValueError, match=topic):
            await broker.subscribe(topic, service.on_message, group)
        await broker.subscribe(topic, other.on_message, group)
