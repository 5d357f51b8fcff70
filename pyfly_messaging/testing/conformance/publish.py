"""Cases of point 1: what it means that a publish has returned."""
# ruff: noqa: S101 - pytest explains an assertion that fails

from __future__ import annotations

import asyncio

import pytest

from pyfly_messaging.errors import NotStartedError, PublishError, UnroutableError
from pyfly_messaging.message import Message
from pyfly_messaging.policy import Timeouts
from pyfly_messaging.testing.conformance.case import case
from pyfly_messaging.testing.conformance.compare import expect
from pyfly_messaging.testing.conformance.stage import QUICK, Stage, fail


class PublishCases(Stage):
    """1 Publish."""

    @case()
    async def test_publish_before_start_raises(self) -> None:
        """Before ``start()`` a publish raises ``NotStartedError``, which is a ``RuntimeError``."""
        broker = self.broker()
        with pytest.raises(NotStartedError) as caught:
            await broker.publish(self.name(), b"too early")
        assert isinstance(caught.value, RuntimeError)

    @case()
    async def test_publish_after_stop_raises(self) -> None:
        """After ``stop()`` a publish raises ``NotStartedError``."""
        broker, topic, probe = await self.listening()
        await broker.publish(topic, b"in time")
        await probe.handled()
        await self.stop(broker)
        with pytest.raises(NotStartedError):
            await broker.publish(topic, b"too late")
        assert probe.values == [b"in time"]

    @case("durable")
    async def test_published_message_survives_its_publisher(self) -> None:
        """When publish has returned the broker has the message, whatever becomes of the process."""
        group = self.name("group")
        consumer, topic, probe = await self.listening(group=group)
        await self.stop(consumer)
        publisher = self.broker()
        await self.start(publisher)
        await publisher.publish(topic, b"taken")
        await self.stop(publisher)
        _, _, probe = await self.listening(topic=topic, group=group)
        await probe.handled()
        assert probe.values == [b"taken"]

    @case("settles_on_publish")
    async def test_publish_returns_when_every_handler_has_settled(self) -> None:
        """A publish returns when every handler has settled the message and all that it set off."""
        broker, topic, following = self.broker(), self.name(), self.name("next")

        async def publish_next(message: Message) -> None:
            await broker.publish(following, message.value)

        first, second, failing = self.probe(publish_next), self.probe(), self.probe(fail)
        await broker.subscribe(topic, first, "first")
        await broker.subscribe(topic, failing)
        await broker.subscribe(following, second)
        await self.start(broker)
        await broker.publish(topic, b"message")
        assert (len(first.done), len(second.done), len(failing.called)) == (1, 1, 3)

    @case("settles_on_publish")
    async def test_publish_that_is_not_settled_in_time_raises(self) -> None:
        """A publish that is not settled within its timeout raises, and the message goes on."""
        broker = self.taken(self.make_broker(policy=QUICK, timeouts=Timeouts(publish=0.05)))
        topic, gate = self.name(), self.gate()
        probe = self.probe(lambda message: gate.wait())
        await broker.subscribe(topic, probe, "group")
        await self.start(broker)
        with pytest.raises(PublishError):
            await broker.publish(topic, b"slow")
        gate.set()
        await probe.handled()
        assert probe.values == [b"slow"]

    @case("unroutable")
    async def test_unroutable_message_raises(self) -> None:
        """A message that no queue takes raises ``UnroutableError``, and the broker goes on."""
        broker, topic, probe = await self.listening()
        with pytest.raises(UnroutableError):
            await broker.publish(self.name("nobody"), b"nobody listens")
        await broker.publish(topic, b"next")
        await probe.handled()
        assert probe.values == [b"next"]

    @case("message_limit")
    async def test_message_over_the_limit_raises(self) -> None:
        """A message that the broker refuses raises ``PublishError``, and later ones are taken."""
        broker, topic, probe = await self.listening()
        for value in (b"a", b"b", b"c"):
            with pytest.raises(PublishError):
                await broker.publish(topic, self._oversize(), key=b"key")
            await broker.publish(topic, value, key=b"key")
        await probe.handled(3)
        assert probe.values == [b"a", b"b", b"c"]

    @case()
    async def test_publisher_never_sees_a_handlers_error(self) -> None:
        """A publish returns although the handler fails at every attempt."""
        broker, topic, probe, letters = await self.burying(fail)
        await broker.publish(topic, b"spent")
        await letters.handled()
        assert len(probe.called) == 3

    @case()
    async def test_handler_publishes_to_another_topic(self) -> None:
        """A handler may publish to another topic."""
        broker, topic, following = self.broker(), self.name(), self.name("next")

        async def publish_next(message: Message) -> None:
            await broker.publish(following, b"because of " + message.value)

        probe = self.probe()
        await broker.subscribe(topic, self.probe(publish_next), self.name("group"))
        await broker.subscribe(following, probe, self.name("group"))
        await self.start(broker)
        await broker.publish(topic, b"message")
        await probe.handled()
        assert probe.values == [b"because of message"]

    @case()
    async def test_handler_publishes_to_its_own_topic(self) -> None:
        """A handler may publish to its own topic, one at a time as it is, and does not wait for it.

        Thirty messages follow each other so.
        """
        broker, topic = self.broker(), self.name()

        async def count_down(message: Message) -> None:
            if message.value:
                await broker.publish(topic, message.value[1:], key=message.key)

        probe = self.probe(count_down)
        await broker.subscribe(topic, probe, self.name("group"))
        await self.start(broker)
        await broker.publish(topic, b"." * 30, key=b"key")
        await probe.handled(31)
        assert probe.values == [b"." * left for left in range(30, -1, -1)]
        assert probe.most == 1

    @case()
    async def test_handlers_publish_in_a_circle(self) -> None:
        """Handlers that publish to each other's topics do not block each other."""
        broker, ping, pong = self.broker(), self.name("ping"), self.name("pong")

        async def to_pong(message: Message) -> None:
            await broker.publish(pong, message.value)

        async def to_ping(message: Message) -> None:
            if len(message.value) < 20:
                await broker.publish(ping, message.value + b".")

        first, second = self.probe(to_pong), self.probe(to_ping)
        await broker.subscribe(ping, first, self.name("group"))
        await broker.subscribe(pong, second, self.name("group"))
        await self.start(broker)
        await broker.publish(ping, b".")
        await second.handled(20)
        assert len(first.done) == len(second.done) == 20

    @case()
    async def test_concurrent_publishers_lose_nothing(self) -> None:
        """Of what many tasks publish at once every message arrives, once."""
        broker, topic, probe = await self.listening()

        async def publish(number: int) -> None:
            for count in range(10):
                await broker.publish(topic, b"%d.%d" % (number, count))

        await asyncio.gather(*(publish(number) for number in range(20)))
        await probe.handled(200)
        expect(probe.values, (b"%d.%d" % (n, c) for n in range(20) for c in range(10)))

    @case()
    async def test_cancelled_publish_hurts_no_other(self) -> None:
        """A publish that is cancelled hurts no other that is under way, and none that follows."""
        broker, topic, probe = await self.listening()
        kept: set[bytes] = set()
        cancelled: set[bytes] = set()
        for pause in (0.0, 0.0005, 0.001, 0.002, 0.005):  # how far they come does not matter
            names = [b"%g.%d" % (pause, number) for number in range(20)]
            publishes = [
                asyncio.create_task(broker.publish(topic, name, key=name)) for name in names
            ]
            await asyncio.sleep(pause)
            for publish in publishes[::2]:
                publish.cancel()
            kept.update(names[1::2])
            cancelled.update(names[::2])
            await self.within(asyncio.wait(publishes), "the publishes to end")
            others = await asyncio.gather(*publishes[1::2], return_exceptions=True)
            assert set(others) == {None}
        await broker.publish(topic, b"next")
        kept.add(b"next")
        await probe.saw_all(kept)
        expect(set(probe.values) - cancelled, kept)

    def _oversize(self) -> bytes:
        limit = self.capabilities.message_limit
        assert limit is not None
        return bytes(limit + 1)
