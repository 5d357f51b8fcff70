"""The half of a broker that is the same for every adapter."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from pyfly_messaging.delivery import Broker, Deadline, Route
from pyfly_messaging.errors import (
    BatchPublishError,
    BrokerUnavailableError,
    NotStartedError,
    PublishError,
)
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.ports import (
    AppliesPolicies,
    MessageBrokerPort,
    PublishesBatches,
    ReportsHealth,
)
from tests.delivery.clock import on_virtual_time, turns


async def one(message: Message) -> None:
    """Do nothing."""


async def other(message: Message) -> None:
    """Do nothing either."""


class Recording(Broker):
    """Notes which hooks are called; it can be told to wait and to fail in them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.log: list[str] = []
        self.sent: list[Message] = []
        self.refusals: dict[str, BaseException] = {}
        self.gates: dict[str, asyncio.Event] = {}

    async def note(self, what: str) -> None:
        self.log.append(what)
        if (gate := self.gates.get(what)) is not None:
            await gate.wait()
        if (refusal := self.refusals.pop(what, None)) is not None:
            raise refusal

    async def _open(self, deadline: Deadline) -> None:
        await self.note("open")

    async def _close(self, deadline: Deadline, caller: asyncio.Task[Any] | None) -> None:
        await self.note("close")

    async def _accept(self, route: Route) -> None:
        await self.note(f"accept {route.topic}")

    async def _listen(self, route: Route, deadline: Deadline) -> None:
        await self.note(f"listen {route.topic}")

    async def _unlisten(self, route: Route) -> None:
        await self.note(f"unlisten {route.topic}")

    async def _send(
        self, topic: str, value: bytes, key: bytes | None, headers: dict[str, str] | None
    ) -> None:
        await self.note(f"send {topic}")
        self.sent.append(Message(topic, value, key, headers or {}))


def topics(broker: Broker) -> list[str]:
    """The topics that the broker listens to, as its health tells them."""
    return [consumer.topic for consumer in broker.health().consumers]


def test_it_is_all_of_the_port() -> None:
    """An adapter on this base has every method that an application may ask for."""
    policy = ListenerPolicy(retries=7)
    broker = Recording(policy=policy)
    assert isinstance(broker, MessageBrokerPort)
    assert isinstance(broker, PublishesBatches)
    assert isinstance(broker, ReportsHealth)
    assert isinstance(broker, AppliesPolicies)
    assert broker.default_policy is policy
    assert Recording().default_policy == ListenerPolicy()


@on_virtual_time
async def test_start_and_stop() -> None:
    """A start opens and listens to what was subscribed; it can be repeated after a stop."""
    broker = Recording()
    await broker.subscribe("a", one, "group")
    await broker.subscribe("b", one)
    assert broker.log == ["accept a", "accept b"]
    for _ in range(2):
        broker.log.clear()
        await broker.start()
        await broker.start()
        assert broker.health().healthy
        await broker.stop()
        await broker.stop()
        assert not broker.health().started
        assert broker.log == ["open", "listen a", "listen b", "close"]


@on_virtual_time
async def test_start_is_all_or_nothing() -> None:
    """When one consumer cannot be started the others are given up and everything is closed."""
    broker = Recording()
    broker.gates["listen a"] = asyncio.Event()
    broker.refusals["listen b"] = BrokerUnavailableError("no", address="here")
    await broker.subscribe("a", one)
    await broker.subscribe("b", one)
    with pytest.raises(BrokerUnavailableError):
        await broker.start()
    assert broker.log[-1] == "close"
    assert topics(broker) == ["a", "b"]
    broker.gates["listen a"].set()
    await broker.start()
    assert broker.health().healthy
    await broker.stop()


@on_virtual_time
async def test_subscribe_on_a_running_broker() -> None:
    """It returns when the consumer runs; a further handler of the route is listened to as well."""
    broker = Recording()
    await broker.start()
    broker.gates["listen a"] = asyncio.Event()
    subscribing = asyncio.create_task(broker.subscribe("a", one, "group"))
    await turns()
    assert not subscribing.done()
    broker.gates["listen a"].set()
    await subscribing
    await broker.subscribe("a", other, "group")
    assert broker.log == ["open", *["accept a", "listen a"] * 2]
    assert topics(broker) == ["a"]
    await broker.stop()


@on_virtual_time
async def test_subscribe_while_it_starts_and_stops() -> None:
    """A start takes in what comes meanwhile; what comes during a stop waits for the next start."""
    broker = Recording()
    broker.gates["listen a"] = broker.gates["close"] = gate = asyncio.Event()
    await broker.subscribe("a", one)
    starting = asyncio.create_task(broker.start())
    await turns()
    await broker.subscribe("b", one)
    gate.set()
    await starting
    assert broker.log == ["accept a", "open", "listen a", "accept b", "listen b"]
    gate.clear()
    stopping = asyncio.create_task(broker.stop())
    await turns()
    await broker.subscribe("c", one)
    gate.set()
    await stopping
    assert broker.log[-2:] == ["close", "accept c"]
    await broker.start()
    assert broker.log[-3:] == ["listen a", "listen b", "listen c"]
    await broker.stop()


@on_virtual_time
async def test_a_subscription_that_fails_is_taken_back() -> None:
    """What cannot be accepted or listened to leaves nothing, and can be subscribed again."""
    broker = Recording()
    await broker.start()
    for step in ("accept a", "listen a"):
        broker.refusals[step] = BrokerUnavailableError("no", address="here")
        with pytest.raises(BrokerUnavailableError):
            await broker.subscribe("a", one, "group")
        assert broker.log[-1] == "unlisten a"
        assert topics(broker) == []
    await broker.subscribe("a", one, "group")
    broker.refusals["listen a"] = BrokerUnavailableError("no", address="here")
    with pytest.raises(BrokerUnavailableError):
        await broker.subscribe("a", other, "group")
    assert broker.log[-1] == "listen a"  # which the first handler goes on to need
    assert topics(broker) == ["a"]
    await broker.stop()


@on_virtual_time
async def test_a_cancelled_subscribe_is_taken_back() -> None:
    """A subscribe that is cancelled is undone to the end before the cancellation goes on."""
    broker = Recording()
    await broker.start()
    broker.gates["listen a"], broker.gates["unlisten a"] = asyncio.Event(), asyncio.Event()
    subscribing = asyncio.create_task(broker.subscribe("a", one))
    await turns()
    subscribing.cancel()
    await turns()
    assert not subscribing.done()
    broker.gates["unlisten a"].set()
    with pytest.raises(asyncio.CancelledError):
        await subscribing
    assert topics(broker) == []
    await broker.stop()


@on_virtual_time
async def test_publish() -> None:
    """Only what every broker can carry is sent, and only while the broker runs."""
    broker = Recording()
    with pytest.raises(NotStartedError):
        await broker.publish("a", b"1")
    await broker.start()
    with pytest.raises(TypeError, match="value must be bytes"):
        await broker.publish("a", "1")  # type: ignore[arg-type]
    await broker.publish("a", b"1", key=b"k", headers={"h": "1"})
    assert broker.sent == [Message("a", b"1", b"k", {"h": "1"})]
    await broker.stop()
    for publish in (broker.publish("a", b"1"), broker.publish_many([Message("a", b"1")])):
        with pytest.raises(NotStartedError):
            await publish


@on_virtual_time
async def test_publish_many() -> None:
    """All are checked before any is sent; those that were not confirmed are named."""
    broker = Recording()
    await broker.start()
    batch = [Message(topic, b"1") for topic in "abc"]
    bad = Message("d", b"1")
    object.__setattr__(bad, "value", "1")
    with pytest.raises(TypeError):
        await broker.publish_many([*batch, bad])
    assert broker.sent == []
    broker.refusals["send b"] = error = PublishError("no")
    with pytest.raises(BatchPublishError, match="1 of 3") as caught:
        await broker.publish_many(iter(batch))
    assert caught.value.failed == ((1, error),)
    assert broker.sent == [batch[0], batch[2]]
    await broker.publish_many([])
    await broker.stop()


@on_virtual_time
async def test_dead_letters_are_sent() -> None:
    """By default a dead letter is sent like any other message."""
    broker = Recording()
    letter = Message("a.dlt", b"1", b"k", {"h": "1"})
    await broker.start()
    await broker._publish_dead_letter(letter, ValueError())
    assert broker.sent == [letter]
    await broker.stop()


@on_virtual_time
async def test_health_before_anything_is_known() -> None:
    """Consumers are in the order of their subscription, and stopped until the start."""
    broker = Recording()
    for topic in ("b", "a"):
        await broker.subscribe(topic, one, name=f"on {topic}")
    health = broker.health()
    assert [(each.name, each.state) for each in health.consumers] == [
        ("on b", "stopped"),
        ("on a", "stopped"),
    ]
    assert (health.started, health.publishing) == (False, False)


@on_virtual_time
async def test_a_cancelled_stop_closes_once() -> None:
    """A stop that is cancelled closes to the end, and the next one has nothing left to do."""
    broker = Recording()
    await broker.start()
    broker.gates["close"] = asyncio.Event()
    stopping = asyncio.create_task(broker.stop())
    await turns()
    stopping.cancel()
    await turns()
    assert not stopping.done()
    broker.gates["close"].set()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    await broker.stop()
    assert broker.log == ["open", "close"]
    await broker.start()
    await broker.stop()
    assert broker.log == ["open", "close"] * 2


@on_virtual_time
async def test_a_close_that_fails_is_repeated() -> None:
    """What a failed close has left is closed by the next stop."""
    broker = Recording()
    await broker.start()
    broker.refusals["close"] = OSError("no")
    with pytest.raises(OSError, match="no"):
        await broker.stop()
    await broker.stop()
    assert broker.log == ["open", "close", "close"]


async def test_another_event_loop() -> None:
    """From another thread every method raises at once, says how to call it, and does nothing."""
    broker = Recording(timeouts=Timeouts())
    await broker.subscribe("a", one)
    await broker.start()
    before = list(broker.log)
    calls: list[Coroutine[Any, Any, None]] = [
        broker.publish("a", b"1"),
        broker.publish_many([Message("a", b"1")]),
        broker.subscribe("b", one),
        broker.start(),
        broker.stop(),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match=r"run_coroutine_threadsafe.*anyio\.from_thread"):
            await asyncio.to_thread(asyncio.run, call)
    assert broker.log == before
    assert broker.health().healthy
    assert topics(broker) == ["a"]
    await broker.stop()


def test_one_event_loop_after_the_other() -> None:
    """A broker that was stopped can be started on another event loop, as one whose loop ended."""
    broker = Recording()

    async def use() -> None:
        await broker.start()
        await broker.publish("a", b"1")
        await broker.stop()

    asyncio.run(use())
    asyncio.run(use())
    asyncio.run(broker.start())
    with pytest.raises(NotStartedError):
        asyncio.run(broker.publish("a", b"2"))
    asyncio.run(use())
    assert broker.log.count("close") == 4
