"""Subscribing, health, context variables, settings."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

from pyfly_messaging.adapters.memory import InMemoryMessageBroker
from pyfly_messaging.errors import PublishError
from pyfly_messaging.health import ConsumerHealth, Health
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.settings import MemorySettings
from tests.adapters.memory.samples import (
    Service,
    fails,
    now,
    policy,
    running,
)
from tests.delivery.clock import on_virtual_time, turns


class TestSubscribe:
    """Registering handlers."""

    @on_virtual_time
    async def test_while_it_runs(self) -> None:
        """A handler that is subscribed on a running broker gets what is published next."""
        first, second = Service(), Service()
        async with running() as broker:
            await broker.subscribe("orders", first.on_message, "group")
            await broker.publish("orders", b"1")
            await broker.subscribe("orders", second.on_message, "group")
            await broker.publish("orders", b"2")
            await broker.publish("orders", b"3")
            await broker.publish("orders", b"4")
        assert (first.values, second.values) == (["1", "2", "4"], ["3"])

    @pytest.mark.parametrize("group", [None, "group"])
    @on_virtual_time
    async def test_the_same_twice_is_refused(self, group: str | None) -> None:
        """A handler cannot listen to one topic in one group twice; it stays as it was."""
        service = Service()
        async with running() as broker:
            await broker.subscribe("orders", service.on_message, group)
            with pytest.raises(ValueError, match="already listens to topic 'orders'"):
                await broker.subscribe("orders", service.on_message, group)
            await broker.subscribe("orders", service.on_message, "another")
            await broker.publish("orders", b"v")
        assert service.values == ["v", "v"]

    @pytest.mark.parametrize(
        ("topic", "handler", "group", "error"),
        [
            ("no spaces", Service().on_message, None, ValueError),
            ("orders", Service().on_message, "amq.reserved", ValueError),
            ("orders", print, None, TypeError),
        ],
    )
    @on_virtual_time
    async def test_what_no_broker_could_do_is_refused(
        self, topic: str, handler: Any, group: str | None, error: type[Exception]
    ) -> None:
        """Impossible topics, groups and handlers are refused on this broker too."""
        with pytest.raises(error):
            await InMemoryMessageBroker().subscribe(topic, handler, group)

    @on_virtual_time
    async def test_a_dead_letter_topic_equal_to_the_topic_is_refused(self) -> None:
        """A dead-letter topic that is the topic itself is refused."""
        with pytest.raises(ValueError, match="is the topic itself"):
            await InMemoryMessageBroker().subscribe(
                "orders", Service().on_message, policy=policy(dead_letter_topic="orders")
            )


class TestHealth:
    """What the broker says about itself."""

    @on_virtual_time
    async def test_it_tells_what_is_in_flight(self) -> None:
        """Each listener has its state, and the messages that are not settled."""

        async def stubborn(message: Message) -> None:
            seen.append(broker.health().consumers[0].in_flight)
            await gate.wait()

        seen: list[int] = []
        gate = asyncio.Event()
        broker = InMemoryMessageBroker(timeouts=Timeouts(shutdown=1.0), policy=policy())
        await broker.subscribe("orders", stubborn, "group", name="billing")
        assert not broker.health().healthy
        await broker.start()
        assert broker.health() == Health(
            started=True,
            publishing=True,
            consumers=(
                ConsumerHealth(name="billing", topic="orders", group="group", state="running"),
            ),
        )
        publishes = [asyncio.create_task(broker.publish("orders", b"v")) for _ in range(3)]
        await turns()
        assert seen == [3]
        assert broker.health().consumers[0].in_flight == 3
        await broker.stop()
        (consumer,) = broker.health().consumers
        assert (consumer.state, consumer.in_flight) == ("stopped", 3)
        assert not broker.health().started
        await asyncio.gather(*publishes, return_exceptions=True)
        gate.set()
        await broker.start()
        await turns()
        assert broker.health().healthy
        assert broker.health().consumers[0].in_flight == 0
        await broker.stop()

    def test_the_default_policy_can_be_asked_for(self) -> None:
        """Who wraps a broker can know what policy its subscriptions have by default."""
        mine = policy(retries=9)
        assert InMemoryMessageBroker(policy=mine).default_policy is mine
        assert InMemoryMessageBroker().default_policy == ListenerPolicy()


class TestContext:
    """Which context variables a handler sees."""

    @pytest.mark.parametrize("concurrency", [1, 2])
    @pytest.mark.parametrize("waits", [True, False])
    @on_virtual_time
    async def test_it_sees_those_of_start(self, concurrency: int, waits: bool) -> None:
        """A handler sees the variables of start(), as on other brokers, and leaves none behind."""
        variable = contextvars.ContextVar("variable", default="unset")
        seen: list[str] = []

        async def handle(message: Message) -> None:
            seen.append(variable.get())
            if waits:
                await asyncio.sleep(1)
                seen.append(variable.get())
            variable.set("handler")
            seen.append(await asyncio.create_task(read()))

        async def read() -> str:
            return variable.get()

        variable.set("start")
        async with running(policy=policy(concurrency=concurrency)) as broker:
            await broker.subscribe("orders", handle)
            variable.set("publisher")
            await broker.publish("orders", b"v")
            assert variable.get() == "publisher"
        assert seen == ["start", *(["start"] if waits else []), "handler"]

    @on_virtual_time
    async def test_one_message_does_not_see_the_one_before(self) -> None:
        """What a handler sets is gone when it has ended, if nothing was in its way."""
        variable = contextvars.ContextVar("variable", default="unset")
        seen: list[str] = []

        async def handle(message: Message) -> None:
            seen.append(variable.get())
            variable.set("handler")

        async with running() as broker:
            await broker.subscribe("orders", handle)
            await broker.publish("orders", b"1")
            await broker.publish("orders", b"2")
        assert seen == ["unset", "unset"]


@pytest.mark.parametrize("flag", [True, False])
@on_virtual_time
async def test_from_settings(flag: bool) -> None:
    """A broker that is made from settings does what they say."""
    broker = InMemoryMessageBroker.from_settings(
        MemorySettings(raise_errors=flag, skip_retry_delays=flag),
        timeouts=Timeouts(publish=5.0),
        policy=policy(retries=1, retry_delay=3.0),
    )
    service = Service(fails(ValueError("a"), ValueError("b")))
    async with running(broker):
        await broker.subscribe("orders", service.on_message)
        if flag:
            with pytest.raises(ValueError, match="b"):
                await broker.publish("orders", b"v")
        else:
            await broker.publish("orders", b"v")
        assert now() == (0.0 if flag else 3.0)
        await broker.subscribe("slow", Service(lambda _: asyncio.sleep(6)).on_message)
        with pytest.raises(PublishError, match="within 5 s"):
            await broker.publish("slow", b"v")
