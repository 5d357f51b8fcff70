"""Several listeners of one topic without a group: each with a consumer, and a pace, of its own."""

import asyncio

from pyfly_messaging.message import Message
from tests.brokers import KafkaCluster
from tests.integration.test_kafka_support import (
    Inbox,
    delete,
    make_adapter,
    new_topic,
    nothing_left,
    running,
    unique,
    until,
)

VALUES = [b"%d" % number for number in range(20)]


async def test_each_has_its_own_pace(kafka: KafkaCluster) -> None:
    """One that is slow holds up no other, and health tells of each under its name."""
    servers, go_on = kafka.bootstrap_servers, asyncio.Event()
    topic, slow, quick, grouped = await new_topic(servers), Inbox(), Inbox(), Inbox()

    async def handle(message: Message) -> None:
        await go_on.wait()
        await slow(message)

    adapter = make_adapter(servers)
    await adapter.subscribe(topic, handle, name="slow")
    await adapter.subscribe(topic, quick, name="quick")
    await adapter.subscribe(topic, grouped, unique("group"), name="grouped")
    async with nothing_left(), running(adapter):
        health = adapter.health()
        assert health.healthy
        assert [consumer.name for consumer in health.consumers] == ["slow", "quick", "grouped"]
        assert {consumer.assigned for consumer in health.consumers} == {(f"{topic}-0",)}
        await adapter.publish_many([Message(topic, value) for value in VALUES])
        assert await quick.has(20) == await grouped.has(20) == VALUES
        await until(lambda: adapter.health().consumers[1].in_flight == 0)
        await until(lambda: adapter.health().consumers[0].in_flight == 20)
        assert slow.values == []
        go_on.set()
        assert await slow.has(20) == VALUES
    assert {consumer.state for consumer in adapter.health().consumers} == {"stopped"}


async def test_one_may_come_later_under_the_same_name(kafka: KafkaCluster) -> None:
    """A listener that joins a running broker sees what comes from then on; a start begins all."""
    servers, inboxes = kafka.bootstrap_servers, [Inbox() for _ in range(3)]
    topic = await new_topic(servers, partitions=2)
    adapter = make_adapter(servers)
    await adapter.subscribe(topic, inboxes[0], name="same")
    async with nothing_left(), running(adapter):
        for inbox in inboxes[1:]:
            await adapter.subscribe(topic, inbox, name="same")
        assert [consumer.name for consumer in adapter.health().consumers] == ["same"] * 3
        await adapter.publish(topic, b"first")
        for inbox in inboxes:
            await inbox.has(1)
    async with running(adapter):
        await adapter.publish(topic, b"second")
        for inbox in inboxes:
            assert await inbox.has(2) == [b"first", b"second"]


async def test_each_notices_that_its_topic_is_deleted(kafka: KafkaCluster) -> None:
    """When the topic is there again each listener gets all that is in it."""
    servers, inboxes = kafka.bootstrap_servers, [Inbox() for _ in range(2)]
    topic = await new_topic(servers)
    adapter = make_adapter(servers)
    for inbox in inboxes:
        await adapter.subscribe(topic, inbox)
    async with nothing_left(), running(adapter):
        await adapter.publish(topic, b"old")
        for inbox in inboxes:
            await inbox.has(1)
        await delete(servers, topic)
        await until(lambda: {c.state for c in adapter.health().consumers} == {"reconnecting"})
        await adapter.publish(topic, b"new")  # creates it
        for inbox in inboxes:
            assert await inbox.has(2) == [b"old", b"new"]
        await until(lambda: adapter.health().healthy)
