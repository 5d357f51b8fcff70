"""Start, stop, and what is kept in between."""

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
    fails,
    now,
    others,
    policy,
    running,
)
from tests.delivery.clock import VirtualLoop, on_virtual_time, turns


class TestStartAndStop:
    """Start, stop, and what is kept in between."""

    @on_virtual_time
    async def test_both_are_idempotent(self) -> None:
        """A second start or stop changes nothing, and a stop before any start neither."""
        service = Service()
        broker = InMemoryMessageBroker()
        await broker.stop()
        await broker.subscribe("orders", service.on_message)
        await broker.start()
        await broker.start()
        await broker.publish("orders", b"v")
        await broker.stop()
        await broker.stop()
        assert service.values == ["v"]
        assert others() == set()

    @on_virtual_time
    async def test_a_stop_lets_handlers_finish(self) -> None:
        """A handler that ends within the deadline settles its message, and publish returns."""
        service = Service(lambda message: asyncio.sleep(10))
        broker = InMemoryMessageBroker(timeouts=Timeouts(shutdown=30.0))
        await broker.subscribe("orders", service.on_message)
        await broker.start()
        publishing = asyncio.create_task(broker.publish("orders", b"v"))
        await asyncio.sleep(1)
        await broker.stop()
        assert now() == 10.0
        assert service.running == 0
        await publishing
        await broker.start()
        await asyncio.sleep(100)
        await broker.stop()
        assert service.values == ["v"]

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_a_stop_cancels_after_its_deadline(self, concurrency: int) -> None:
        """A handler over the deadline is cancelled; publish raises, the message is kept."""
        service = Service(lambda message: asyncio.sleep(1_000))
        broker = InMemoryMessageBroker(
            timeouts=Timeouts(shutdown=4.0, publish=60.0), policy=policy(concurrency=concurrency)
        )
        await broker.subscribe("orders", service.on_message)
        await broker.start()
        publishing = asyncio.create_task(broker.publish("orders", b"v"))
        await turns()
        await broker.stop()
        assert now() == 4.0
        assert service.running == 0
        with pytest.raises(PublishError, match=STOPPED):
            await publishing
        assert others() == set()
        await broker.start()
        await turns()
        assert service.values == ["v", "v"]
        await broker.stop()

    @on_virtual_time
    async def test_one_deadline_for_all_listeners(self) -> None:
        """All listeners are drained at the same time, within one deadline."""
        services = [Service(lambda message: asyncio.sleep(1_000)) for _ in range(4)]
        broker = InMemoryMessageBroker(timeouts=Timeouts(shutdown=4.0))
        for number, service in enumerate(services):
            await broker.subscribe(f"orders-{number}", service.on_message)
        await broker.start()
        publishes = [
            asyncio.create_task(broker.publish(f"orders-{number}", b"v")) for number in range(4)
        ]
        await turns()
        await broker.stop()
        assert now() == 4.0
        for publishing in publishes:
            with pytest.raises(PublishError):
                await publishing

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_messages_are_kept_in_order(self, concurrency: int) -> None:
        """What was not settled at a stop is delivered after the next start, in order, first."""
        services = [Service(lambda message: asyncio.sleep(10)), Service()]
        broker = InMemoryMessageBroker(
            policy=policy(concurrency=concurrency), timeouts=Timeouts(publish=1_000.0)
        )
        for number, service in enumerate(services):
            await broker.subscribe("orders", service.on_message, f"group-{number}")
        await broker.start()
        publishes = [
            asyncio.create_task(broker.publish("orders", str(number).encode(), key=b"k"))
            for number in range(4)
        ]
        await asyncio.sleep(1)
        await broker.stop()
        results = await asyncio.gather(*publishes, return_exceptions=True)
        assert [type(result) for result in results] == [type(None), *[PublishError] * 3]
        assert [service.values for service in services] == [["0"], ["0", "1", "2", "3"]]
        await broker.start()
        await asyncio.sleep(0.5)
        await broker.publish("orders", b"4", key=b"k")
        assert [service.values for service in services] == [list("01234"), list("01234")]
        await broker.stop()

    @on_virtual_time
    async def test_a_message_between_two_attempts_is_kept(self) -> None:
        """A stop cuts a pause short; after the next start the attempts begin anew."""
        service = Service(fails(ValueError()))
        broker = InMemoryMessageBroker(policy=policy(retry_delay=20.0))
        await broker.subscribe("orders", service.on_message)
        await broker.start()
        publishing = asyncio.create_task(broker.publish("orders", b"v"))
        await asyncio.sleep(1)
        await broker.stop()
        assert now() == 1.0
        with pytest.raises(PublishError, match=STOPPED):
            await publishing
        await broker.start()
        await turns()
        await broker.stop()
        assert service.values == ["v", "v"]

    @on_virtual_time
    async def test_a_handler_that_fails_while_it_stops(self) -> None:
        """An attempt that fails during a stop is not followed by another one, even at once."""

        async def fails_late(message: Message) -> None:
            await asyncio.sleep(5)
            raise ValueError(message)

        service = Service(fails_late)
        broker = InMemoryMessageBroker(policy=policy(retry_delay=0.0))
        await broker.subscribe("orders", service.on_message)
        await broker.start()
        publishing = asyncio.create_task(broker.publish("orders", b"v"))
        await asyncio.sleep(1)
        await broker.stop()
        assert now() == 5.0
        with pytest.raises(PublishError, match=STOPPED):
            await publishing
        assert service.values == ["v"]
        assert broker.health().consumers[0].in_flight == 1

    @on_virtual_time
    async def test_handlers_may_publish_while_they_finish(self) -> None:
        """What a handler publishes while the broker stops is kept for the next start."""
        parts = Service()

        async def split(message: Message) -> None:
            await asyncio.sleep(5)
            await broker.publish("parts", b"part")

        broker = InMemoryMessageBroker()
        await broker.subscribe("orders", split)
        await broker.subscribe("parts", parts.on_message)
        await broker.start()
        publishing = asyncio.create_task(broker.publish("orders", b"v"))
        await asyncio.sleep(1)
        await broker.stop()
        with pytest.raises(PublishError, match=STOPPED):
            await publishing
        assert parts.values == []
        await broker.start()
        await turns()
        assert parts.values == ["part"]
        await broker.stop()

    @on_virtual_time
    async def test_subscribing_while_it_stops(self) -> None:
        """A handler that is subscribed while the broker stops begins with the next start."""
        late = Service()

        async def subscribes(message: Message) -> None:
            await asyncio.sleep(5)
            await broker.subscribe("late", late.on_message)
            await broker.publish("late", b"part")

        broker = InMemoryMessageBroker()
        await broker.subscribe("orders", subscribes)
        await broker.start()
        publishing = asyncio.create_task(broker.publish("orders", b"v"))
        await asyncio.sleep(1)
        await broker.stop()
        with pytest.raises(PublishError):
            await publishing
        await asyncio.sleep(1)
        assert late.values == []
        assert others() == set()
        await broker.start()
        await turns()
        assert late.values == ["part"]
        await broker.stop()

    @on_virtual_time
    async def test_a_handler_that_outlasts_a_stop(self, caplog: pytest.LogCaptureFixture) -> None:
        """A handler that ignores its cancellation and then fails gets its message again."""
        released = asyncio.Event()

        async def deaf(message: Message) -> None:
            if len(service.got) > 1:
                return
            while not released.is_set():
                try:
                    await released.wait()
                except asyncio.CancelledError:
                    continue
            raise ValueError("at last")

        service = Service(deaf)
        broker = InMemoryMessageBroker(
            timeouts=Timeouts(shutdown=1.0, publish=100.0), policy=policy()
        )
        await broker.subscribe("orders", service.on_message)
        await broker.start()
        publishing = asyncio.create_task(broker.publish("orders", b"v"))
        await turns()
        await broker.stop()
        assert now() == 11.0
        assert "ignores its cancellation" in caplog.text
        await broker.start()
        released.set()
        with pytest.raises(PublishError, match=STOPPED):
            await publishing
        await turns()
        assert service.values == ["v", "v"]
        await broker.stop()

    @on_virtual_time
    async def test_a_stop_that_was_cancelled(self) -> None:
        """A stop that is cancelled waits for no handler, and is over; a start delivers again."""
        service = Service(lambda message: asyncio.sleep(10))
        broker = InMemoryMessageBroker()
        await broker.subscribe("orders", service.on_message)
        await broker.subscribe("idle", service.on_message)
        await broker.start()
        publishing = asyncio.create_task(broker.publish("orders", b"v"))
        await turns()
        stopping = asyncio.create_task(broker.stop())
        await turns()
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        with pytest.raises(PublishError, match="stopped"):
            await publishing
        await broker.stop()
        assert service.values == ["v"]
        await broker.start()
        await broker.publish("orders", b"w")
        await broker.stop()
        assert service.values == ["v", "v", "w"]

    @on_virtual_time
    async def test_nothing_is_left_behind(self) -> None:
        """After a stop there is no task and no timer of the broker's."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        before = others()
        flaky = Service(fails(*[ValueError()] * 2))
        async with running(policy=policy(retry_delay=5.0)) as broker:
            await broker.subscribe("orders", flaky.on_message, "one")
            await broker.subscribe(
                "orders", Service().on_message, "two", policy=policy(concurrency=3)
            )
            await broker.publish("orders", b"v")
        assert others() == before
        assert loop.timers() == []
        assert not broker._waits
