"""Consumers that end in ways nobody has heard of, and subscriptions that come at awkward times."""

import asyncio
import logging
from collections.abc import Mapping

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import TopicPartition

from pyfly_messaging.adapters.kafka.member import Member
from pyfly_messaging.adapters.kafka.poller import Poller, Records
from pyfly_messaging.adapters.kafka.supervisor import Supervisor
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.errors import BrokerError
from pyfly_messaging.message import Message
from tests.brokers import KafkaCluster
from tests.integration.test_kafka_support import (
    Inbox,
    make_adapter,
    new_topic,
    nothing_left,
    running,
    unique,
    until,
)

ERRORS = pytest.mark.parametrize(
    "error",
    [asyncio.CancelledError(), RuntimeError("a bug of the client")],
    ids=["cancelled", "unheard-of"],
)


@ERRORS
@pytest.mark.parametrize("group", ["group", None])
async def test_whatever_ends_a_consumer_it_joins_again(
    kafka: KafkaCluster,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    group: str | None,
) -> None:
    """A consumer whose client fails in a new way, or cancels itself, is replaced by another."""
    inbox, fetch, failed = Inbox(), Poller.fetch, False
    topic = await new_topic(kafka.bootstrap_servers)

    async def fail_once(poller: Poller, at_most: int) -> Mapping[TopicPartition, Records]:
        nonlocal failed
        if failed:
            return await fetch(poller, at_most)
        failed = True
        raise error

    adapter = make_adapter(kafka.bootstrap_servers)
    await adapter.subscribe(topic, inbox, group and unique(group))
    async with nothing_left(), running(adapter):
        monkeypatch.setattr(Poller, "fetch", fail_once)
        await until(lambda: failed)
        await until(lambda: not adapter.health().healthy)
        await adapter.publish(topic, b"value")
        assert await inbox.has(1) == [b"value"]
        await until(lambda: adapter.health().healthy)


async def test_an_outage_that_another_consumer_ends(
    kafka: KafkaCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The end of an outage is told also when the consumer was replaced meanwhile."""
    caplog.set_level(logging.INFO, "pyfly_messaging")
    topic, adapter = await new_topic(kafka.bootstrap_servers), make_adapter(kafka.bootstrap_servers)

    async def fail(poller: Poller, at_most: int) -> Mapping[TopicPartition, Records]:
        raise KafkaConnectionError

    await adapter.subscribe(topic, Inbox(), unique("group"), name="orders")
    async with nothing_left(), running(adapter):
        with monkeypatch.context() as patched:
            patched.setattr(Member, "stuck", "no answer")
            await until(lambda: "orders is not consumed until it works again" in caplog.text)
            patched.setattr(Poller, "fetch", fail)
            await until(lambda: "orders joins again" in caplog.text)
        await until(lambda: "orders is consumed again" in caplog.text)


@ERRORS
async def test_a_start_ends_whatever_its_client_does(
    kafka: KafkaCluster, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """A client that fails to start in a new way, or cancels itself, fails the start at once."""
    topic = await new_topic(kafka.bootstrap_servers)

    async def fail(consumer: "AIOKafkaConsumer[bytes, bytes]") -> None:
        raise error

    adapter = make_adapter(kafka.bootstrap_servers)
    await adapter.subscribe(topic, Inbox(), unique("group"))
    async with nothing_left(), asyncio.timeout(20):
        with monkeypatch.context() as patched:
            patched.setattr(AIOKafkaConsumer, "start", fail)
            with pytest.raises(BrokerError):
                await adapter.start()
        async with running(adapter):
            assert adapter.health().healthy


async def test_a_subscription_that_comes_at_the_end_of_a_start(
    kafka: KafkaCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is subscribed while a start waits for the last positions is consumed like the rest."""
    positioned, inbox, topic = Supervisor.positioned, Inbox(), unique()
    adapter = make_adapter(kafka.bootstrap_servers)

    async def subscribe_too(supervisor: Supervisor, deadline: Deadline) -> None:
        monkeypatch.setattr(Supervisor, "positioned", positioned)
        await adapter.subscribe(topic, inbox, unique("late"))
        await positioned(supervisor, deadline)

    monkeypatch.setattr(Supervisor, "positioned", subscribe_too)
    await adapter.subscribe(unique(), Inbox(), unique("group"))
    async with nothing_left(), running(adapter):
        assert adapter.health().healthy
        await adapter.publish(topic, b"value")
        assert await inbox.has(1) == [b"value"]


@pytest.mark.parametrize("cancelled", [0, 1])
async def test_a_subscription_that_is_cancelled_takes_no_other_along(
    kafka: KafkaCluster, monkeypatch: pytest.MonkeyPatch, cancelled: int
) -> None:
    """Of two handlers that wait for the same consumer one may be given up, and the other stays."""
    inboxes, group = (Inbox(), Inbox()), unique("group")
    topic = await new_topic(kafka.bootstrap_servers)
    start, go_on, waiting = Supervisor.start, asyncio.Event(), 0

    async def wait(supervisor: Supervisor, deadline: Deadline) -> None:
        nonlocal waiting
        waiting += 1
        await start(supervisor, deadline)
        await go_on.wait()

    monkeypatch.setattr(Supervisor, "start", wait)
    adapter = make_adapter(kafka.bootstrap_servers)
    async with nothing_left(), running(adapter):
        subscribing = [
            asyncio.create_task(adapter.subscribe(topic, inbox, group)) for inbox in inboxes
        ]
        await until(lambda: waiting == 2)
        given_up, kept = subscribing[cancelled], subscribing[1 - cancelled]
        given_up.cancel()
        await asyncio.wait((given_up,))
        go_on.set()
        await kept
        await adapter.publish_many([Message(topic, b"%d" % number) for number in range(4)])
        assert await inboxes[1 - cancelled].has(4) == [b"0", b"1", b"2", b"3"]
        assert inboxes[cancelled].values == []


async def test_a_subscription_that_is_cancelled_leaves_nothing(
    kafka: KafkaCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only handler of a consumer that is given up takes the consumer with it."""
    topic, group = await new_topic(kafka.bootstrap_servers), unique("group")
    start, waiting = Supervisor.start, asyncio.Event()

    async def wait(supervisor: Supervisor, deadline: Deadline) -> None:
        waiting.set()
        await start(supervisor, deadline)

    adapter = make_adapter(kafka.bootstrap_servers)
    async with running(adapter):
        await adapter.publish(topic, b"connected")
        async with nothing_left():
            with monkeypatch.context() as patched:
                patched.setattr(Supervisor, "start", wait)
                subscribing = asyncio.create_task(adapter.subscribe(topic, Inbox(), group))
                await waiting.wait()
                subscribing.cancel()
                await asyncio.wait((subscribing,))
            assert subscribing.cancelled()
            assert adapter.health().consumers == ()
        await adapter.subscribe(topic, inbox := Inbox(), group)
        await adapter.publish(topic, b"value")
        await until(lambda: b"value" in inbox.values)


def test_a_broker_may_run_on_one_event_loop_after_the_other(kafka: KafkaCluster) -> None:
    """A broker that was stopped starts on another event loop, whatever had to wait on the first."""
    adapter, topics = make_adapter(kafka.bootstrap_servers), [unique() for _ in range(3)]
    inbox = Inbox()

    async def publish() -> None:
        async with running(adapter):
            await asyncio.gather(*(adapter.publish(topic, b"value") for topic in topics))
            await inbox.has(1)
            inbox.messages.clear()

    asyncio.run(adapter.subscribe(topics[0], inbox, unique("group")))
    for _ in range(2):
        asyncio.run(publish())
