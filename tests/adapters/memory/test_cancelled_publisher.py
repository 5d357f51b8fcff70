"""Publishers that are cancelled."""

from __future__ import annotations

import asyncio

import pytest

from pyfly_messaging.message import Message
from tests.adapters.memory.samples import (
    Service,
    now,
    policy,
    running,
    this_task,
)
from tests.delivery.clock import on_virtual_time


class TestCancelledPublisher:
    """A publisher that is cancelled has published all the same."""

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_no_group_loses_the_message(self, concurrency: int) -> None:
        """Cancelling the task that publishes loses the message for no group."""
        services = [Service(lambda message: asyncio.sleep(10)) for _ in range(3)]
        async with running(policy=policy(concurrency=concurrency)) as broker:
            for number, service in enumerate(services):
                await broker.subscribe("orders", service.on_message, f"group-{number}")
            publishing = asyncio.create_task(broker.publish("orders", b"v"))
            await asyncio.sleep(1)
            publishing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await publishing
            assert now() == 1.0
            await asyncio.sleep(30)
        assert [service.values for service in services] == [["v"]] * 3
        assert [service.running for service in services] == [0, 0, 0]

    @on_virtual_time
    async def test_a_time_limit_around_publish(self) -> None:
        """`asyncio.timeout` around a publish is a TimeoutError, and the message goes on."""
        service = Service(lambda message: asyncio.sleep(10))
        async with running() as broker:
            await broker.subscribe("orders", service.on_message)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(4):
                    await broker.publish("orders", b"v")
            assert (now(), this_task().cancelling()) == (4.0, 0)
            await asyncio.sleep(11)
        assert service.values == ["v"]
        assert service.running == 0

    @on_virtual_time
    async def test_it_is_no_failed_attempt(self) -> None:
        """The attempt goes on when the publisher is cancelled."""
        service = Service(lambda message: asyncio.sleep(2))
        async with running(policy=policy(retries=0)) as broker:
            await broker.subscribe("orders", service.on_message)
            publishing = asyncio.create_task(broker.publish("orders", b"v"))
            await asyncio.sleep(1)
            publishing.cancel()
            await asyncio.sleep(10)
            assert publishing.cancelled()
        assert service.values == ["v"]
        assert not broker.dead_letters

    @on_virtual_time
    async def test_during_a_retry_that_follows_at_once(self) -> None:
        """A retry goes on when the publisher is cancelled, and keeps its number."""

        async def act(message: Message) -> None:
            if len(service.got) == 1:
                raise ValueError("first")
            await asyncio.sleep(5)
            raise ValueError("second")

        service = Service(act)
        async with running(skip_retry_delays=True, policy=policy(retries=1)) as broker:
            await broker.subscribe("orders", service.on_message)
            publishing = asyncio.create_task(broker.publish("orders", b"v"))
            await asyncio.sleep(1)
            publishing.cancel()
            await asyncio.sleep(10)
            assert publishing.cancelled()
        assert service.values == ["v"] * 2
        assert broker.dead_letters[0].headers["x-pyfly-attempts"] == "2"

    @on_virtual_time
    async def test_right_after_the_handlers_own_cancellation(self) -> None:
        """A publisher is cancelled by others while its handler cancels itself."""

        async def cancels(message: Message) -> None:
            await asyncio.sleep(1)
            this_task().cancel()
            loop.call_soon(publishing.cancel)

        loop = asyncio.get_running_loop()
        service = Service(cancels)
        async with running() as broker:
            await broker.subscribe("orders", service.on_message)
            publishing = asyncio.create_task(broker.publish("orders", b"v"))
            with pytest.raises(asyncio.CancelledError):
                await publishing
            assert publishing.cancelling() == 1
            await asyncio.sleep(1)
        assert service.values == ["v"]

    @on_virtual_time
    async def test_before_it_publishes(self) -> None:
        """A cancellation that is still to be delivered is the publisher's, not the handler's."""

        async def publishes() -> None:
            this_task().cancel()
            await broker.publish("orders", b"v")

        service = Service(lambda message: asyncio.sleep(1))
        async with running(policy=policy(retries=0)) as broker:
            await broker.subscribe("orders", service.on_message)
            publishing = asyncio.create_task(publishes())
            with pytest.raises(asyncio.CancelledError):
                await publishing
            await asyncio.sleep(2)
        assert service.values == ["v"]
        assert not broker.dead_letters

    @on_virtual_time
    async def test_by_its_own_handler_on_another_broker(self) -> None:
        """What a handler cancels before it publishes elsewhere fails itself and nobody else."""

        async def forward(message: Message) -> None:
            if len(outer.got) == 1:
                this_task().cancel()
            await other.publish("orders", message.value)

        outer, inner = Service(forward), Service(lambda message: asyncio.sleep(1))
        async with running() as one, running(policy=policy(retries=0)) as other:
            await one.subscribe("orders", outer.on_message)
            await other.subscribe("orders", inner.on_message)
            await one.publish("orders", b"v")
        assert (outer.values, inner.values) == (["v", "v"], ["v", "v"])
        assert not other.dead_letters
