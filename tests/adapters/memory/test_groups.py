"""Who gets a message, how many at once, and in which order."""

from __future__ import annotations

import asyncio

import pytest

from pyfly_messaging.errors import PublishError
from pyfly_messaging.message import Message
from tests.adapters.memory.samples import (
    Service,
    fails,
    now,
    policy,
    running,
)
from tests.delivery.clock import on_virtual_time


class TestGroups:
    """Who gets a message."""

    @on_virtual_time
    async def test_a_group_takes_turns(self) -> None:
        """Of the handlers that share topic and group exactly one gets each message, in turn."""
        services = [Service() for _ in range(3)]
        async with running() as broker:
            for service in services:
                await broker.subscribe("orders", service.on_message, "group")
            for number in range(7):
                await broker.publish("orders", str(number).encode())
        assert [service.values for service in services] == [
            ["0", "3", "6"],
            ["1", "4"],
            ["2", "5"],
        ]

    @on_virtual_time
    async def test_groups_and_those_without_one_each_get_every_message(self) -> None:
        """Different groups, and handlers without a group, each get every message."""
        services = [Service() for _ in range(5)]
        async with running() as broker:
            for service, group in zip(services, ["a", "b", None, None, None], strict=True):
                await broker.subscribe("orders", service.on_message, group)
            await broker.publish("orders", b"1")
            await broker.publish("orders", b"2")
        assert [service.values for service in services] == [["1", "2"]] * 5

    @on_virtual_time
    async def test_without_a_group_nobody_waits_for_another(self) -> None:
        """A handler without a group goes on while another waits for its next attempt."""
        slow, quick = Service(fails(ValueError())), Service()
        async with running() as broker:
            waits = policy(retry_delay=10.0)
            await broker.subscribe("orders", slow.on_message, policy=waits)
            await broker.subscribe("orders", quick.on_message)
            publishing = asyncio.create_task(
                broker.publish_many([Message("orders", b"1"), Message("orders", b"2")])
            )
            await asyncio.sleep(5)
            assert (slow.values, quick.values) == (["1"], ["1", "2"])
            await publishing
        assert slow.values == ["1", "1", "2"]

    @on_virtual_time
    async def test_topics_are_apart(self) -> None:
        """A handler gets the messages of its topic only."""
        orders, refunds = Service(), Service()
        async with running() as broker:
            await broker.subscribe("orders", orders.on_message, "group")
            await broker.subscribe("refunds", refunds.on_message, "group")
            await broker.publish("orders", b"1")
            await broker.publish("refunds", b"2")
        assert (orders.values, refunds.values) == (["1"], ["2"])

    @on_virtual_time
    async def test_only_those_that_failed_try_again(self) -> None:
        """Of several handlers without a group only the failed one gets the message again."""
        fine, flaky = Service(), Service(fails(ValueError()))
        async with running() as broker:
            await broker.subscribe("orders", fine.on_message)
            await broker.subscribe("orders", flaky.on_message)
            await broker.publish("orders", b"1")
        assert (fine.values, flaky.values) == (["1"], ["1", "1"])

    @on_virtual_time
    async def test_a_group_that_retries_holds_up_no_other(self) -> None:
        """While one group waits for its next attempt, the others get the messages that follow."""
        flaky = Service(fails(ValueError()))
        fine = Service()
        async with running(policy=policy(retry_delay=60.0, retry_max_delay=60.0)) as broker:
            await broker.subscribe("orders", flaky.on_message, "flaky")
            await broker.subscribe("orders", fine.on_message, "fine")
            first = asyncio.create_task(broker.publish("orders", b"1"))
            await asyncio.sleep(1)
            second = asyncio.create_task(broker.publish("orders", b"2"))
            await asyncio.sleep(1)
            assert (flaky.values, fine.values) == (["1"], ["1", "2"])
            assert not first.done()
            with pytest.raises(PublishError):
                await first
            with pytest.raises(PublishError):
                await second
            await asyncio.sleep(60)
            assert flaky.values == ["1", "1", "2"]

    @pytest.mark.parametrize("slow_first", [True, False])
    @on_virtual_time
    async def test_a_slow_group_holds_up_no_other(self, slow_first: bool) -> None:
        """While one group is at a message, every other one gets it too, and those that follow."""
        slow, quick = Service(lambda message: asyncio.sleep(10)), Service()
        async with running() as broker:
            for service in (slow, quick) if slow_first else (quick, slow):
                await broker.subscribe("orders", service.on_message, f"group-{id(service)}")
            publishes = []
            for number in range(2):
                value = str(number).encode()
                publishes.append(asyncio.create_task(broker.publish("orders", value)))
                await asyncio.sleep(1)
                assert quick.values == ["0", "1"][: number + 1]
            await asyncio.gather(*publishes)
            assert slow.values == ["0", "1"]
            assert now() == 20.0

    @on_virtual_time
    async def test_every_group_sees_the_same_order(self) -> None:
        """Groups of one topic handle concurrent publishes in one and the same order."""
        first, second = Service(lambda message: asyncio.sleep(3)), Service()
        async with running() as broker:
            await broker.subscribe("orders", first.on_message, "first")
            await broker.subscribe("orders", second.on_message, "second")
            await asyncio.gather(
                *(broker.publish("orders", str(number).encode()) for number in range(4))
            )
        assert first.values == second.values == ["0", "1", "2", "3"]


class TestConcurrency:
    """How many handlers run at once, and in which order."""

    @on_virtual_time
    async def test_one_at_a_time(self) -> None:
        """By default a group handles one message at a time, whoever publishes."""
        service = Service(lambda message: asyncio.sleep(1))
        async with running() as broker:
            await broker.subscribe("orders", service.on_message, "group")
            await asyncio.gather(
                *(broker.publish("orders", bytes([65 + number])) for number in range(5))
            )
        assert service.values == list("ABCDE")
        assert service.at_once == 1

    @on_virtual_time
    async def test_keys_keep_their_order(self) -> None:
        """With more at once, messages with one key stay in order and other keys run beside."""
        ended: list[str] = []

        async def handle(message: Message) -> None:
            await asyncio.sleep(5 if message.value.endswith(b"0") else 1)
            ended.append(message.value.decode())

        service = Service(handle)
        async with running(policy=policy(concurrency=3)) as broker:
            await broker.subscribe("orders", service.on_message, "group")
            await asyncio.gather(
                *(
                    broker.publish("orders", f"{key}{number}".encode(), key=key.encode())
                    for number in range(3)
                    for key in "xy"
                )
            )
        for key in "xy":
            assert [value for value in ended if value[0] == key] == [f"{key}{n}" for n in range(3)]
        assert service.at_once == 2

    @on_virtual_time
    async def test_no_more_than_the_concurrency(self) -> None:
        """Messages without a key run together, as many as the concurrency allows."""
        service = Service(lambda message: asyncio.sleep(1))
        async with running() as broker:
            await broker.subscribe(
                "orders", service.on_message, "group", policy=policy(concurrency=3)
            )
            await asyncio.gather(*(broker.publish("orders", b"x") for _ in range(7)))
            assert now() == 3.0
        assert service.at_once == 3
