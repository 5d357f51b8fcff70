"""Cases of point 6: in which order messages are handled, and how many at once."""
# ruff: noqa: S101 - pytest explains an assertion that fails

from __future__ import annotations

import asyncio
import random

from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy
from pyfly_messaging.ports import MessageBrokerPort
from pyfly_messaging.testing.conformance.case import case
from pyfly_messaging.testing.conformance.compare import expect
from pyfly_messaging.testing.conformance.probe import Probe
from pyfly_messaging.testing.conformance.stage import QUICK, Stage, fail

_FOUR = QUICK.replace(concurrency=4)
_KEYS = (b"a", b"b", b"c", b"d", b"e", b"f", b"g")


class OrderCases(Stage):
    """6 Order."""

    @case()
    async def test_order_of_a_key(self) -> None:
        """Messages with the same key are handled in the order in which they were published."""
        broker, topic, probe = await self.listening()
        values = [b"%d" % number for number in range(50)]
        for value in values:
            await broker.publish(topic, value, key=b"key")
        await probe.handled(50)
        expect(probe.values, values, order=True)

    @case("topic_order")
    async def test_order_without_keys(self) -> None:
        """With a concurrency of 1 all messages of a topic are handled as they were published."""
        broker, topic, probe = await self.listening()
        values = [b"%d" % number for number in range(50)]
        for number, value in enumerate(values):
            await broker.publish(topic, value, key=_KEYS[number % 5] if number % 2 else None)
        await probe.handled(50)
        expect(probe.values, values, order=True)

    @case()
    async def test_one_at_a_time(self) -> None:
        """With a concurrency of 1 a listener handles one message at a time."""
        broker, topic, probe = await self.listening(lambda _: asyncio.sleep(0.002))
        publishes = (broker.publish(topic, b"%d" % n, key=_KEYS[n % 7]) for n in range(30))
        await asyncio.gather(*publishes)
        await probe.handled(30)
        assert probe.most == 1

    @case()
    async def test_retry_keeps_its_place(self) -> None:
        """With a concurrency of 1 a message that is retried keeps those behind it waiting."""

        async def fail_twice(message: Message) -> None:
            if len(probe.called) < 3:
                await fail(message)

        broker, topic, probe = await self.listening(fail_twice)
        await self.hand_over(broker, topic, b"1", b"2", b"3")
        await probe.handled(3)
        assert [message.value for message in probe.called] == [b"1", b"1", b"1", b"2", b"3"]

    @case()
    async def test_concurrency_is_reached(self) -> None:
        """With a concurrency of 4 four messages with different keys are handled at once."""
        all_here = asyncio.Barrier(4)
        broker, topic, probe = await self.listening(lambda _: all_here.wait(), policy=_FOUR)
        for key in _KEYS[:4]:
            await self.hand_over(broker, topic, b"value", key=key)
        await probe.handled(4)

    @case()
    async def test_concurrency_is_reached_without_keys(self) -> None:
        """With a concurrency of 4 four messages without a key are handled at once."""
        all_here = asyncio.Barrier(4)
        broker, topic, probe = await self.listening(lambda _: all_here.wait(), policy=_FOUR)
        for _ in range(4):
            await self.hand_over(broker, topic, b"value", key=None)
        await probe.handled(4)

    @case()
    async def test_concurrency_is_not_exceeded(self) -> None:
        """With a concurrency of 4 no more than four messages are handled at once."""
        broker, topic, probe = await self.listening(lambda _: asyncio.sleep(0.005), policy=_FOUR)
        keys = (None, *_KEYS)
        publishes = (broker.publish(topic, b"%d" % n, key=keys[n % 8]) for n in range(80))
        await asyncio.gather(*publishes)
        await probe.handled(80)
        assert probe.most <= 4

    @case("policies")
    async def test_concurrency_of_one_listener(self) -> None:
        """Each listener has the concurrency of its own policy."""
        broker, topic, all_here = self.broker(), self.name(), asyncio.Barrier(3)
        single = self.probe(lambda _: asyncio.sleep(0.002))
        triple = self.probe(lambda _: all_here.wait())
        await self.listen(broker, topic, single, self.name("group"), policy=QUICK)
        policy = QUICK.replace(concurrency=3)
        await self.listen(broker, topic, triple, self.name("group"), policy=policy)
        await self.start(broker)
        for key in _KEYS[:6]:
            await self.hand_over(broker, topic, b"value", key=key)
        await single.handled(6)
        await triple.handled(6)
        assert (single.most, triple.most) == (1, 3)

    @case("policies")
    async def test_concurrency_of_one_listener_in_a_group(self) -> None:
        """Listeners that share a group each keep to their own concurrency."""
        broker, topic, group = self.broker(), self.name(), self.name("group")
        single, five = (self.probe(lambda _: asyncio.sleep(0.002)) for _ in range(2))
        await self.listen(broker, topic, single, group, policy=QUICK)
        policy = QUICK.replace(concurrency=5)
        await self.listen(broker, topic, five, group, policy=policy)
        await self.start(broker)
        for number in range(20):
            await self.hand_over(broker, topic, b"%d" % number, key=_KEYS[number % len(_KEYS)])
        await single.handled(10)
        await five.handled(10)
        assert single.most == 1

    @case("key_order")
    async def test_order_of_each_key_at_higher_concurrency(self) -> None:
        """With a concurrency of 4 messages with the same key stay in order, whatever each takes."""
        chance = random.Random(6)  # noqa: S311 - to vary the handlers, the same way in each run

        async def take_some_time(message: Message) -> None:
            await asyncio.sleep(chance.random() / 100)

        broker, topic, probe = await self.listening(take_some_time, policy=_FOUR)
        await self._expect_order_by_key(broker, topic, probe, 105)

    @case("key_order")
    async def test_one_at_a_time_for_each_key(self) -> None:
        """With a concurrency of 4 two messages with the same key are never handled at once."""
        running: set[bytes | None] = set()

        async def alone(message: Message) -> None:
            assert message.key not in running
            running.add(message.key)
            await asyncio.sleep(0.002)
            running.remove(message.key)

        broker, topic, probe = await self.listening(alone, policy=_FOUR)
        publishes = (broker.publish(topic, b"%d" % n, key=_KEYS[n % 3]) for n in range(60))
        await asyncio.gather(*publishes)
        await probe.handled(60)
        assert len(probe.called) == 60

    @case("key_order")
    async def test_order_of_each_key_with_retries(self) -> None:
        """With a concurrency of 4 a retried message keeps its place among those of its key."""
        failed: set[bytes] = set()

        async def fail_once(message: Message) -> None:
            if message.value not in failed and int(message.value) % 3 == 0:
                failed.add(message.value)
                await fail(message)

        broker, topic, probe = await self.listening(fail_once, policy=_FOUR)
        await self._expect_order_by_key(broker, topic, probe, 42)

    @case("key_order")
    async def test_retry_holds_up_its_own_key_only(self) -> None:
        """With a higher concurrency messages that wait for a retry hold up none but their key's."""
        policy = ListenerPolicy(concurrency=2, retries=9, retry_delay=3600, retry_max_delay=3600)

        async def fail_for_poison(message: Message) -> None:
            if message.value == b"poison":
                await fail(message)

        broker, topic, probe = await self.listening(fail_for_poison, policy=policy)
        for key in _KEYS[:3]:
            await self.hand_over(broker, topic, b"poison", b"behind", key=key)
        await self.hand_over(broker, topic, *[b"%d" % n for n in range(10)], key=_KEYS[3])
        await self.hand_over(broker, topic, b"no key", key=None)
        await probe.handled(11)
        assert b"behind" not in probe.values
        assert [m.value for m in probe.called].count(b"poison") == 3

    async def _expect_order_by_key(
        self, broker: MessageBrokerPort, topic: str, probe: Probe, count: int
    ) -> None:
        __tracebackhide__ = True
        # Fewer keys than handlers, so that a broker without lanes would mix them up.
        sent: dict[bytes, list[bytes]] = {key: [] for key in _KEYS[:3]}
        for number in range(count):
            value, key = b"%d" % number, _KEYS[number % 3]
            sent[key].append(value)
            await self.hand_over(broker, topic, value, key=key)
        await probe.handled(count)
        for key, values in sent.items():
            found = [message.value for message in probe.done if message.key == key]
            expect(found, values, order=True)
