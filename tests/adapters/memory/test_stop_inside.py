"""A handler that stops its own broker."""

from __future__ import annotations

import asyncio

import pytest

from pyfly_messaging.adapters.memory import InMemoryMessageBroker
from pyfly_messaging.errors import PublishError
from pyfly_messaging.message import Message
from pyfly_messaging.policy import Timeouts
from tests.adapters.memory.samples import (
    STOPPED,
    Service,
    now,
    others,
    policy,
)
from tests.delivery.clock import VirtualLoop, on_virtual_time, turns


class TestStopInsideAHandler:
    """A stop does not wait for the handler that calls it."""

    @pytest.mark.parametrize("waits_before", [True, False])
    @pytest.mark.parametrize("groups", [1, 2])
    @on_virtual_time
    async def test_a_handler_that_stops_the_broker(self, groups: int, waits_before: bool) -> None:
        """A handler can stop the broker: that does not wait for it; its message comes again."""

        async def stops(message: Message) -> None:
            if len(service.got) == 1:
                if waits_before:
                    await asyncio.sleep(1)
                await broker.stop()
                stopped_at.append(now())

        stopped_at: list[float] = []
        other = Service(lambda message: asyncio.sleep(100))
        service = Service(stops)
        broker = InMemoryMessageBroker(timeouts=Timeouts(shutdown=3.0))
        await broker.subscribe("orders", service.on_message, "one")
        if groups == 2:
            await broker.subscribe("orders", other.on_message, "two")
        await broker.start()
        publishing = asyncio.create_task(broker.publish("orders", b"v"))
        with pytest.raises(PublishError, match=STOPPED):
            await publishing
        await turns()
        expected = (3.0 if groups == 2 else 0.0) + (1.0 if waits_before else 0.0)
        assert stopped_at == [expected]
        assert others() == set()
        await broker.start()
        await turns()
        assert service.values == ["v", "v"]
        assert other.values == ["v", "v"] * (groups - 1)
        await broker.stop()

    @on_virtual_time
    async def test_a_handler_that_stops_the_broker_and_fails(self) -> None:
        """A handler that fails after it has stopped the broker gets its message again."""

        async def stops(message: Message) -> None:
            if len(service.got) == 1:
                await broker.stop()
                raise ValueError("after the stop")

        service = Service(stops)
        broker = InMemoryMessageBroker()
        await broker.subscribe("orders", service.on_message)
        await broker.start()
        with pytest.raises(PublishError, match=STOPPED):
            await broker.publish("orders", b"v")
        assert service.values == ["v"]
        await broker.start()
        await turns()
        assert service.values == ["v", "v"]
        await broker.stop()

    @pytest.mark.parametrize("concurrency", [1, 2])
    @pytest.mark.parametrize("waits_before", [True, False])
    @on_virtual_time
    async def test_a_handler_that_stops_the_broker_in_another_task(
        self, waits_before: bool, concurrency: int
    ) -> None:
        """A stop waits for other handlers, but not for the one whose task calls it."""

        async def stops(message: Message) -> None:
            if waits_before:
                await asyncio.sleep(1)
            await asyncio.gather(broker.stop(), asyncio.sleep(0))
            stopped_at.append(now())

        stopped_at: list[float] = []
        service, other = Service(stops), Service(lambda message: asyncio.sleep(5))
        broker = InMemoryMessageBroker(policy=policy(concurrency=concurrency))
        await broker.subscribe("orders", service.on_message, "one")
        await broker.subscribe("orders", other.on_message, "two")
        await broker.start()
        publishing = asyncio.create_task(broker.publish("orders", b"v"))
        with pytest.raises(PublishError, match=STOPPED):
            await publishing
        await turns()
        assert stopped_at == [5.0]
        assert (service.values, other.values) == (["v"], ["v"])

    @on_virtual_time
    async def test_two_handlers_that_stop_the_broker(self) -> None:
        """The stop of the second handler returns at once; the message of the first comes again."""

        async def stops(message: Message) -> None:
            if len(service.got) < 3:
                await asyncio.sleep(1 + len(message.topic))
                await broker.stop()
                stopped_at.append(now())

        stopped_at: list[float] = []
        service = Service(stops)
        broker = InMemoryMessageBroker()
        await broker.subscribe("o", service.on_message, "one")
        await broker.subscribe("oo", service.on_message, "two")
        await broker.start()
        publishes = [broker.publish("o", b"1"), broker.publish("oo", b"2")]
        outcomes = await asyncio.gather(*publishes, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [PublishError, type(None)]
        assert stopped_at == [3.0, 3.0]
        await broker.start()
        await turns()
        assert len(service.got) == 3
        await broker.stop()

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_a_queued_handler_that_stops_the_broker(self, concurrency: int) -> None:
        """In a worker too, a stop does not wait for the handler that calls it."""

        async def forward(message: Message) -> None:
            await broker.publish("inner", message.value)

        async def stops(message: Message) -> None:
            if len(service.got) == 1:
                await broker.stop()
                stopped_at.append(now())

        stopped_at: list[float] = []
        service = Service(stops)
        broker = InMemoryMessageBroker(policy=policy(concurrency=concurrency))
        await broker.subscribe("orders", forward)
        await broker.subscribe("inner", service.on_message)
        await broker.start()
        with pytest.raises(PublishError, match=STOPPED):
            await broker.publish("orders", b"v")
        await turns()
        assert stopped_at == [0.0]
        assert others() == set()
        await broker.start()
        await turns()
        assert service.values == ["v", "v"]
        await broker.stop()

    @on_virtual_time
    async def test_what_it_leaves_comes_first(self) -> None:
        """Its message, when it fails, comes before those that waited for it."""

        async def stops(message: Message) -> None:
            if len(service.got) == 1:
                await asyncio.sleep(1)
                await broker.stop()
                raise ValueError("after the stop")

        service = Service(stops)
        broker = InMemoryMessageBroker(policy=policy())
        await broker.subscribe("orders", service.on_message)
        await broker.start()
        publishes = [asyncio.create_task(broker.publish("orders", value)) for value in (b"1", b"2")]
        for publishing in publishes:
            with pytest.raises(PublishError, match=STOPPED):
                await publishing
        await broker.start()
        await turns()
        assert service.values == ["1", "1", "2"]
        await broker.stop()

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_a_queued_handler_and_busy_listeners(self, concurrency: int) -> None:
        """The other listeners are drained, each message is kept, and nothing is left behind."""

        async def stops(message: Message) -> None:
            if len(service.got) == 1:
                await broker.stop()
                stopped_at.append(now())

        stopped_at: list[float] = []
        service = Service(stops)
        busy = [Service(lambda message: asyncio.sleep(100)) for _ in range(2)]
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        broker = InMemoryMessageBroker(
            timeouts=Timeouts(shutdown=3.0), policy=policy(concurrency=concurrency)
        )
        await broker.subscribe("orders", busy[0].on_message, "one")
        await broker.subscribe("orders", service.on_message, "two")
        await broker.subscribe("orders", busy[1].on_message, "three")
        await broker.start()
        with pytest.raises(PublishError, match=STOPPED):
            await broker.publish("orders", b"v")
        await turns()
        assert stopped_at == [3.0]
        assert [consumer.in_flight for consumer in broker.health().consumers] == [1, 1, 1]
        assert (others(), loop.timers(), broker._waits) == (set(), [], set())
        await broker.start()
        await turns()
        assert [each.values for each in (service, *busy)] == [["v", "v"]] * 3
        await broker.stop()

    @on_virtual_time
    async def test_and_starts_it_again(self) -> None:
        """A handler that outlives its lanes is not disturbed by those that follow."""

        async def restarts(message: Message) -> None:
            log.append(f"{message.value.decode()} begins")
            if len(log) == 1:
                await broker.stop()
                await broker.start()
                slept.append(await asyncio.sleep(1, "slept"))
            log.append(f"{message.value.decode()} ends")

        log: list[str] = []
        slept: list[str] = []
        broker = InMemoryMessageBroker()
        await broker.subscribe("orders", restarts)
        await broker.start()
        publishing = asyncio.create_task(broker.publish("orders", b"1"))
        await turns()
        with pytest.raises(PublishError, match=STOPPED):
            await publishing
        await broker.publish("orders", b"2")
        await asyncio.sleep(1)
        assert log == ["1 begins", "1 begins", "1 ends", "2 begins", "2 ends", "1 ends"]
        assert slept == ["slept"]
        await broker.stop()
