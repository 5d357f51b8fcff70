"""Handlers that begin on the stack of their publisher: their task, cancellations and exits."""

from __future__ import annotations

import asyncio
import logging
from contextvars import ContextVar

import pytest

from pyfly_messaging.adapters.memory import InMemoryMessageBroker
from pyfly_messaging.message import Message
from tests.adapters.memory.samples import (
    Service,
    fails,
    now,
    policy,
    running,
    this_task,
)
from tests.delivery.clock import VirtualLoop, on_virtual_time, turns


class TestHandlersThatCancel:
    """A handler runs in a task that is not its own."""

    @pytest.mark.parametrize("waits_before", [True, False])
    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_cancelling_itself_is_a_failed_attempt(
        self, concurrency: int, waits_before: bool
    ) -> None:
        """A handler that cancels the task it runs in has failed; the publisher is not cancelled."""

        async def cancels(message: Message) -> None:
            if len(service.got) == 1:
                await asyncio.sleep(int(waits_before))
                this_task().cancel()
                await asyncio.sleep(60)

        service = Service(cancels)
        async with running(policy=policy(concurrency=concurrency)) as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.publish("orders", b"v")
            await asyncio.sleep(0)
        assert service.values == ["v", "v"]
        assert not broker.dead_letters
        assert this_task().cancelling() == 0

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_always_cancelling_itself_ends_as_a_dead_letter(self, concurrency: int) -> None:
        """A handler that cancels itself each time is dead-lettered like any other."""

        async def cancels(message: Message) -> None:
            this_task().cancel()
            await asyncio.sleep(60)

        service = Service(cancels)
        async with running(policy=policy(concurrency=concurrency, retries=2)) as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.publish("orders", b"v")
        assert service.values == ["v", "v", "v"]
        (letter,) = broker.dead_letters
        assert letter.headers["x-pyfly-attempts"] == "3"
        assert letter.headers["x-pyfly-exception"] == "asyncio.exceptions.CancelledError"

    @pytest.mark.parametrize("waits_before", [True, False])
    @pytest.mark.parametrize("waits_after", [True, False])
    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_cancelling_itself_and_finishing(
        self, concurrency: int, waits_before: bool, waits_after: bool
    ) -> None:
        """A handler that survives its own cancellation has succeeded, and its publisher goes on."""

        async def cancels(message: Message) -> None:
            if waits_before:
                await asyncio.sleep(1)
            this_task().cancel()
            if waits_after:
                try:
                    await asyncio.sleep(1)
                except asyncio.CancelledError:
                    await asyncio.sleep(1)

        service = Service(cancels)
        async with running(policy=policy(concurrency=concurrency)) as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.publish("orders", b"v")
            await asyncio.sleep(1)
        assert service.values == ["v"]
        assert this_task().cancelling() == 0

    @pytest.mark.parametrize("waits_before", [True, False])
    @on_virtual_time
    async def test_cancelling_itself_and_raising_it(self, waits_before: bool) -> None:
        """A handler that cancels its task and does not wait for the effect has failed once."""

        async def cancels(message: Message) -> None:
            if waits_before:
                await asyncio.sleep(1)
            if len(service.got) == 1:
                this_task().cancel()
                raise asyncio.CancelledError

        service = Service(cancels)
        async with running(policy=policy(retries=1)) as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.publish("orders", b"v")
            await asyncio.sleep(1)
        assert service.values == ["v", "v"]
        assert this_task().cancelling() == 0

    @on_virtual_time
    async def test_cancelling_itself_twice_and_taking_it_back(self) -> None:
        """A handler that takes its own cancellation back leaves the publisher's count alone."""

        async def cancels(message: Message) -> None:
            await asyncio.sleep(1)
            this_task().cancel()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                this_task().uncancel()

        async def publishes() -> int:
            this_task().cancel()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await broker.publish("orders", b"v")
            return this_task().cancelling()

        async with running() as broker:
            await broker.subscribe("orders", cancels)
            assert await asyncio.create_task(publishes()) == 1

    @on_virtual_time
    async def test_a_handlers_own_time_limit(self) -> None:
        """A handler can use `asyncio.timeout`, which cancels the task and takes that back."""

        async def limits(message: Message) -> None:
            try:
                async with asyncio.timeout(1):
                    await asyncio.sleep(60)
            except TimeoutError:
                await asyncio.sleep(1)

        service = Service(limits)
        async with running() as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.publish("orders", b"v")
            assert now() == 2.0
        assert service.values == ["v"]
        assert this_task().cancelling() == 0

    @on_virtual_time
    async def test_raising_a_cancellation_for_a_publisher_that_was_cancelled(self) -> None:
        """A handler's own `CancelledError` is its failure, also while the publisher cleans up."""
        service = Service(fails(asyncio.CancelledError(), asyncio.CancelledError()))
        late = Service(lambda message: asyncio.sleep(0))

        async def publishes() -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await broker.publish("orders", b"v")
                done.append("published")
                raise

        done: list[str] = []
        async with running() as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.subscribe("orders", late.on_message, "late")
            task = asyncio.create_task(publishes())
            await turns()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert done == ["published"]
        assert service.values == ["v"] * 3


class TestExits:
    """What ends the process."""

    @pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
    @on_virtual_time
    async def test_it_passes_through_the_publisher(self, error: type[BaseException]) -> None:
        """An exit of an inline run leaves publish(); for the message it is a failed attempt."""

        async def exits(message: Message) -> None:
            if len(service.got) == 2:
                raise error

        service = Service(exits)
        async with running(policy=policy(retry_delay=10.0)) as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.publish("orders", b"u")
            with pytest.raises(error):
                await broker.publish("orders", b"v")
            assert service.values == ["u", "v"]
            await asyncio.sleep(20)
            await broker.publish("orders", b"w")
            assert service.values == ["u", "v", "v", "w"]

    @pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
    def test_it_leaves_the_event_loop(
        self, error: type[BaseException], caplog: pytest.LogCaptureFixture
    ) -> None:
        """An exit in a queued message leaves the event loop."""
        caplog.set_level(logging.CRITICAL)
        loop = VirtualLoop()
        service = Service(fails(error()))

        async def publish() -> None:
            await broker.subscribe("orders", service.on_message, policy=policy(concurrency=2))
            await broker.start()
            await broker.publish("orders", b"v")

        broker = InMemoryMessageBroker()
        publishing = loop.create_task(publish())
        with pytest.raises(error):
            loop.run_until_complete(publishing)
        loop.run_until_complete(publishing)
        assert service.values == ["v", "v"]
        loop.run_until_complete(broker.stop())
        loop.close()


class TestInlineRuns:
    """A handler begins on the stack of its publisher, and goes on in the worker of its lane."""

    @on_virtual_time
    async def test_nothing_else_has_a_turn(self) -> None:
        """A publish to an idle lane returns before anything else of the event loop runs."""
        service, turn = Service(), list[str]()
        async with running() as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.publish("orders", b"u")
            asyncio.get_running_loop().call_soon(turn.append, "turn")
            await broker.publish("orders", b"v")
            assert (service.values, turn) == (["u", "v"], [])

    @pytest.mark.parametrize("published_before", [True, False])
    @on_virtual_time
    async def test_one_task_and_one_context(self, published_before: bool) -> None:
        """A handler has one task, not its publisher's, and its own context, before and after."""
        seen: list[tuple[object, str]] = []

        async def handle(message: Message) -> None:
            seen.append((this_task(), variable.get("")))
            variable.set("handler")
            await asyncio.sleep(1)
            seen.append((this_task(), variable.get("")))

        variable: ContextVar[str] = ContextVar("variable")
        async with running() as broker:
            await broker.subscribe("orders", handle)
            if published_before:
                await broker.publish("orders", b"u")
                variable.set("publisher")
                seen.clear()
            publisher = this_task()
            await broker.publish("orders", b"v")
            assert this_task() is publisher
        (before, one), (after, other) = seen
        assert before is after is not publisher
        assert (one, other) == ("", "handler")

    @on_virtual_time
    async def test_what_comes_meanwhile_waits(self) -> None:
        """What a handler sets off before it waits is handled after it."""
        log: list[str] = []

        async def handle(message: Message) -> None:
            value = message.value.decode()
            if value == "a":
                await broker.publish("orders", b"b")
                await asyncio.sleep(1)
            log.append(value)

        async with running() as broker:
            await broker.subscribe("orders", handle)
            await broker.publish("orders", b"-")
            await broker.publish("orders", b"a")
        assert log == ["-", "a", "b"]

    @on_virtual_time
    async def test_a_stop_before_the_worker_has_its_turn(self) -> None:
        """A handler that has begun inline ends in its worker, also if the broker stops at once."""
        service = Service(lambda message: asyncio.sleep(int(message.value)))
        broker = InMemoryMessageBroker()
        await broker.subscribe("orders", service.on_message)
        await broker.start()
        await broker.publish("orders", b"0")
        publishing = asyncio.create_task(broker.publish("orders", b"5"))
        stopping = asyncio.create_task(broker.stop())
        await asyncio.gather(publishing, stopping)
        assert (now(), service.values, service.running) == (5.0, ["0", "5"], 0)

    @on_virtual_time
    async def test_a_handler_that_cancels_its_task_and_waits_for_another(self) -> None:
        """As in any task, the cancellation reaches what the handler waits for."""
        inner: list[asyncio.Task[None]] = []

        async def handle(message: Message) -> None:
            if message.value == b"v" and not inner:
                this_task().cancel()
                inner.append(asyncio.create_task(asyncio.sleep(60)))
                await inner[0]

        service = Service(handle)
        async with running() as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.publish("orders", b"u")
            await broker.publish("orders", b"v")
            await asyncio.sleep(1)
        assert service.values == ["u", "v", "v"]
        assert inner[0].cancelled()
