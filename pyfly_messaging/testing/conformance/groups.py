"""Cases of points 3 and 4: who gets a message."""
# ruff: noqa: S101 - pytest explains an assertion that fails

from __future__ import annotations

import asyncio

from pyfly_messaging.message import Message
from pyfly_messaging.testing.conformance.case import case
from pyfly_messaging.testing.conformance.compare import expect
from pyfly_messaging.testing.conformance.probe import Probe
from pyfly_messaging.testing.conformance.stage import Stage

_CLAIMS = 2.5  # how many times a claim could expire while the slow handler runs


class GroupCases(Stage):
    """3, 4 Groups."""

    @case()
    async def test_group_shares_messages_in_turn(self) -> None:
        """The handlers of one group get the messages in turn, each message one of them."""
        broker, topic, group = self.broker(), self.name(), self.name("group")
        arrived: list[tuple[int, bytes]] = []

        async def note(number: int, message: Message) -> None:
            arrived.append((number, message.value))

        async def first(message: Message) -> None:
            await note(1, message)

        probe = self.probe(lambda message: note(2, message))
        third = self.probe(lambda message: note(3, message))
        await broker.subscribe(topic, first, group)
        await broker.subscribe(topic, probe, group)
        await broker.subscribe(topic, third, group)
        await self.start(broker)
        for number in range(6):
            await broker.publish(topic, b"%d" % number, key=b"key")
        await third.handled(2)
        await probe.handled(2)
        assert arrived == [(1, b"0"), (2, b"1"), (3, b"2"), (1, b"3"), (2, b"4"), (3, b"5")]

    @case()
    async def test_each_group_gets_every_message(self) -> None:
        """Different groups each get every message."""
        broker, topic = self.broker(), self.name()
        probes = [self.probe() for _ in range(3)]
        for probe in probes:
            await broker.subscribe(topic, probe, self.name("group"))
        await self.start(broker)
        for value in (b"1", b"2"):
            await broker.publish(topic, value, key=b"key")
        for probe in probes:
            await probe.handled(2)
            assert probe.values == [b"1", b"2"]

    @case()
    async def test_every_listener_without_group_gets_every_message(self) -> None:
        """Without a group every handler gets every message."""
        broker, topic = self.broker(), self.name()
        probes = [self.probe() for _ in range(3)]
        for probe in probes:
            await broker.subscribe(topic, probe)
        await self.start(broker)
        for value in (b"1", b"2"):
            await broker.publish(topic, value, key=b"key")
        for probe in probes:
            await probe.handled(2)
            assert probe.values == [b"1", b"2"]

    @case()
    async def test_listeners_with_and_without_group(self) -> None:
        """Listeners without a group take nothing away from groups, nor groups from them."""
        broker, topic, group = self.broker(), self.name(), self.name("group")
        alone, first, second = self.probe(), self.probe(), self.probe()
        await broker.subscribe(topic, alone)
        await broker.subscribe(topic, first, group)
        await broker.subscribe(topic, second, group)
        await self.start(broker)
        values = [b"1", b"2", b"3", b"4"]
        for value in values:
            await broker.publish(topic, value, key=b"key")
        await alone.handled(4)
        await first.handled(2)
        await second.handled(2)
        expect(alone.values, values, order=True)
        expect(first.values + second.values, values)

    @case()
    async def test_one_group_on_two_topics(self) -> None:
        """One group may listen to several topics; no handler sees another topic's message."""
        broker, group = self.broker(), self.name("group")
        topics, probes = (self.name(), self.name()), (self.probe(), self.probe())
        for topic, probe in zip(topics, probes, strict=True):
            await broker.subscribe(topic, probe, group)
        await self.start(broker)
        for number in range(4):
            await broker.publish(topics[number % 2], b"%d" % number, key=b"key")
        for position, probe in enumerate(probes):
            await probe.handled(2)
            assert {message.topic for message in probe.done} == {topics[position]}
            assert probe.values == [b"%d" % position, b"%d" % (position + 2)]

    @case()
    async def test_one_handler_in_several_places(self) -> None:
        """One handler may listen to several topics, and in several groups."""
        broker, topic, other, probe = self.broker(), self.name(), self.name(), self.probe()
        await broker.subscribe(topic, probe, self.name("group"))
        await broker.subscribe(topic, probe, self.name("group"))
        await broker.subscribe(other, probe)
        await self.start(broker)
        await broker.publish(topic, b"twice")
        await broker.publish(other, b"once")
        await probe.handled(3)
        expect(probe.values, (b"once", b"twice", b"twice"))

    @case()
    async def test_groups_do_not_wait_for_each_other(self) -> None:
        """A group whose handler is slow holds up no other group of the topic."""
        broker, topic, gate = self.broker(), self.name(), self.gate()
        slow, quick = self.probe(lambda _: gate.wait()), self.probe()
        await broker.subscribe(topic, slow, self.name("slow"))
        await broker.subscribe(topic, quick, self.name("quick"))
        await self.start(broker)
        await self.hand_over(broker, topic, b"1", b"2", b"3")
        await quick.handled(3)
        assert slow.done == []

    @case()
    async def test_listeners_without_group_do_not_wait_for_each_other(self) -> None:
        """A listener without a group that is slow holds up no other one of the topic."""
        broker, topic, gate = self.broker(), self.name(), self.gate()
        slow, quick = self.probe(lambda _: gate.wait()), self.probe()
        await broker.subscribe(topic, slow)
        await broker.subscribe(topic, quick)
        await self.start(broker)
        await self.hand_over(broker, topic, b"1", b"2", b"3")
        await quick.handled(3)
        assert slow.done == []
        gate.set()
        await slow.handled(3)
        assert slow.values == quick.values == [b"1", b"2", b"3"]

    @case("groups_across_instances", "takeover")
    async def test_slow_handler_keeps_its_message(self) -> None:
        """A message whose handler runs for longer than a claim lasts is handled by no other
        instance meanwhile.
        """
        claim, topic, group = self.capabilities.takeover, self.name(), self.name("group")
        assert claim is not None
        both = [
            await self.listening(lambda _: asyncio.sleep(claim * _CLAIMS), topic=topic, group=group)
            for _ in range(2)
        ]
        probes = [probe for _, _, probe in both]
        await self.hand_over(both[0][0], topic, b"slow")
        await asyncio.sleep(claim * (_CLAIMS + 1))
        await self.within(_any_done(probes), "the slow handler to finish")
        assert [len(probe.called) for probe in probes] in ([1, 0], [0, 1])

    @case("groups_across_instances")
    async def test_instances_share_a_group(self) -> None:
        """Of the instances of a group exactly one gets each message."""
        topic, group, both = self.name(), self.name("group"), self.probe()
        first, _, one = await self.listening(both, topic=topic, group=group)
        _, _, two = await self.listening(both, topic=topic, group=group)
        values = [b"%d" % number for number in range(60)]
        for value in values:
            await first.publish(topic, value, key=value)
        await both.handled(60)
        expect(one.values + two.values, values)

    @case("groups_across_instances")
    async def test_instances_of_different_groups(self) -> None:
        """Instances of different groups each get every message."""
        topic = self.name()
        publisher, _, one = await self.listening(topic=topic)
        _, _, two = await self.listening(topic=topic)
        for value in (b"1", b"2"):
            await publisher.publish(topic, value, key=b"key")
        await one.handled(2)
        await two.handled(2)
        assert one.values == two.values == [b"1", b"2"]

    @case("groups_across_instances")
    async def test_remaining_instance_takes_over(self) -> None:
        """When an instance stops, the rest of its group gets every later message."""
        topic, group, both = self.name(), self.name("group"), self.probe()
        leaving, _, gone = await self.listening(both, topic=topic, group=group)
        staying, _, rest = await self.listening(both, topic=topic, group=group)
        before = [b"%d" % number for number in range(20)]
        for value in before:
            await staying.publish(topic, value, key=value)
        await both.handled(20)
        await self.stop(leaving)
        after = [b"later %d" % number for number in range(20)]
        for value in after:
            await staying.publish(topic, value, key=value)
        await rest.saw_all(after)
        expect(gone.values + rest.values, [*before, *after], repeats=True)
        assert not set(gone.values) & set(after)

    @case("groups_across_instances")
    async def test_instances_of_a_group_on_different_topics(self) -> None:
        """A message reaches the instance that listens to its topic, though its group has others."""
        group, one, two = self.name("group"), self.name(), self.name()
        first, _, ones = await self.listening(topic=one, group=group)
        _, _, twos = await self.listening(topic=two, group=group)
        for number in range(10):
            await first.publish(one, b"one %d" % number, key=b"key")
            await first.publish(two, b"two %d" % number, key=b"key")
        await ones.until(lambda: len(set(ones.values)) == 10, "the messages of the first topic")
        await twos.until(lambda: len(set(twos.values)) == 10, "the messages of the second topic")
        assert {message.topic for message in ones.called} == {one}
        assert {message.topic for message in twos.called} == {two}

    @case("broadcast")
    async def test_broadcast_reaches_every_instance(self) -> None:
        """Without a group the handlers of every instance get every message."""
        topic, brokers = self.name(), (self.broker(), self.broker())
        probes = [self.probe() for _ in range(4)]
        for position, probe in enumerate(probes):
            await brokers[position % 2].subscribe(topic, probe)
        for broker in brokers:
            await self.start(broker)
        for value in (b"1", b"2"):
            await brokers[0].publish(topic, value, key=b"key")
        for probe in probes:
            await probe.handled(2)
            assert probe.values == [b"1", b"2"]


async def _any_done(probes: list[Probe]) -> None:
    while not any(probe.done for probe in probes):
        await asyncio.sleep(0.01)
