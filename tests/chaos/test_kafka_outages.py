"""Brokers that are killed, frozen and cut off while messages flow: nothing acknowledged is lost."""

import asyncio
import logging
import time
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError

from pyfly_messaging.adapters.kafka import KafkaAdapter
from pyfly_messaging.adapters.kafka.shutdown import end_producer
from pyfly_messaging.errors import PublishError
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from tests.brokers import KafkaCluster, KafkaFactory, ProxyFactory
from tests.integration.test_kafka_support import (
    DEADLINE,
    Inbox,
    Tally,
    make_adapter,
    new_topic,
    nothing_left,
    running,
    unique,
    until,
)

pytestmark = pytest.mark.slow

SLACK = 15.0  # for a loaded machine


@pytest.fixture
async def single(kafka_cluster: KafkaFactory) -> KafkaCluster:
    """One node of our own."""
    return await asyncio.to_thread(kafka_cluster)


@pytest.fixture
async def three(kafka_cluster: KafkaFactory) -> KafkaCluster:
    """Three nodes of our own."""
    return await asyncio.to_thread(kafka_cluster, nodes=3)


async def listeners(adapter: KafkaAdapter, topic: str, tally: Tally) -> tuple[Inbox, Inbox]:
    """Subscribe one handler that counts, in a group, and two without a group."""

    async def handle(message: Message) -> None:
        await asyncio.sleep(0.002)
        tally.handled[message.value] += 1

    alone, other = Inbox(), Inbox()
    policy = ListenerPolicy(concurrency=4)
    await adapter.subscribe(topic, handle, unique("group"), policy=policy)
    await adapter.subscribe(topic, alone)
    await adapter.subscribe(topic, other)
    return alone, other


def states(adapter: KafkaAdapter) -> set[str]:
    """Return the states of all consumers."""
    return {consumer.state for consumer in adapter.health().consumers}


async def check(tally: Tally, *broadcasts: Inbox) -> None:
    """Wait until everything acknowledged has arrived everywhere; nothing else may have."""
    await tally.complete()
    await until(lambda: all(not tally.acknowledged - set(inbox.values) for inbox in broadcasts))
    assert all(not set(inbox.values) - tally.tried for inbox in broadcasts)
    print(tally)
    assert (tally.lost, tally.unexpected) == (set(), set())


async def test_a_broker_that_is_killed_and_comes_back(
    single: KafkaCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """After a crash of the only broker every listener consumes again; health told the truth.

    So did the log, in a few lines: aiokafka by itself writes a hundred a second.
    """
    caplog.set_level(logging.INFO, "pyfly_messaging")
    servers, tally = single.bootstrap_servers, Tally()
    topic = await new_topic(servers, partitions=3)
    adapter = make_adapter(servers)
    inboxes = await listeners(adapter, topic, tally)
    async with nothing_left(), running(adapter):
        async with tally.flow(adapter, topic):
            await tally.progress(200)
            await asyncio.to_thread(single.kill)
            await until(lambda: states(adapter) == {"reconnecting"})
            await until(lambda: not adapter.health().publishing)
            assert all(consumer.error for consumer in adapter.health().consumers)
            await until(lambda: caplog.text.count("is not consumed until it works again") == 3)
            await asyncio.to_thread(single.restart)
            await until(lambda: adapter.health().healthy)
            await until(lambda: caplog.text.count("is consumed again") == 3)
            assert len([record for record in caplog.records if "aiokafka" in record.name]) < 100
            await tally.progress(200)
        await check(tally, *inboxes)
        assert all(consumer.error is None for consumer in adapter.health().consumers)


@pytest.mark.chaos
async def test_a_broker_that_comes_back_at_another_address(
    kafka_cluster: KafkaFactory, tcp_proxy: ProxyFactory
) -> None:
    """Publisher and listeners find it by the bootstrap servers; health tells, with no message sent.

    aiokafka itself asks only the addresses of which it was told last.
    """
    old, new = await tcp_proxy(), await tcp_proxy()
    cluster = await asyncio.to_thread(kafka_cluster, advertised_ports=[old.port])
    servers, tally = cluster.listeners[0], Tally()
    old.target = new.target = servers
    topic = await new_topic(servers)
    adapter = make_adapter(servers, session_timeout=6)
    inboxes = await listeners(adapter, topic, tally)
    async with running(adapter):
        assert adapter.health().healthy
        await asyncio.to_thread(cluster.kill)
        await old.cut()
        await until(lambda: states(adapter) == {"reconnecting"})
        await until(lambda: not adapter.health().publishing)
        advertise(cluster, old.port, new.port)
        await asyncio.to_thread(cluster.restart)
        await until(lambda: adapter.health().healthy)
        async with tally.flow(adapter, topic):
            await tally.progress(100)
        await check(tally, *inboxes)


def advertise(cluster: KafkaCluster, old: int, new: int) -> None:
    """Let a single node send its clients to another port, once it is restarted."""
    properties = cluster._nodes[0].folder / "server.properties"
    properties.write_text(properties.read_text().replace(f":{old}", f":{new}"))


async def test_a_broker_that_is_frozen_beyond_the_session(single: KafkaCluster) -> None:
    """A broker that answers nothing for longer than the session timeout costs nothing but time."""
    servers, tally, session = single.bootstrap_servers, Tally(), 6.0
    topic = await new_topic(servers, partitions=2)
    adapter = make_adapter(servers, session_timeout=session)
    inboxes = await listeners(adapter, topic, tally)
    async with nothing_left(), running(adapter):
        async with tally.flow(adapter, topic):
            await tally.progress(100)
            await asyncio.to_thread(single.pause)
            outage = asyncio.create_task(asyncio.sleep(session + 2))
            await until(lambda: states(adapter) == {"reconnecting"})
            await until(lambda: not adapter.health().publishing)
            await outage
            await asyncio.to_thread(single.resume)
            await until(lambda: adapter.health().healthy)
            await tally.progress(100)
        await check(tally, *inboxes)


async def test_a_network_that_is_cut(kafka_cluster: KafkaFactory, tcp_proxy: ProxyFactory) -> None:
    """Connections that are reset again and again, and a network that is gone, lose nothing."""
    proxy = await tcp_proxy()
    cluster = await asyncio.to_thread(kafka_cluster, advertised_ports=[proxy.port])
    proxy.target, tally = cluster.listeners[0], Tally()
    topic = await new_topic(proxy.address, partitions=2)
    adapter = make_adapter(proxy.address)
    inboxes = await listeners(adapter, topic, tally)
    async with nothing_left():
        async with running(adapter):
            async with tally.flow(adapter, topic):
                for _ in range(4):
                    await tally.progress(100)
                    await proxy.cut()
                    await until(lambda: states(adapter) == {"reconnecting"})
                    await proxy.heal()
                await until(lambda: adapter.health().healthy)
            await check(tally, *inboxes)
        await proxy.cut()


async def test_a_cluster_loses_its_coordinator_and_then_all_brokers(three: KafkaCluster) -> None:
    """When a group's coordinator dies the brokers left go on, and after a crash of all everybody.

    No publish fails: each broker is back, or replaced, within the publish timeout.
    """
    servers, tally = three.bootstrap_servers, Tally()
    topic = await new_topic(servers, partitions=6, replicas=3)
    adapter = make_adapter(servers, session_timeout=10, timeouts=Timeouts(publish=DEADLINE))
    inboxes = await listeners(adapter, topic, tally)
    async with nothing_left(), running(adapter):
        async with tally.flow(adapter, topic):
            await tally.progress(200)
            node = await coordinator_of(servers, adapter.health().consumers[0].group) - 1
            await asyncio.to_thread(three.kill, node)
            await tally.progress(300)
            await until(lambda: adapter.health().healthy)
            await asyncio.to_thread(three.restart, node)
            await tally.progress(200)
            await asyncio.to_thread(three.kill)
            await until(lambda: states(adapter) == {"reconnecting"})
            await asyncio.to_thread(three.restart)
            await until(lambda: adapter.health().healthy)
            await tally.progress(200)
        await check(tally, *inboxes)
    assert tally.failed == 0


@pytest.mark.chaos
async def test_a_frozen_leader_does_not_outlast_a_publish(three: KafkaCluster) -> None:
    """A publish to a partition whose leader hangs is taken by the next leader in time."""
    servers, inbox = three.bootstrap_servers, Inbox()
    topic = await new_topic(servers, partitions=3, replicas=3)
    adapter = make_adapter(servers, timeouts=Timeouts(publish=60))
    await adapter.subscribe(topic, inbox, unique("group"))
    async with nothing_left(), running(adapter):
        for _ in range(2):  # with all of them, then without one
            before = len(inbox.values)
            await adapter.publish_many([Message(topic, b"%d" % n, b"%d" % n) for n in range(12)])
            await inbox.has(before + 12)
            await asyncio.to_thread(three.pause, 0)
        await asyncio.to_thread(three.resume, 0)
        await until(lambda: adapter.health().healthy)
    assert set(inbox.values) == {b"%d" % n for n in range(12)}


async def test_publishes_are_bounded_while_brokers_are_down(single: KafkaCluster) -> None:
    """With the broker gone and the buffer full every publish raises in time, and works later."""
    servers = single.bootstrap_servers
    topic, other = await new_topic(servers), unique()
    adapter = make_adapter(servers, timeouts=Timeouts(publish=3))
    async with nothing_left(), running(adapter):
        await adapter.publish(topic, b"before")
        await asyncio.to_thread(single.kill)
        publishes: list[Any] = [adapter.publish(topic, b"x" * 1000) for _ in range(200)]
        batch = [Message(topic, b"x" * 1000) for _ in range(200)]
        publishes += [adapter.publish(other, b"new topic"), adapter.publish_many(batch)]
        began = time.monotonic()
        outcomes = await asyncio.gather(*publishes, return_exceptions=True)
        assert time.monotonic() - began < 3 + SLACK
        assert all(isinstance(outcome, PublishError) for outcome in outcomes)
        assert any("publish-timeout" in str(outcome) for outcome in outcomes)
        await asyncio.to_thread(single.restart)
        await until(lambda: adapter.health().healthy)
        await adapter.publish(topic, b"after")


@pytest.mark.parametrize("how", ["kill", pytest.param("pause", marks=pytest.mark.chaos)])
async def test_stop_is_bounded_while_brokers_are_down(single: KafkaCluster, how: str) -> None:
    """With the broker dead or frozen a stop returns in time, ends every publish, leaves nothing."""
    servers = single.bootstrap_servers
    topic = await new_topic(servers)
    adapter = make_adapter(servers, timeouts=Timeouts(shutdown=4, publish=60))
    handling, go_on = asyncio.Event(), asyncio.Event()

    async def handle(message: Message) -> None:
        handling.set()
        await go_on.wait()

    await adapter.subscribe(topic, handle, unique("group"))
    await adapter.subscribe(topic, Inbox())
    async with nothing_left():
        await adapter.start()
        await adapter.publish(topic, b"first")
        await handling.wait()
        await asyncio.to_thread(getattr(single, how))
        publishing = asyncio.create_task(adapter.publish(topic, b"unconfirmed"))
        await asyncio.sleep(0)  # so that it is on its way
        go_on.set()
        began = time.monotonic()
        await adapter.stop()
        assert time.monotonic() - began < 4 + SLACK
        with pytest.raises(PublishError):
            await asyncio.wait_for(publishing, SLACK)


async def test_a_producer_whose_end_is_cut_short_leaves_nothing(single: KafkaCluster) -> None:
    """A replaced producer that still flushes when the adapter stops is closed, not left behind."""
    servers = single.bootstrap_servers
    topic = await new_topic(servers)
    async with nothing_left():
        producer = AIOKafkaProducer(bootstrap_servers=servers, enable_idempotence=True)
        await producer.start()
        await producer.send_and_wait(topic, b"confirmed")
        await asyncio.to_thread(single.pause)
        unconfirmed = await producer.send(topic, b"unconfirmed")
        ending = asyncio.create_task(end_producer(producer, 3600))
        await asyncio.wait((ending,), timeout=0.5)  # by then it flushes
        ending.cancel()
        await asyncio.wait((ending,))
        with pytest.raises(KafkaConnectionError):
            await asyncio.wait_for(unconfirmed, SLACK)


async def coordinator_of(servers: str, group: str | None) -> int:
    """Return the number of the node that coordinates a group."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        return int(await admin.find_coordinator(group))
    finally:
        await admin.close()
