"""Cases of point 5: a handler that fails, retries, and fatal exceptions."""
# ruff: noqa: S101 - pytest explains an assertion that fails

from __future__ import annotations

import asyncio
import itertools
import time

from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy
from pyfly_messaging.testing.conformance.case import case
from pyfly_messaging.testing.conformance.stage import QUICK, HandlerError, Stage, fail


class _Stop(BaseException):
    """Something that is no `Exception`."""


class _HopelessError(HandlerError, LookupError):
    """An error that no retry can mend."""


class FailureCases(Stage):
    """5 Failure."""

    @case()
    async def test_failed_attempt_is_repeated(self) -> None:
        """A handler that raises is called again with the message until it succeeds."""

        async def fail_twice(message: Message) -> None:
            if len(probe.called) < 3:
                await fail(message)

        broker, topic, probe = await self.listening(fail_twice)
        await broker.publish(topic, b"1", key=b"key")
        await broker.publish(topic, b"2", key=b"key")
        await probe.saw(b"2")
        assert [message.value for message in probe.called] == [b"1", b"1", b"1", b"2"]

    @case()
    async def test_retries_come_after_the_first_attempt(self) -> None:
        """After the first attempt come ``retries`` more, then the dead letter."""
        for retries in (2, 0):
            policy = QUICK.replace(retries=retries)
            broker, topic, probe, letters = await self.burying(fail, policy=policy)
            await self.hand_over(broker, topic, b"spent")
            await letters.handled()
            assert len(probe.called) == retries + 1

    @case()
    async def test_retries_wait_longer_each_time(self) -> None:
        """The pause before a retry is ``retry_delay``, then grows by ``retry_multiplier``."""
        begun: list[float] = []

        async def note_and_fail(message: Message) -> None:
            begun.append(asyncio.get_running_loop().time())
            await fail(message)

        policy = ListenerPolicy(
            retries=3, retry_delay=0.05, retry_multiplier=3, retry_max_delay=0.2, retry_jitter=0
        )
        broker, topic, _, letters = await self.burying(note_and_fail, policy=policy)
        await broker.publish(topic, b"spent")
        await letters.handled()
        pauses = [later - earlier for earlier, later in itertools.pairwise(begun)]
        # A timer may fire one tick of the clock early.
        least = (0.05, 0.15, 0.2)
        assert all(pause > wanted - 0.005 for pause, wanted in zip(pauses, least, strict=True))

    @case()
    async def test_only_the_failed_handler_is_retried(self) -> None:
        """Of several handlers of one message only those that failed are called again."""
        broker, topic = self.broker(), self.name()

        async def fail_once(message: Message) -> None:
            if len(failing.called) == 1:
                await fail(message)

        failing, steady, hopeless = self.probe(fail_once), self.probe(), self.probe(fail)
        letters = self.probe()
        for probe in (steady, failing, hopeless):
            await broker.subscribe(topic, probe)
        await broker.subscribe(topic + ".dlt", letters, self.name("letters"))
        await self.start(broker)
        await broker.publish(topic, b"1", key=b"key")
        await letters.handled()
        await broker.publish(topic, b"2", key=b"key")
        await letters.handled(2)
        await steady.saw(b"2")
        await failing.saw(b"2")
        attempts = [len(probe.called) for probe in (steady, failing, hopeless)]
        assert attempts == [2, 3, 6]
        assert letters.values == [b"1", b"2"]

    @case()
    async def test_one_group_fails_for_itself(self) -> None:
        """A group whose handler fails repeats nothing in another group."""
        broker, topic = self.broker(), self.name()
        failing, steady, letters = self.probe(fail), self.probe(), self.probe()
        await broker.subscribe(topic, failing, self.name("failing"))
        await broker.subscribe(topic, steady, self.name("steady"))
        await broker.subscribe(topic + ".dlt", letters, self.name("letters"))
        await self.start(broker)
        for value in (b"1", b"2"):
            await broker.publish(topic, value, key=b"key")
        await letters.handled(2)
        await steady.handled(2)
        assert (steady.values, len(failing.called)) == ([b"1", b"2"], 6)

    @case()
    async def test_next_message_after_a_spent_one(self) -> None:
        """A message that cannot be handled does not keep the following ones from being handled."""

        async def fail_for_poison(message: Message) -> None:
            if message.value == b"poison":
                await fail(message)

        broker, topic, probe, letters = await self.burying(fail_for_poison)
        for value in (b"1", b"poison", b"2"):
            await broker.publish(topic, value, key=b"key")
        await probe.saw(b"2")
        await letters.handled()
        assert (probe.values, letters.values) == ([b"1", b"2"], [b"poison"])

    @case("policies")
    async def test_fatal_exception_is_not_retried(self) -> None:
        """An exception that is declared fatal, by class or name, is dead-lettered at once."""

        async def give_up(message: Message) -> None:
            raise _HopelessError

        broker = self.broker()
        own = (f"{cls.__module__}.{cls.__qualname__}" for cls in (_HopelessError, HandlerError))
        every: tuple[type[BaseException] | str, ...] = (
            _HopelessError,
            HandlerError,
            *own,
            "LookupError",
        )
        for fatal in every:
            policy = ListenerPolicy(retries=9, retry_delay=3600, fatal_exceptions=(fatal,))
            topic, probe, letters = self.name(), self.probe(give_up), self.probe()
            await self.listen(broker, topic, probe, self.name("group"), policy=policy)
            await broker.subscribe(topic + ".dlt", letters, self.name("letters"))
            await self.start(broker)
            await broker.publish(topic, b"hopeless")
            await letters.handled()
            assert len(probe.called) == 1

    @case("policies")
    async def test_attempt_over_its_timeout_has_failed(self) -> None:
        """An attempt that takes longer than ``timeout`` is cancelled, and has failed."""
        broker, topic, gate = self.broker(), self.name(), self.gate()
        policy = QUICK.replace(timeout=0.05, retries=1)
        probe, letters = self.probe(lambda _: gate.wait()), self.probe()
        await self.listen(broker, topic, probe, self.name("group"), policy=policy)
        await broker.subscribe(topic + ".dlt", letters, self.name("letters"))
        await self.start(broker)
        await self.hand_over(broker, topic, b"endless")
        (letter,) = await letters.handled()
        assert letter.headers["x-pyfly-exception"] == "TimeoutError"
        assert probe.cancelled == len(probe.called) == 2

    @case()
    async def test_base_exception_is_a_failed_attempt(self) -> None:
        """An exception that is no ``Exception`` is a failed attempt like any other."""

        async def raise_base(message: Message) -> None:
            raise _Stop

        broker, topic, probe, letters = await self.burying(raise_base)
        for value in (b"1", b"2"):
            await broker.publish(topic, value, key=b"key")
        await letters.handled(2)
        assert (len(probe.called), letters.values) == (6, [b"1", b"2"])

    @case()
    async def test_cancelled_error_of_a_handler_is_a_failed_attempt(self) -> None:
        """A handler that raises ``CancelledError``, though nobody cancelled it, has failed."""

        async def await_what_was_cancelled(message: Message) -> None:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

        broker, topic, probe, letters = await self.burying(await_what_was_cancelled)
        for value in (b"1", b"2"):
            await broker.publish(topic, value, key=b"key")
        await letters.handled(2)
        assert (len(probe.called), letters.values) == (6, [b"1", b"2"])

    @case()
    async def test_generator_exit_of_a_handler_is_a_failed_attempt(self) -> None:
        """A handler that raises ``GeneratorExit`` has failed; the publisher does not see it."""

        async def leave(message: Message) -> None:
            await asyncio.sleep(0)
            raise GeneratorExit

        broker, topic, probe, letters = await self.burying(leave)
        for value in (b"1", b"2"):
            await broker.publish(topic, value, key=b"key")
        await letters.handled(2)
        assert (len(probe.called), letters.values) == (6, [b"1", b"2"])

    @case()
    async def test_handler_that_cancels_itself_has_failed(self) -> None:
        """A handler that cancels its own task has failed; its listener and its publisher go on."""

        async def cancel_itself(message: Message) -> None:
            task = asyncio.current_task()
            if message.value == b"cancel" and task is not None:
                task.cancel()
                await asyncio.sleep(0)

        broker, topic, probe, letters = await self.burying(cancel_itself)
        await broker.publish(topic, b"cancel", key=b"key")
        await letters.handled()
        await broker.publish(topic, b"next", key=b"key")
        await probe.saw(b"next")
        assert (letters.values, probe.values) == ([b"cancel"], [b"next"])

    @case()
    async def test_what_a_handler_returns_is_ignored(self) -> None:
        """What a handler returns means nothing, be it False or an exception."""
        results = iter((False, HandlerError(), None, 0, "nack"))
        broker, topic, group, last = self.broker(), self.name(), self.name("group"), self.probe()

        async def answer(message: Message) -> None:
            await last(message)
            return next(results)  # type: ignore[return-value]  # that is what is tried here

        await broker.subscribe(topic, answer, group)
        await self.start(broker)
        for number in range(5):
            await broker.publish(topic, b"%d" % number, key=b"key")
        await last.handled(5)
        assert last.values == [b"0", b"1", b"2", b"3", b"4"]

    @case()
    async def test_blocking_handler_loses_nothing(self) -> None:
        """A handler that blocks the event loop is slow, and loses and repeats nothing by that."""

        async def block(message: Message) -> None:
            time.sleep(0.1)  # noqa: ASYNC251 - the mistake that is tried here

        broker, topic, probe = await self.listening(block)
        for number in range(5):
            await broker.publish(topic, b"%d" % number, key=b"key")
        await probe.handled(5)
        await broker.publish(topic, b"last", key=b"key")
        await probe.saw(b"last")
        assert probe.values == [b"0", b"1", b"2", b"3", b"4", b"last"]
