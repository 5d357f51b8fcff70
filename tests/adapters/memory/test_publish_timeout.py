"""Publishes that are not settled in time."""

from __future__ import annotations

import asyncio

import pytest

from pyfly_messaging.errors import PublishError
from pyfly_messaging.message import Message
from pyfly_messaging.policy import Timeouts
from tests.adapters.memory.samples import (
    Service,
    fails,
    now,
    policy,
    running,
    this_task,
)
from tests.delivery.clock import on_virtual_time, turns


class TestPublishTimeout:
    """A publish that is not settled within publish-timeout raises; its message goes on."""

    @on_virtual_time
    async def test_a_handler_that_never_ends(self) -> None:
        """The handler goes on after its publish has raised."""
        attempts: list[float] = []

        async def endless(message: Message) -> None:
            attempts.append(now())
            await asyncio.sleep(100)
            ended.append(now())

        ended: list[float] = []
        async with running(timeouts=Timeouts(publish=7.0, shutdown=1_000.0)) as broker:
            await broker.subscribe("orders", endless)
            with pytest.raises(PublishError, match=r"within 7 s \(publish-timeout\); it is kept"):
                await broker.publish("orders", b"v")
            assert now() == 7.0
            assert this_task().cancelling() == 0
        assert attempts == [0.0]
        assert ended == [100.0]

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_a_message_in_the_queue(self, concurrency: int) -> None:
        """A message that waits for its turn is handled after its publish has raised."""
        service = Service(lambda message: asyncio.sleep(20))
        timeouts = Timeouts(publish=30.0, shutdown=1_000.0)
        async with running(timeouts=timeouts, policy=policy(concurrency=concurrency)) as broker:
            await broker.subscribe("orders", service.on_message)
            results = await asyncio.gather(
                *(broker.publish("orders", str(number).encode(), key=b"k") for number in range(3)),
                return_exceptions=True,
            )
            assert now() == 30.0
            assert len(service.got) == 2
            await asyncio.sleep(60)
        assert results[0] is None
        assert [type(result) for result in results[1:]] == [PublishError, PublishError]
        assert service.values == ["0", "1", "2"]

    @on_virtual_time
    async def test_a_retry(self) -> None:
        """A message that waits for its next attempt gets it after its publish has raised."""
        service = Service(fails(ValueError()))
        async with running(policy=policy(retry_delay=31.0, retry_max_delay=60.0)) as broker:
            await broker.subscribe("orders", service.on_message)
            with pytest.raises(PublishError):
                await broker.publish("orders", b"v")
            assert (service.values, now()) == (["v"], 30.0)
            await asyncio.sleep(2)
            assert service.values == ["v", "v"]

    @on_virtual_time
    async def test_another_group(self) -> None:
        """A publish whose own handler has ended raises in time, and is not cancelled."""
        quick, slow = Service(lambda _: asyncio.sleep(1)), Service(lambda _: asyncio.sleep(60))
        async with running(timeouts=Timeouts(publish=5.0, shutdown=1.0)) as broker:
            await broker.subscribe("orders", quick.on_message, "quick")
            await broker.subscribe("orders", slow.on_message, "slow")
            with pytest.raises(PublishError):
                await broker.publish("orders", b"v")
            assert now() == 5.0
            await turns()
            assert this_task().cancelling() == 0

    @on_virtual_time
    async def test_after_a_time_limit_of_the_handlers_own(self) -> None:
        """A time limit that the handler has set and met before changes nothing."""

        async def endless(message: Message) -> None:
            try:
                async with asyncio.timeout(1):
                    await asyncio.sleep(60)
            except TimeoutError:
                await asyncio.sleep(60)

        async with running(timeouts=Timeouts(publish=5.0, shutdown=1.0)) as broker:
            await broker.subscribe("orders", endless)
            with pytest.raises(PublishError):
                await broker.publish("orders", b"v")
            assert (now(), this_task().cancelling()) == (5.0, 0)

    @on_virtual_time
    async def test_while_the_publisher_cleans_up(self) -> None:
        """A publisher that was cancelled before gets its PublishError all the same."""
        seen: list[tuple[str, int]] = []

        async def publishes() -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                try:
                    await broker.publish("orders", b"v")
                except PublishError:
                    seen.append(("refused", this_task().cancelling()))
                raise

        slow = Service(lambda message: asyncio.sleep(60))
        async with running(timeouts=Timeouts(publish=5.0, shutdown=1.0)) as broker:
            await broker.subscribe("orders", slow.on_message)
            publishing = asyncio.create_task(publishes())
            await turns()
            publishing.cancel()
            await asyncio.wait((publishing,))
        assert seen == [("refused", 1)]

    @on_virtual_time
    async def test_every_publish_has_its_own(self) -> None:
        """Publishes that begin later raise later."""
        raised_at: list[float] = []
        timeouts = Timeouts(publish=10.0, shutdown=1.0)
        async with running(timeouts=timeouts, policy=policy(concurrency=5)) as broker:
            await broker.subscribe("orders", Service(lambda _: asyncio.sleep(60)).on_message)

            async def publish() -> None:
                with pytest.raises(PublishError):
                    await broker.publish("orders", b"v")
                raised_at.append(now())

            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(publish())
                    await asyncio.sleep(2)
        assert raised_at == [10.0, 12.0, 14.0]

    @on_virtual_time
    async def test_what_is_set_off_later_is_still_part_of_it(self) -> None:
        """A handler that outlasts its publish can still publish to its own topic."""
        parts = Service()

        async def split(message: Message) -> None:
            await asyncio.sleep(20)
            if message.value == b"v":
                await broker.publish("orders", b"w")

        service = Service(split)
        timeouts = Timeouts(publish=30.0, shutdown=1_000.0)
        async with running(timeouts=timeouts) as broker:
            await broker.subscribe("orders", parts.on_message, "parts")
            await broker.subscribe("orders", service.on_message, "split")
            first = asyncio.create_task(broker.publish("orders", b"u"))
            await turns()
            with pytest.raises(PublishError):
                await broker.publish("orders", b"v")
            await first
            await asyncio.sleep(40)
        assert service.values == ["u", "v", "w"]
        assert parts.values == ["u", "v", "w"]

    @on_virtual_time
    async def test_the_inner_of_two_brokers(self) -> None:
        """When the inner broker's publish times out, only that publish raises."""
        seen: list[tuple[str, float]] = []

        async def forward(message: Message) -> None:
            try:
                await other.publish("orders", message.value)
            except PublishError:
                seen.append(("inner", now()))

        service = Service(lambda message: asyncio.sleep(100))
        async with (
            running(timeouts=Timeouts(publish=30.0)) as one,
            running(timeouts=Timeouts(publish=10.0, shutdown=1.0)) as other,
        ):
            await one.subscribe("orders", forward)
            await other.subscribe("orders", service.on_message)
            await one.publish("orders", b"v")
        assert seen == [("inner", 10.0)]
        assert this_task().cancelling() == 0

    @on_virtual_time
    async def test_the_outer_of_two_brokers(self) -> None:
        """When the outer broker's publish times out, neither handler is cancelled."""

        async def forward(message: Message) -> None:
            if len(outer.got) == 1:
                await other.publish("orders", message.value)

        outer, inner = Service(forward), Service(lambda message: asyncio.sleep(100))
        async with (
            running(timeouts=Timeouts(publish=10.0, shutdown=1_000.0)) as one,
            running(timeouts=Timeouts(publish=30.0, shutdown=1_000.0)) as other,
        ):
            await one.subscribe("orders", outer.on_message)
            await other.subscribe("orders", inner.on_message)
            with pytest.raises(PublishError, match="within 10 s"):
                await one.publish("orders", b"v")
            assert now() == 10.0
            assert this_task().cancelling() == 0
        assert outer.values == ["v", "v"]  # its publish failed after 30 s
        assert inner.values == ["v"]
