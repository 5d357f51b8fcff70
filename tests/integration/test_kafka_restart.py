"""Starts beside a member that was killed, whose session the group still waits for."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient

from pyfly_messaging.errors import BrokerUnavailableError
from pyfly_messaging.policy import Timeouts
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

SESSION = 12.0
BRIEF = Timeouts(startup=2.0)


@asynccontextmanager
async def dead_member(servers: str, topic: str, group: str) -> AsyncIterator[None]:
    """A member that is heard of no more, as after SIGKILL: its session goes on for a while."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=servers,
        group_id=group,
        enable_auto_commit=False,
        session_timeout_ms=round(SESSION * 1000),
        heartbeat_interval_ms=1_000_000,
    )
    await consumer.start()
    try:
        yield
    finally:
        await consumer.stop()


async def members_of(servers: str, group: str) -> int:
    """Return how many members the broker counts."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        (answer,) = await admin.describe_consumer_groups([group])
        return len(answer.to_object()["groups"][0]["members"])
    finally:
        await admin.close()


async def test_a_start_does_not_fail_for_a_killed_member(kafka: KafkaCluster) -> None:
    """After a crash a start succeeds though the group waits, says so, and misses nothing."""
    servers, group, inbox = kafka.bootstrap_servers, unique("group"), Inbox()
    topic = await new_topic(servers)
    adapter = make_adapter(servers, timeouts=BRIEF, session_timeout=SESSION)
    await adapter.subscribe(topic, inbox, group)
    async with nothing_left(), dead_member(servers, topic, group):
        before = time.monotonic()
        async with running(adapter):
            assert time.monotonic() - before < SESSION - 2
            (consumer,) = adapter.health().consumers
            assert consumer.state == "reconnecting"
            assert consumer.error is not None
            assert repr(group) in consumer.error
            assert f"kafka.session-timeout: {SESSION:g} s" in consumer.error
            await adapter.publish(topic, b"value")
            assert await inbox.has(1) == [b"value"]
            await until(lambda: adapter.health().healthy)
            assert adapter.health().consumers[0].error is None
            assert await members_of(servers, group) == 1


async def test_a_start_that_has_to_wait_names_the_reason(kafka: KafkaCluster) -> None:
    """A group that begins at the end cannot wait later: the error says for whom it waits."""
    servers, group, inbox = kafka.bootstrap_servers, unique("group"), Inbox()
    topic = await new_topic(servers)
    adapter = make_adapter(
        servers, timeouts=BRIEF, session_timeout=SESSION, auto_offset_reset="latest"
    )
    await adapter.subscribe(topic, inbox, group)
    async with nothing_left(), dead_member(servers, topic, group):
        with pytest.raises(BrokerUnavailableError) as caught:
            await adapter.start()
        for part in (repr(group), f"kafka.session-timeout: {SESSION:g} s", "startup.timeout"):
            assert part in str(caught.value)
        # Nobody is left behind for whom the group would wait even longer.
        assert await members_of(servers, group) == 1


async def test_a_group_that_has_begun_does_not_have_to_wait(kafka: KafkaCluster) -> None:
    """With `latest` too a start does not fail once the group has its place in every partition."""
    servers, group, inbox = kafka.bootstrap_servers, unique("group"), Inbox()
    topic = await new_topic(servers, partitions=2)
    adapter = make_adapter(
        servers, timeouts=BRIEF, session_timeout=SESSION, auto_offset_reset="latest"
    )
    await adapter.subscribe(topic, inbox, group)
    async with running(adapter):
        pass
    async with dead_member(servers, topic, group), running(adapter):
        assert adapter.health().consumers[0].state == "reconnecting"
        await adapter.publish(topic, b"value")
        assert await inbox.has(1) == [b"value"]


@pytest.mark.parametrize("after", [0.05, 0.5])
async def test_a_start_that_is_cut_off_leaves_the_group(kafka: KafkaCluster, after: float) -> None:
    """A start that is cancelled while it joins leaves no member behind."""
    servers, group = kafka.bootstrap_servers, unique("group")
    topic = await new_topic(servers)
    adapter = make_adapter(servers)
    await adapter.subscribe(topic, Inbox(), group)
    async with nothing_left(), dead_member(servers, topic, group):
        starting = asyncio.create_task(adapter.start())
        await asyncio.sleep(after)  # somewhere within
        starting.cancel()
        await asyncio.wait((starting,))
        assert await members_of(servers, group) == 1
