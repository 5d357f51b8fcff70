"""Cases of point 10: stop loses nothing, never hangs, and leaves nothing behind."""
# ruff: noqa: S101 - pytest explains an assertion that fails

from __future__ import annotations

import asyncio
import contextlib

import pytest

from pyfly_messaging.errors import NotStartedError, PublishError
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy
from pyfly_messaging.testing.conformance.case import case
from pyfly_messaging.testing.conformance.leftovers import Leftovers
from pyfly_messaging.testing.conformance.stage import QUICK, Stage, fail, turns

_SHORT = 0.1  # seconds for a stop that has to cancel its handlers
_QUICK_S = 5.0  # more than any broker needs to say goodbye, and less than the usual timeouts
_MANY = 1000  # messages of each publisher: more than there is time for


class StopCases(Stage):
    """10 Stop."""

    @case()
    async def test_stop_twice(self) -> None:
        """A stop of a broker that is stopped or was never started changes nothing."""
        unused, (broker, _, _) = self.broker(), await self.listening()
        await self.stop(unused)
        await asyncio.gather(self.stop(broker), self.stop(broker))
        await self.stop(broker)

    @case()
    async def test_idle_stop_is_quick(self) -> None:
        """A stop with nothing to do does not wait for its timeout, whether or not there was work
        before.
        """
        broker, topic, probe = await self.listening()
        await broker.subscribe(topic, self.probe())
        unused, _, _ = await self.listening()
        await broker.publish(topic, b"message", key=b"key")
        await probe.handled()
        for idle in (unused, broker):
            await self.within(idle.stop(), "an idle stop()", min(_QUICK_S, self.deadline / 2))

    @case()
    async def test_stop_while_it_starts(self) -> None:
        """A stop that comes while the broker starts leaves it stopped, with nothing behind."""
        broker, topic = self.broker(), self.name()
        await broker.subscribe(topic, self.probe(), self.name("group"))
        before = Leftovers()
        starting = asyncio.create_task(self.start(broker))
        await turns()
        await self.stop(broker)
        await asyncio.wait({starting})
        await before.gone(self.deadline)
        with pytest.raises(NotStartedError):
            await broker.publish(topic, b"too late")

    @case("redelivers")
    async def test_publish_while_it_stops(self) -> None:
        """A publish that comes while the broker stops raises, or its message is not lost."""
        broker, topic, probe = await self.listening(policy=QUICK.replace(concurrency=4))
        taken: set[bytes] = set()

        async def publish(number: int) -> None:
            with contextlib.suppress(NotStartedError, PublishError):
                for count in range(_MANY):
                    value = b"%d.%d" % (number, count)
                    await broker.publish(topic, value, key=b"%d" % number)
                    taken.add(value)
                    await asyncio.sleep(0)  # a publish may return without a pause

        publishers = [asyncio.create_task(publish(number)) for number in range(5)]
        await probe.handled(20)
        await self.stop(broker)
        await self.within(asyncio.wait(publishers), "the publishers to hear of the stop")
        await self.start(broker)
        await probe.saw_all(taken)

    @case()
    async def test_restart(self) -> None:
        """A stopped broker can be started again, with the same listeners, more than once."""
        broker, topic, probe = await self.listening()
        for number in range(3):
            await broker.publish(topic, b"%d" % number, key=b"key")
            await probe.handled(number + 1)
            await self.stop(broker)
            await self.start(broker)
        await broker.publish(topic, b"last", key=b"key")
        await probe.saw(b"last")
        assert probe.values == [b"0", b"1", b"2", b"last"]

    @case()
    async def test_stop_lets_a_running_handler_finish(self) -> None:
        """A handler that runs when stop is called finishes, and stop waits for it."""
        gate = self.gate()
        broker, topic, probe = await self.listening(lambda _: gate.wait())
        await self.hand_over(broker, topic, b"message")
        await probe.began(1)
        stopping = asyncio.create_task(self.stop(broker))
        await turns()
        assert not stopping.done()
        gate.set()
        await stopping
        assert (probe.values, probe.cancelled) == ([b"message"], 0)

    @case()
    async def test_finishing_handler_may_publish(self) -> None:
        """A handler that finishes during the stop can still publish."""
        gate = self.gate()
        broker, topic, following = self.broker(), self.name(), self.name("next")

        async def publish_next(message: Message) -> None:
            await gate.wait()
            await broker.publish(following, b"next")

        probe = self.probe(publish_next)
        await broker.subscribe(following, self.probe(), self.name("group"))
        await broker.subscribe(topic, probe, self.name("group"))
        await self.start(broker)
        await self.hand_over(broker, topic, b"message")
        await probe.began(1)
        stopping = asyncio.create_task(self.stop(broker))
        await turns()
        gate.set()
        await stopping
        assert (len(probe.called), probe.values) == (1, [b"message"])

    @case()
    async def test_stop_begins_nothing_more(self) -> None:
        """What waits behind a running handler at the stop is not begun; the broker keeps it."""
        gate = self.gate()
        broker, topic, probe = await self.listening(lambda _: gate.wait())
        await self.hand_over(broker, topic, b"1", b"2", b"3")
        await probe.began(1)
        stopping = asyncio.create_task(self.stop(broker))
        await turns()
        gate.set()
        await stopping
        assert [message.value for message in probe.called] == [b"1"]

    @case()
    async def test_stop_cancels_after_its_timeout(self) -> None:
        """A handler that still runs after the shutdown timeout is cancelled, and stop returns."""
        gate = self.gate()
        broker, topic, probe = await self.listening(lambda _: gate.wait(), shutdown=_SHORT)
        await self.hand_over(broker, topic, b"endless")
        await probe.began(1)
        await self.within(broker.stop(), "stop() to return after its timeout")
        assert (probe.done, probe.cancelled, probe.running) == ([], 1, 0)

    @case()
    async def test_handler_that_resists_its_cancellation(self) -> None:
        """A handler that goes on after its cancellation is cancelled again, and stop returns."""
        gate = self.gate()

        async def resist(message: Message) -> None:
            try:
                await gate.wait()
            except asyncio.CancelledError:
                await gate.wait()

        broker, topic, probe = await self.listening(resist, shutdown=_SHORT)
        await self.hand_over(broker, topic, b"endless")
        await probe.began(1)
        await self.within(broker.stop(), "stop() to return in spite of the handler")
        assert (probe.done, probe.cancelled, probe.running) == ([], 1, 0)

    @case()
    async def test_stop_waits_for_no_retry(self) -> None:
        """A stop does not wait for the next attempt of a message."""
        policy = ListenerPolicy(retries=9, retry_delay=3600, retry_max_delay=3600)
        broker, topic, probe = await self.listening(fail, policy=policy)
        await self.hand_over(broker, topic, b"message")
        await probe.began(1)
        await self.within(broker.stop(), "stop() to return")
        assert len(probe.called) == 1

    @case()
    async def test_nothing_is_handled_after_stop(self) -> None:
        """When stop has returned no handler runs, and none begins."""
        # After the fifth slow enough that much is left to begin, however slow the machine is.
        broker, topic, probe = await self.listening(
            lambda _: asyncio.sleep(0.05 if len(probe.called) > 5 else 0),
            policy=QUICK.replace(concurrency=4),
        )
        for number in range(100):
            key = b"%d" % (number % 10)
            await self.hand_over(broker, topic, b"%d" % number, key=key)
        await probe.handled(5)
        await self.stop(broker)
        attempts = len(probe.called)
        assert probe.running == 0
        other, elsewhere, marker = await self.listening()
        await other.publish(elsewhere, b"later")
        await marker.handled()
        assert (len(probe.called), probe.running) == (attempts, 0)

    @case()
    async def test_nothing_is_left_behind(self) -> None:
        """A stop leaves no task, thread, process, open file or socket behind."""
        before = Leftovers()
        policy = QUICK.replace(concurrency=4)
        broker, topic, probe, letters = await self.burying(_fail_sometimes, policy=policy)
        await broker.subscribe(topic, self.probe())
        for number in range(40):
            await broker.publish(topic, b"%d" % number)
        await probe.handled(30)
        await letters.handled(10)
        await self.stop(broker)
        await before.gone(self.deadline)

    @case()
    async def test_nothing_is_left_behind_by_cancelled_handlers(self) -> None:
        """A stop that cancels handlers leaves no task, thread, process or file behind."""
        before, gate = Leftovers(), self.gate()
        broker, topic, probe = await self.listening(
            lambda _: gate.wait(), policy=QUICK.replace(concurrency=4), shutdown=_SHORT
        )
        for _ in range(6):
            await self.hand_over(broker, topic, b"endless", key=None)
        await probe.began(4)
        await self.stop(broker)
        await asyncio.gather(*self._publishes, return_exceptions=True)
        await before.gone(self.deadline)


async def _fail_sometimes(message: Message) -> None:
    if int(message.value) % 4 == 0:
        await fail(message)
