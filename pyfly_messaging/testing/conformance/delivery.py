"""Cases of point 2: delivery is at least once."""
# ruff: noqa: S101 - pytest explains an assertion that fails

from __future__ import annotations

import asyncio

from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy
from pyfly_messaging.testing.conformance.case import case
from pyfly_messaging.testing.conformance.compare import expect
from pyfly_messaging.testing.conformance.stage import QUICK, Stage, fail, turns

_PATIENT = ListenerPolicy(retries=9, retry_delay=3600.0, retry_max_delay=3600.0)
_SHORT = 0.1  # seconds for a stop that has to cancel its handlers


class DeliveryCases(Stage):
    """2 Delivery."""

    @case("redelivers")
    async def test_cancelled_message_comes_again_after_a_restart(self) -> None:
        """What a stop cancelled is delivered again, in order, when the broker is started again."""
        gate = self.gate()
        broker, topic, probe = await self.listening(lambda _: gate.wait(), shutdown=_SHORT)
        await self.hand_over(broker, topic, b"1", b"2", b"3")
        await probe.began(1)
        await self.stop(broker)
        assert probe.done == []
        gate.set()
        await self.start(broker)
        await self.hand_over(broker, topic, b"4")
        await probe.saw(b"4")
        assert probe.values == [b"1", b"2", b"3", b"4"]

    @case("redelivers")
    async def test_message_between_attempts_comes_again_after_a_restart(self) -> None:
        """A message that waited for its next attempt at the stop comes again after a restart."""

        async def fail_once(message: Message) -> None:
            if len(probe.called) == 1:
                await fail(message)

        broker, topic, probe = await self.listening(fail_once, policy=_PATIENT)
        await self.hand_over(broker, topic, b"message")
        await probe.began(1)
        await self.stop(broker)
        await self.start(broker)
        await probe.handled()
        assert probe.values == [b"message"]

    @case("durable")
    async def test_handled_message_is_settled(self) -> None:
        """What was handled does not come again to the next instance of the group."""
        group = self.name("group")
        first, topic, probe = await self.listening(group=group)
        await first.publish(topic, b"old", key=b"key")
        await probe.handled()
        await self.stop(first)
        second, _, probe = await self.listening(topic=topic, group=group)
        await second.publish(topic, b"new", key=b"key")
        await probe.saw(b"new")
        assert probe.values == [b"new"]

    @case("durable")
    async def test_dead_lettered_message_is_settled(self) -> None:
        """What was dead-lettered does not come again to the next instance of the group."""
        group = self.name("group")
        first, topic, _, letters = await self.burying(fail, group=group)
        await first.publish(topic, b"spent", key=b"key")
        await letters.handled()
        await self.stop(first)
        second, _, probe = await self.listening(topic=topic, group=group)
        await second.publish(topic, b"new", key=b"key")
        await probe.saw(b"new")
        assert probe.values == [b"new"]

    @case("durable")
    async def test_unfinished_message_goes_to_the_next_instance(self) -> None:
        """A message is acknowledged after its handler succeeded, and not before: with a handler
        that never ended, it and those behind it go to the next instance, in order.
        """
        group, gate = self.name("group"), self.gate()
        first, topic, stuck = await self.listening(
            lambda _: gate.wait(), group=group, shutdown=_SHORT
        )
        await self.hand_over(first, topic, b"1", b"2", b"3")
        await stuck.began(1)
        await self.stop(first)
        second, _, probe = await self.listening(topic=topic, group=group)
        await self.hand_over(second, topic, b"4")
        await probe.saw(b"4")
        assert (stuck.done, probe.values) == ([], [b"1", b"2", b"3", b"4"])

    @case("durable")
    async def test_settled_messages_beside_an_unfinished_one(self) -> None:
        """Of several messages in work at a stop those that are settled do not hide the others."""
        group, gate = self.name("group"), self.gate()

        async def hold_the_first(message: Message) -> None:
            if message.value == b"0":
                await gate.wait()

        first, topic, probe = await self.listening(
            hold_the_first,
            policy=QUICK.replace(concurrency=4),
            group=group,
            shutdown=_SHORT,
        )
        values = [b"%d" % number for number in range(20)]
        for value in values:
            await self.hand_over(first, topic, value, key=value)
        await probe.handled(19)
        await self.stop(first)
        second, _, late = await self.listening(topic=topic, group=group)
        await late.saw(b"0")
        expect([*probe.values, *late.values], values, repeats=True)
        await second.publish(topic, b"next", key=b"0")
        await late.saw(b"next")

    @case("durable")
    async def test_message_between_attempts_goes_to_the_next_instance(self) -> None:
        """A message that waits for its next attempt is not acknowledged; stop does not wait."""
        group = self.name("group")
        first, topic, failing = await self.listening(fail, policy=_PATIENT, group=group)
        await self.hand_over(first, topic, b"message")
        await failing.began(1)
        await self.stop(first)
        _, _, probe = await self.listening(topic=topic, group=group)
        await probe.handled()
        assert probe.values == [b"message"]

    @case("durable")
    async def test_finished_handler_is_settled_by_the_stop(self) -> None:
        """What a running handler finishes during the stop does not come again."""
        group, gate = self.name("group"), self.gate()
        first, topic, probe = await self.listening(lambda _: gate.wait(), group=group)
        await self.hand_over(first, topic, b"old")
        await probe.began(1)
        stopping = asyncio.create_task(self.stop(first))
        await turns()
        gate.set()
        await stopping
        assert probe.values == [b"old"]
        second, _, probe = await self.listening(topic=topic, group=group)
        await second.publish(topic, b"new", key=b"key")
        await probe.saw(b"new")
        assert probe.values == [b"new"]

    @case("durable")
    async def test_group_gets_what_came_while_it_was_away(self) -> None:
        """A named group gets what was published while none of its instances ran, in order."""
        group = self.name("group")
        first, topic, _ = await self.listening(group=group)
        await self.stop(first)
        publisher = self.broker()
        await self.start(publisher)
        await self.hand_over(publisher, topic, b"1", b"2", b"3")
        _, _, probe = await self.listening(topic=topic, group=group)
        await probe.handled(3)
        assert probe.values == [b"1", b"2", b"3"]

    @case("backlog_for_named_groups")
    async def test_new_group_gets_what_came_before_it(self) -> None:
        """A named group that is new gets what was published before it existed."""
        publisher, topic = self.broker(), self.name()
        await self.start(publisher)
        await self.hand_over(publisher, topic, b"1", b"2", b"3")
        _, _, probe = await self.listening(topic=topic)
        await probe.handled(3)
        assert probe.values == [b"1", b"2", b"3"]

    @case()
    async def test_calm_delivery_has_no_duplicates(self) -> None:
        """While nothing fails and nobody comes or goes, every message is delivered once."""
        broker, topic, probe = await self.listening()
        values = [b"%d" % number for number in range(100)]
        await asyncio.gather(*(broker.publish(topic, value, key=b"key") for value in values))
        await broker.publish(topic, b"last", key=b"key")
        await probe.saw(b"last")
        expect(probe.values, [*values, b"last"])
