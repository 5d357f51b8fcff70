"""A publish inside a handler."""

from __future__ import annotations

import asyncio

import pytest

from pyfly_messaging.adapters.memory import InMemoryMessageBroker
from pyfly_messaging.message import Message
from pyfly_messaging.ports import MessageHandler
from tests.adapters.memory.samples import (
    Service,
    now,
    policy,
    running,
)
from tests.delivery.clock import on_virtual_time


class TestPublishInsideAHandler:
    """A publish made inside a handler is queued; the outermost one waits for all it set off."""

    @pytest.mark.parametrize("concurrency", [1, 2, 5])
    @on_virtual_time
    async def test_to_its_own_topic(self, concurrency: int) -> None:
        """A handler can publish to the topic that it listens to."""

        async def countdown(message: Message) -> None:
            number = int(message.value)
            if number:
                await broker.publish("orders", str(number - 1).encode())
                events.append(f"published {number - 1}")
            await asyncio.sleep(1)
            events.append(f"handled {number}")

        events: list[str] = []
        async with running(policy=policy(concurrency=concurrency)) as broker:
            await broker.subscribe("orders", countdown, "group")
            await broker.publish("orders", b"3")
            assert len(events) == 7
            assert events.index("published 2") < events.index("handled 3")
            assert "handled 0" in events

    @pytest.mark.parametrize("concurrency", [1, 2, 5])
    @on_virtual_time
    async def test_a_chain(self, concurrency: int) -> None:
        """The outermost publish waits for the end of a chain through several topics."""

        async def forward(message: Message) -> None:
            await asyncio.sleep(1)
            await broker.publish(next_topic[message.topic], message.value)

        next_topic = {"a": "b", "b": "c", "c": "d"}
        last = Service(lambda message: asyncio.sleep(1))
        async with running(policy=policy(concurrency=concurrency)) as broker:
            for topic in next_topic:
                await broker.subscribe(topic, forward, "group")
            await broker.subscribe("d", last.on_message, "group")
            await asyncio.gather(broker.publish("a", b"1"), broker.publish("a", b"2"))
            assert sorted(last.values) == ["1", "2"]

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_in_a_circle(self, concurrency: int) -> None:
        """Two listeners that publish to each other wait for each other no more than once."""

        async def ping(message: Message) -> None:
            log.append(message.topic)
            if len(log) < 6:
                await broker.publish("pong" if message.topic == "ping" else "ping", b"x")

        async def pong(message: Message) -> None:
            await ping(message)

        log: list[str] = []
        async with running(policy=policy(concurrency=concurrency)) as broker:
            await broker.subscribe("ping", ping)
            await broker.subscribe("pong", pong)
            await broker.publish("ping", b"x")
            assert log == ["ping", "pong"] * 3

    @pytest.mark.parametrize("concurrency", [1, 3])
    @on_virtual_time
    async def test_a_fan_out(self, concurrency: int) -> None:
        """The outermost publish waits for all messages that a handler sends out at once."""
        parts = Service(lambda message: asyncio.sleep(1))

        async def split(message: Message) -> None:
            await asyncio.gather(
                *(broker.publish("parts", str(number).encode()) for number in range(5))
            )

        async with running(policy=policy(concurrency=concurrency)) as broker:
            await broker.subscribe("orders", split)
            await broker.subscribe("parts", parts.on_message, "one")
            await broker.subscribe("parts", Service().on_message, "two")
            await broker.publish("orders", b"all")
            assert sorted(parts.values) == list("01234")
            assert now() == (5.0 if concurrency == 1 else 2.0)

    @on_virtual_time
    async def test_order_is_kept(self) -> None:
        """What a handler publishes is handled in the order in which it was published."""
        parts = Service()

        async def split(message: Message) -> None:
            for number in range(5):
                await broker.publish("parts", str(number).encode())
                await asyncio.sleep(1 if number == 2 else 0)

        async with running() as broker:
            await broker.subscribe("orders", split)
            await broker.subscribe("parts", parts.on_message)
            await broker.publish("orders", b"all")
        assert parts.values == list("01234")

    @on_virtual_time
    async def test_by_a_task_of_the_handler(self) -> None:
        """While the outermost publish goes on, a task of the handler is part of it."""
        parts = Service(lambda message: asyncio.sleep(1))
        published_at: list[float] = []

        async def later() -> None:
            await broker.publish("orders", b"second")
            published_at.append(now())

        async def split(message: Message) -> None:
            if message.value == b"first":
                await asyncio.create_task(later())
                await broker.publish("parts", b"part")

        async with running() as broker:
            await broker.subscribe("orders", split)
            await broker.subscribe("parts", parts.on_message)
            await broker.publish("orders", b"first")
            assert published_at == [0.0]
            assert (parts.values, now()) == (["part"], 1.0)

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_by_a_task_that_the_handler_leaves_behind(self, concurrency: int) -> None:
        """When the outermost publish is over, what the handler left behind waits for itself."""
        parts = Service(lambda message: asyncio.sleep(5))
        background: list[asyncio.Task[None]] = []
        published_at: list[float] = []

        async def later() -> None:
            await asyncio.sleep(10)
            await broker.publish("parts", b"part")
            published_at.append(now())

        async def leaves(message: Message) -> None:
            background.append(asyncio.create_task(later()))

        async with running(policy=policy(concurrency=concurrency)) as broker:
            await broker.subscribe("orders", leaves)
            await broker.subscribe("parts", parts.on_message)
            await broker.publish("orders", b"first")
            assert now() == 0.0
            await broker.publish("orders", b"second")
            await asyncio.gather(*background)
            assert parts.values == ["part", "part"]
            assert published_at == ([15.0, 20.0] if concurrency == 1 else [15.0, 15.0])

    @on_virtual_time
    async def test_tasks_that_leave_tasks_behind_do_not_pile_up(self) -> None:
        """Publications that are over are forgotten, however long a chain of tasks becomes."""
        tasks: list[asyncio.Task[None]] = []
        depths: list[int] = []

        async def again(message: Message) -> None:
            depths.append(depth())
            if len(tasks) < 50:
                tasks.append(asyncio.create_task(broker.publish("orders", b"x")))

        def depth() -> int:
            from pyfly_messaging.adapters.memory.publication import current

            found, number = current.get(None), 0
            while found is not None:
                found, number = found.outer, number + 1
            return number

        async with running() as broker:
            await broker.subscribe("orders", again)
            await broker.publish("orders", b"x")
            while len(tasks) < 50:
                await asyncio.sleep(0)
            await asyncio.gather(*tasks)
        assert max(depths) == 1

    @on_virtual_time
    async def test_between_two_brokers(self) -> None:
        """Handlers of two brokers can publish to each other and set off more at the first."""

        def bridge(target: InMemoryMessageBroker) -> MessageHandler:
            async def forward(message: Message) -> None:
                log.append(message.value.decode())
                if len(log) < 6:
                    await asyncio.sleep(0)
                    await target.publish("orders", str(len(log)).encode())

            return forward

        log: list[str] = []
        async with running() as one, running() as other:
            await one.subscribe("orders", bridge(other))
            await other.subscribe("orders", bridge(one))
            await one.publish("orders", b"0")
            assert log == list("012345")
            assert now() == 0.0

    @on_virtual_time
    async def test_two_brokers_do_not_mix(self) -> None:
        """A message reaches the listeners of the broker where it was published, and no others."""
        here, there = Service(), Service()
        async with running() as one, running() as other:
            await one.subscribe("orders", here.on_message, "group")
            await other.subscribe("orders", there.on_message, "group")
            await one.publish("orders", b"a")
            await other.publish("orders", b"b")
        assert (here.values, there.values) == (["a"], ["b"])

    @on_virtual_time
    async def test_a_publish_on_another_broker_waits(self) -> None:
        """Inside a handler, a publish on another broker returns when that one has settled it."""
        slow = Service(lambda message: asyncio.sleep(3))
        published_at: list[float] = []

        async def forward(message: Message) -> None:
            await other.publish("orders", message.value)
            published_at.append(now())

        async with running() as one, running() as other:
            await one.subscribe("orders", forward)
            await other.subscribe("orders", slow.on_message)
            await one.publish("orders", b"a")
        assert published_at == [3.0]
