"""Topics that are deleted while they are consumed: noticed, told, and read again from the start."""

import asyncio
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from pyfly_messaging.adapters.kafka import KafkaAdapter
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy
from tests.brokers import KafkaCluster
from tests.integration.test_kafka_support import (
    Inbox,
    delete,
    make_adapter,
    new_topic,
    nothing_left,
    read,
    running,
    unique,
    until,
    values_of,
    write,
)

OLD = [b"old-%d" % number for number in range(3)]
NEW = [b"new-%d" % number for number in range(9)]

LISTENERS = pytest.mark.parametrize(
    ("group", "settings"),
    [
        (True, {}),
        (True, {"auto_offset_reset": "latest"}),
        (False, {}),
    ],
    ids=["earliest", "latest", "without-group"],
)


async def create(servers: str, topic: str) -> None:
    """Create a topic of one partition."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1)])
    finally:
        await admin.close()


@LISTENERS
async def test_a_topic_is_consumed_again(
    kafka: KafkaCluster, group: bool, settings: dict[str, Any]
) -> None:
    """Health tells that a topic is gone; all that is in the next one of its name is handled."""
    servers, inbox = kafka.bootstrap_servers, Inbox()
    topic = await new_topic(servers)
    adapter = make_adapter(servers, **settings)
    await adapter.subscribe(topic, inbox, unique("group") if group else None)
    async with nothing_left(), running(adapter):
        await write(servers, topic, *OLD)
        await inbox.has(3)
        await delete(servers, topic)
        await until(
            lambda: "does not have the topic" in (adapter.health().consumers[0].error or "")
        )
        assert adapter.health().consumers[0].state == "reconnecting"
        await create(servers, topic)
        await write(servers, topic, *NEW)
        assert await inbox.has(12) == OLD + NEW
        await until(lambda: adapter.health().healthy)


@LISTENERS
async def test_a_topic_that_is_replaced_at_once(
    kafka: KafkaCluster, group: bool, settings: dict[str, Any]
) -> None:
    """Of a topic that took the place of another nothing is passed over."""
    servers, inbox = kafka.bootstrap_servers, Inbox()
    topic = await new_topic(servers)
    adapter = make_adapter(servers, **settings)
    await adapter.subscribe(topic, inbox, unique("group") if group else None)
    async with nothing_left(), running(adapter):
        await write(servers, topic, *OLD)
        await inbox.has(3)
        await until(lambda: _knows_its_topic(adapter))
        await delete(servers, topic)
        await create(servers, topic)
        await write(servers, topic, *NEW)
        await until(lambda: set(inbox.values) == {*OLD, *NEW})


def _knows_its_topic(adapter: KafkaAdapter) -> bool:
    return all(consumer._identity._id is not None for consumer in adapter._consumers.values())


async def test_a_dead_letter_topic_that_is_deleted(kafka: KafkaCluster) -> None:
    """A dead letter whose topic is gone has it made again."""
    servers, topic = kafka.bootstrap_servers, await new_topic(kafka.bootstrap_servers)

    async def refuse(message: Message) -> None:
        raise ValueError

    adapter = make_adapter(servers)
    await adapter.subscribe(topic, refuse, unique("group"), policy=ListenerPolicy(retries=0))
    async with running(adapter):
        await delete(servers, f"{topic}.dlt")
        await adapter.publish(topic, b"value")
        async with asyncio.timeout(15):  # aiokafka itself would give up after 20
            assert values_of(await read(servers, f"{topic}.dlt", 1)) == [b"value"]
