"""The RabbitMQ adapter through outages: nothing lost, every consumer back, never stuck."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import pairwise

import aiormq
import pytest
from aiormq.abc import AbstractChannel

from pyfly_messaging import Message
from pyfly_messaging.adapters.rabbitmq import RabbitMQAdapter
from pyfly_messaging.adapters.rabbitmq.topic_lanes import Topics
from pyfly_messaging.adapters.rabbitmq.topology import DELIVERY_LIMIT, Topology
from pyfly_messaging.delivery.backoff import Backoff
from pyfly_messaging.errors import PublishError, UnroutableError
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from tests.brokers import ProxyFactory, RabbitCluster, RabbitFactory
from tests.integration.rabbit import Gate, Inbox, Rabbit, caught_logs, eventually, others, rabbit_at

pytestmark = [pytest.mark.rabbitmq, pytest.mark.slow]


@pytest.fixture
async def rabbit(rabbitmq: RabbitCluster) -> AsyncIterator[Rabbit]:
    async with rabbit_at(rabbitmq.url) as rabbit:
        yield rabbit


class Traffic:
    """Publishes numbered messages until it is told to end, and knows which were confirmed."""

    def __init__(self, broker: RabbitMQAdapter, topic: str) -> None:
        self.confirmed: set[bytes] = set()
        self.failed: set[bytes] = set()
        self._broker = broker
        self._topic = topic
        self._ended = False
        self._tasks = [asyncio.create_task(self._publish(lane)) for lane in range(5)]

    async def end(self) -> None:
        self._ended = True
        await asyncio.gather(*self._tasks)

    async def _publish(self, lane: int) -> None:
        number = 0
        while not self._ended:
            value = f"{lane}-{number}".encode()
            number += 1
            try:
                await self._broker.publish(self._topic, value, key=str(lane).encode())
            except PublishError:
                self.failed.add(value)
            else:
                self.confirmed.add(value)
            await asyncio.sleep(0.001)


def in_order(values: list[bytes]) -> bool:
    """Tell whether the first appearances of each lane's numbers rise."""
    seen: dict[bytes, int] = {}
    for value in dict.fromkeys(values):
        lane, _, number = value.partition(b"-")
        if seen.get(lane, -1) > int(number):
            return False
        seen[lane] = int(number)
    return True


@pytest.mark.parametrize("queue_type", ["quorum", pytest.param("classic", marks=pytest.mark.chaos)])
async def test_a_killed_broker_loses_nothing(
    rabbit_cluster: RabbitFactory, queue_type: str
) -> None:
    """After SIGKILL and restart every confirmed message arrives and every consumer is back."""
    cluster = await asyncio.to_thread(rabbit_cluster)
    async with rabbit_at(cluster.url) as rabbit:
        topic, one, two = rabbit.name("orders"), Inbox(), Inbox()
        broker = rabbit.adapter(queue_type=queue_type, timeouts=Timeouts(publish=60.0))
        await broker.subscribe(topic, one, rabbit.name("one"))
        await broker.subscribe(topic, two, rabbit.name("two"))
        await broker.start()
        traffic = Traffic(broker, topic)
        await one.take(100)
        await asyncio.to_thread(cluster.remember_queues)
        await asyncio.to_thread(cluster.kill)
        await eventually(lambda: not broker.health().healthy)
        assert {h.state for h in broker.health().consumers} == {"reconnecting"}
        assert all(h.error for h in broker.health().consumers)
        await asyncio.to_thread(cluster.restart)
        await eventually(lambda: broker.health().healthy)
        before = len(traffic.confirmed)
        await eventually(lambda: len(traffic.confirmed) > before + 100)
        await traffic.end()
        assert traffic.failed == set()
        await one.has(traffic.confirmed)
        await two.has(traffic.confirmed)


async def test_a_cut_connection_loses_nothing(
    rabbit: Rabbit, rabbitmq: RabbitCluster, tcp_proxy: ProxyFactory
) -> None:
    """After cuts every confirmed message arrives, in order for each key."""
    proxy = await tcp_proxy(rabbitmq.address)
    topic, inbox = rabbit.name("orders"), Inbox()
    broker = rabbit.adapter(
        url=f"amqp://guest:guest@{proxy.address}/", policy=ListenerPolicy(concurrency=4)
    )
    await broker.subscribe(topic, inbox, rabbit.name("group"))
    await broker.start()
    traffic = Traffic(broker, topic)
    for cut in range(3):
        await inbox.take(100 * (cut + 1))
        await proxy.cut()
        await eventually(lambda: not broker.health().healthy)
        await proxy.heal()
        await eventually(lambda: broker.health().healthy)
    before = len(traffic.confirmed)
    await eventually(lambda: len(traffic.confirmed) > before + 100)
    await traffic.end()
    assert traffic.failed == set()
    await inbox.has(traffic.confirmed)
    await broker.stop()
    await rabbit.counts(rabbit.name("group"), 0)


async def test_a_cut_does_not_cancel_a_handler(
    rabbit: Rabbit, rabbitmq: RabbitCluster, tcp_proxy: ProxyFactory
) -> None:
    """A handler that runs when the connection is cut finishes; then its message comes again."""
    proxy = await tcp_proxy(rabbitmq.address)
    topic, gate = rabbit.name("orders"), Gate()
    broker = rabbit.adapter(url=f"amqp://guest:guest@{proxy.address}/")
    await broker.subscribe(topic, gate, rabbit.name("group"))
    await broker.start()
    await broker.publish(topic, b"value")
    await gate.entered.wait()
    await proxy.cut()
    await proxy.heal()
    await eventually(lambda: broker.health().consumers[0].state == "reconnecting")
    await asyncio.sleep(0.5)  # time for a second delivery, which must not begin beside the first
    assert gate.finished == []
    gate.open.set()
    await eventually(lambda: len(gate.finished) == 2)
    await rabbit.counts(rabbit.name("group"), 0)


async def test_a_handler_of_before_a_cut_holds_up_its_own_topic_only(
    rabbit: Rabbit, rabbitmq: RabbitCluster, tcp_proxy: ProxyFactory
) -> None:
    """After a cut a group's other topics go on; the busy one in order, once its handler is done."""
    proxy = await tcp_proxy(rabbitmq.address)
    slow, other, group = rabbit.name("slow"), rabbit.name("other"), rabbit.name("group")
    gate, inbox = Gate(), Inbox()
    broker = rabbit.adapter(
        url=f"amqp://guest:guest@{proxy.address}/", policy=ListenerPolicy(concurrency=2)
    )
    await broker.subscribe(slow, gate, group)
    await broker.subscribe(other, inbox, group)
    await broker.start()
    await broker.publish(slow, b"0", key=b"k")
    await gate.entered.wait()
    await proxy.cut()
    await proxy.heal()
    for number in range(1, 5):
        await broker.publish(slow, str(number).encode(), key=b"k")
    await broker.publish(other, b"value")
    await inbox.take(1, timeout=10)
    await eventually(lambda: broker.health().healthy)
    await eventually(lambda: broker.health().consumers[0].in_flight == 5)
    assert gate.finished == []
    gate.open.set()
    await eventually(lambda: len(gate.finished) >= 6)
    assert gate.finished == [b"0", b"0", b"1", b"2", b"3", b"4"]
    await rabbit.counts(group, 0)


async def test_a_handler_that_hangs_since_before_a_cut_is_cancelled_in_the_end(
    rabbit: Rabbit, rabbitmq: RabbitCluster, tcp_proxy: ProxyFactory
) -> None:
    """A handler that does not end within the shutdown timeout after a cut gives up its place."""
    proxy = await tcp_proxy(rabbitmq.address)
    topic, inbox, entered, cancelled = (
        rabbit.name("orders"),
        Inbox(),
        asyncio.Event(),
        list[bytes](),
    )

    async def hangs_once(message: Message) -> None:
        if not entered.is_set():
            entered.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(message.value)
                raise
        await inbox(message)

    broker = rabbit.adapter(
        url=f"amqp://guest:guest@{proxy.address}/", timeouts=Timeouts(shutdown=1.0)
    )
    await broker.subscribe(topic, hangs_once, rabbit.name("group"))
    await broker.start()
    await broker.publish_many(Message(topic, str(n).encode()) for n in range(3))
    await entered.wait()
    for _ in range(2):  # the second one does not begin the time anew
        await proxy.cut()
        await proxy.heal()
        await eventually(lambda: broker.health().consumers[0].state == "reconnecting")
        await eventually(lambda: broker.health().healthy)
    await inbox.take(3, timeout=10)
    assert cancelled == [b"0"]
    assert inbox.values == [b"0", b"1", b"2"]


async def test_a_stop_after_a_cut_still_waits_for_the_handler(
    rabbit: Rabbit, rabbitmq: RabbitCluster, tcp_proxy: ProxyFactory
) -> None:
    """A handler that runs since before the cut may finish within the shutdown timeout."""
    proxy = await tcp_proxy(rabbitmq.address)
    topic, gate = rabbit.name("orders"), Gate()
    broker = rabbit.adapter(url=f"amqp://guest:guest@{proxy.address}/")
    await broker.subscribe(topic, gate, rabbit.name("group"))
    await broker.start()
    await broker.publish(topic, b"value")
    await gate.entered.wait()
    await proxy.cut()
    await eventually(lambda: not broker.health().healthy)
    stopping = asyncio.create_task(broker.stop())
    await asyncio.sleep(0.2)
    assert not stopping.done()
    gate.open.set()
    await stopping
    assert gate.finished == [b"value"]


async def test_a_publish_waits_for_the_connection(
    rabbit: Rabbit, rabbitmq: RabbitCluster, tcp_proxy: ProxyFactory
) -> None:
    """A publish made while the connection is down is confirmed when it is back."""
    proxy = await tcp_proxy(rabbitmq.address)
    topic, inbox = rabbit.name("orders"), Inbox()
    broker = rabbit.adapter(url=f"amqp://guest:guest@{proxy.address}/")
    await broker.subscribe(topic, inbox)
    await broker.start()
    await proxy.cut()
    publishing = [asyncio.create_task(broker.publish(topic, str(n).encode())) for n in range(50)]
    await asyncio.sleep(0.5)
    assert not any(task.done() for task in publishing)
    await proxy.heal()
    await asyncio.gather(*publishing)
    await inbox.has({str(n).encode() for n in range(50)})


async def test_a_publish_gives_up_at_its_deadline(
    rabbit: Rabbit, rabbitmq: RabbitCluster, tcp_proxy: ProxyFactory
) -> None:
    """A publish raises at its deadline when the connection does not come back; stop is quick."""
    proxy = await tcp_proxy(rabbitmq.address)
    topic, before = rabbit.name("orders"), others()
    broker = rabbit.adapter(
        url=f"amqp://guest:guest@{proxy.address}/", timeouts=Timeouts(publish=0.5, shutdown=2.0)
    )
    await broker.subscribe(topic, Inbox())
    await broker.start()
    await proxy.cut()
    began = time.monotonic()
    with pytest.raises(PublishError, match="publish-timeout"):
        await broker.publish(topic, b"value")
    assert 0.4 < time.monotonic() - began < 5
    began = time.monotonic()
    await broker.stop()
    assert time.monotonic() - began < 3
    assert others() == before


async def test_a_deleted_queue_is_declared_anew(rabbit: Rabbit) -> None:
    """When a queue is deleted its consumer comes back alone, and the others go on."""
    topic, one, two = rabbit.name("orders"), Inbox(), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(topic, one, rabbit.name("one"))
    await broker.subscribe(topic, two, rabbit.name("two"))
    await broker.start()
    await rabbit.delete(rabbit.name("one"))
    await eventually(lambda: not broker.health().healthy)
    states = {h.group: h.state for h in broker.health().consumers}
    assert states == {rabbit.name("one"): "reconnecting", rabbit.name("two"): "running"}
    await eventually(lambda: broker.health().healthy)
    await broker.publish(topic, b"value")
    await one.take(1)
    await two.take(1)


@pytest.mark.parametrize("unroutable", ["raise", "drop"])
async def test_a_publisher_notices_a_deleted_exchange(rabbit: Rabbit, unroutable: str) -> None:
    """After a publish to an exchange that was deleted, it is there again with its bindings."""
    topic, inbox = rabbit.name("orders"), Inbox()
    broker = rabbit.adapter(unroutable=unroutable)
    await broker.subscribe(topic, inbox)
    await broker.start()
    async with rabbit.channel() as channel:
        await channel.exchange_delete(rabbit.exchange)
    async with asyncio.timeout(30):
        while not inbox.messages:
            with suppress(UnroutableError):
                await broker.publish(topic, b"value")
            await asyncio.sleep(0.1)
    await eventually(lambda: broker.health().healthy)


async def test_a_publisher_notices_a_binding_that_is_gone(rabbit: Rabbit) -> None:
    """With unroutable drop, too, a topic of our own that no queue takes is bound again."""
    topic, inbox = rabbit.name("orders"), Inbox()
    broker = rabbit.adapter(unroutable="drop")
    await broker.subscribe(topic, inbox)
    await broker.start()
    async with rabbit.channel() as channel:
        await channel.exchange_delete(rabbit.exchange)
        await channel.exchange_declare(rabbit.exchange, exchange_type="direct", durable=True)
    async with asyncio.timeout(30):
        while not inbox.messages:
            await broker.publish(topic, b"value")
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("which", ["{}", "{}.dlx"])
async def test_a_deleted_exchange_is_noticed_without_a_publish(
    rabbit: Rabbit, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deleted exchange is told once, declared again, and bound as before; health says so."""
    monkeypatch.setattr("pyfly_messaging.adapters.rabbitmq.consumers._CHECK_EVERY_S", 0.2)
    topic, group, inbox, letters = rabbit.name("orders"), rabbit.name("group"), Inbox(), Inbox()
    exchange = which.format(rabbit.exchange)
    broker = rabbit.adapter()
    await broker.subscribe(topic, inbox, group)
    await broker.subscribe(f"{topic}.dlt", letters)
    await broker.start()
    states: set[bool] = set()
    declare = Topology.declare_exchanges

    async def declaring(self: Topology, channel: AbstractChannel) -> None:
        states.add(broker.health().healthy)
        await declare(self, channel)

    with caught_logs("pyfly_messaging.rabbitmq") as log:
        async with rabbit.channel() as channel:
            monkeypatch.setattr(Topology, "declare_exchanges", declaring)
            await channel.exchange_delete(exchange)
        await eventually(lambda: f"{exchange!r} is missing" in log.text)
        await eventually(lambda: broker.health().healthy and True in states)
        assert False in states, "health said so until it was there"
        await rabbit.publish(topic, b"value")
        await inbox.take(1)
        async with rabbit.channel() as channel:
            await channel.basic_publish(
                b"moved", exchange=f"{rabbit.exchange}.dlx", routing_key=topic
            )
        await letters.take(1)
    assert log.text.count("is missing") == 1


async def test_a_binding_that_another_took_away_comes_back(
    rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exchange that others declared again is bound again, without any publish of ours."""
    monkeypatch.setattr("pyfly_messaging.adapters.rabbitmq.consumers._CHECK_EVERY_S", 0.2)
    topic, inbox = rabbit.name("orders"), Inbox()
    broker = rabbit.adapter(broadcast="instance")
    await broker.subscribe(topic, inbox)
    await broker.start()
    async with rabbit.channel() as channel:
        await channel.exchange_delete(rabbit.exchange)
        await channel.exchange_declare(rabbit.exchange, exchange_type="direct", durable=True)
    async with asyncio.timeout(30):
        while not inbox.messages:
            with suppress(aiormq.exceptions.PublishError):
                await rabbit.publish(topic, b"value")
            await asyncio.sleep(0.1)


async def test_a_stop_counts_as_one_delivery(rabbit: Rabbit) -> None:
    """A message in work at a stop is by one nearer to its delivery limit, not by two."""
    topic, group, gate = rabbit.name("orders"), rabbit.name("group"), Gate()
    broker = rabbit.adapter(timeouts=Timeouts(shutdown=1.0))
    await broker.subscribe(topic, gate, group)
    await broker.start()
    await broker.publish(topic, b"value")
    await gate.entered.wait()
    await broker.stop()
    got = await rabbit.take(group)
    assert got.header.properties.headers == {"x-delivery-count": 1}


async def test_a_queue_that_changed_keeps_its_consumer_trying(rabbit: Rabbit) -> None:
    """A consumer whose queue came back as another says so in health, and consumes once it fits."""
    topic, group, inbox = rabbit.name("orders"), rabbit.name("group"), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(topic, inbox, group)
    await broker.start()
    async with rabbit.channel() as channel:
        await channel.queue_delete(group)
        await channel.queue_declare(group, durable=True, arguments={"x-max-length": 7})
    await eventually(lambda: "inequivalent arg" in (broker.health().consumers[0].error or ""))
    assert broker.health().consumers[0].state == "reconnecting"
    await rabbit.delete(group)
    await eventually(lambda: broker.health().healthy)
    await broker.publish(topic, b"value")
    await inbox.take(1)


@pytest.mark.parametrize("working", [pytest.param(False, marks=pytest.mark.chaos), True])
async def test_stop_is_bounded_when_the_broker_is_frozen(
    rabbit_cluster: RabbitFactory, working: bool
) -> None:
    """A broker that is frozen with SIGSTOP cannot hold up a stop, and nothing is left of it."""
    cluster = await asyncio.to_thread(rabbit_cluster)
    before = others()
    rabbit = Rabbit(cluster.url)
    topic, gate = rabbit.name("orders"), Gate()
    broker = rabbit.adapter(timeouts=Timeouts(publish=30.0, shutdown=3.0))
    await broker.subscribe(topic, gate, rabbit.name("group"))
    await broker.start()
    await broker.publish_many([Message(topic, b"v" * 1000)] * 200)
    await gate.entered.wait()
    await asyncio.to_thread(cluster.pause)
    publishing = [asyncio.create_task(broker.publish(topic, b"v" * 100_000)) for _ in range(100)]
    await asyncio.sleep(0.2)
    if not working:
        gate.open.set()
    began = time.monotonic()
    await broker.stop()
    assert time.monotonic() - began < 4.5
    outcomes = await asyncio.gather(*publishing, return_exceptions=True)
    assert all(isinstance(outcome, PublishError) for outcome in outcomes)
    await eventually(lambda: others() == before)


async def test_a_frozen_broker_goes_on(rabbit_cluster: RabbitFactory) -> None:
    """After a freeze that is shorter than the heartbeat allows, everything goes on."""
    cluster = await asyncio.to_thread(rabbit_cluster)
    async with rabbit_at(cluster.url) as rabbit:
        topic, inbox = rabbit.name("orders"), Inbox()
        broker = rabbit.adapter()
        await broker.subscribe(topic, inbox, rabbit.name("group"))
        await broker.start()
        traffic = Traffic(broker, topic)
        await inbox.take(100)
        await asyncio.to_thread(cluster.pause)
        await asyncio.sleep(1)
        await asyncio.to_thread(cluster.resume)
        before = len(traffic.confirmed)
        await eventually(lambda: len(traffic.confirmed) > before + 100)
        await traffic.end()
        await inbox.has(traffic.confirmed)
        assert traffic.failed == set()
        assert in_order(inbox.values)


async def test_a_frozen_network_is_noticed_by_the_heartbeat(
    rabbit: Rabbit, rabbitmq: RabbitCluster, tcp_proxy: ProxyFactory
) -> None:
    """A connection that went silent is given up after its heartbeats, and made again."""
    proxy = await tcp_proxy(rabbitmq.address)
    topic, inbox = rabbit.name("orders"), Inbox()
    broker = rabbit.adapter(url=f"amqp://guest:guest@{proxy.address}/", heartbeat=1)
    await broker.subscribe(topic, inbox, rabbit.name("group"))
    await broker.start()
    await proxy.freeze()
    await eventually(lambda: not broker.health().healthy)
    await proxy.cut()
    await proxy.heal()
    await eventually(lambda: broker.health().healthy)
    await broker.publish(topic, b"value")
    await inbox.take(1)


async def test_a_node_of_a_cluster_may_fail(rabbit_cluster: RabbitFactory) -> None:
    """With quorum queues on three nodes, a killed node behind a client costs no message."""
    cluster = await asyncio.to_thread(rabbit_cluster, nodes=3)
    async with rabbit_at(cluster.urls[0]) as here, rabbit_at(cluster.urls[1]) as there:
        there.exchange = here.exchange
        topic, group, one, two = here.name("orders"), here.name("group"), Inbox(), Inbox()
        publisher = there.adapter(timeouts=Timeouts(publish=60.0))
        consumer = here.adapter()
        await consumer.subscribe(topic, one, group)
        await publisher.subscribe(topic, two, group)
        await consumer.start()
        await publisher.start()
        traffic = Traffic(publisher, topic)
        await one.take(50)
        await asyncio.to_thread(cluster.kill, 0)
        before = len(traffic.confirmed)
        await eventually(lambda: len(traffic.confirmed) > before + 200, timeout=60)
        await asyncio.to_thread(cluster.restart, 0)
        await eventually(lambda: consumer.health().healthy, timeout=60)
        await traffic.end()
        async with asyncio.timeout(60):
            while not traffic.confirmed <= set(one.values) | set(two.values):
                await asyncio.sleep(0.1)
        assert traffic.failed == set()


async def test_a_delivery_limit_drops_nothing(rabbit: Rabbit) -> None:
    """A message that RabbitMQ gives up on after its delivery limit is on the dead-letter topic."""
    topic, group, letters = rabbit.name("orders"), rabbit.name("group"), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(topic, Inbox(), group)
    await broker.start()
    await broker.stop()
    other = rabbit.adapter()
    await other.subscribe(f"{topic}.dlt", letters)
    await other.start()
    await rabbit.publish(topic, b"value", headers={"a": "b"})
    await give_up(rabbit, group)
    (letter,) = await letters.take(1)
    assert (letter.topic, letter.value, letter.headers["a"]) == (f"{topic}.dlt", b"value", "b")
    assert letter.headers["x-first-death-reason"] == "delivery_limit"
    assert letter.headers["x-pyfly-original-topic"] == topic


async def test_a_group_on_a_dead_letter_topic_gets_what_rabbitmq_gave_up(rabbit: Rabbit) -> None:
    """Groups that listen to dead letters, of several topics, get RabbitMQ's own ones, each once."""
    orders, refunds = rabbit.name("orders"), rabbit.name("refunds")
    group, workers = rabbit.name("group"), rabbit.name("workers")
    of_orders, of_refunds, beside = Inbox(), Inbox(), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(orders, Inbox(), group)
    await broker.start()
    await broker.stop()
    other = rabbit.adapter()
    await other.subscribe(f"{orders}.dlt", of_orders, workers)
    await other.subscribe(f"{refunds}.dlt", of_refunds, workers)
    await other.subscribe(orders, beside, workers)  # whose dead letter is not its message again
    await other.start()
    await rabbit.publish(orders, b"value")
    await beside.take(1)
    await give_up(rabbit, group)
    (letter,) = await of_orders.take(1)
    assert (letter.topic, letter.value) == (f"{orders}.dlt", b"value")
    assert letter.headers["x-pyfly-original-topic"] == orders
    assert (await rabbit.take(f"pyfly.{orders}.dlt")).body == b"value"
    await other.stop()
    assert [len(inbox.values) for inbox in (of_orders, of_refunds, beside)] == [1, 0, 1]


async def give_up(rabbit: Rabbit, queue: str) -> None:
    """Take a message and reject it until RabbitMQ's delivery limit is reached."""
    async with rabbit.channel() as channel:
        for _ in range(DELIVERY_LIMIT + 10):
            got = (await channel.basic_get(queue)).delivery
            if isinstance(got, aiormq.spec.Basic.GetOk) and got.delivery_tag is not None:
                await channel.basic_reject(got.delivery_tag, requeue=True)


async def test_a_memory_alarm_does_not_stop_consumers(rabbit_cluster: RabbitFactory) -> None:
    """While RabbitMQ blocks publishers for lack of memory, messages are handled."""
    cluster = await asyncio.to_thread(rabbit_cluster)
    async with rabbit_at(cluster.url) as rabbit:
        topic, group, inbox = rabbit.name("orders"), rabbit.name("group"), Inbox()
        broker = rabbit.adapter(timeouts=Timeouts(publish=1.0, shutdown=5.0), prefetch=1)
        gate = Gate()

        async def handler(message: Message) -> None:
            await gate(message)
            await inbox(message)

        await broker.subscribe(topic, handler, group)
        await broker.start()
        await broker.publish_many(Message(topic, str(n).encode()) for n in range(20))
        await asyncio.to_thread(cluster.control, "set_vm_memory_high_watermark", "0.000001")
        with caught_logs("pyfly_messaging.rabbitmq") as log:
            with pytest.raises(PublishError, match="publish-timeout"):
                await broker.publish(topic, b"more")
            await eventually(lambda: not broker.health().publishing)
            assert "RabbitMQ takes no messages, publishing waits: low on memory" in log.text
            for _ in range(3):
                many = await asyncio.gather(
                    *(broker.publish(topic, bytes(100_000)) for _ in range(200)),
                    return_exceptions=True,
                )
                assert all("low on memory" in str(error) for error in many)
            assert written(broker) < 200_000, "publishes wait without being written"
        gate.open.set()
        await inbox.has({str(n).encode() for n in range(20)})
        await asyncio.to_thread(cluster.control, "set_vm_memory_high_watermark", "0.6")
        await eventually(lambda: b"more" in inbox.values)
        await broker.publish(topic, b"again")
        await inbox.has({b"again"})
        assert broker.health().healthy


async def test_what_the_network_does_not_take_is_bounded(
    rabbit: Rabbit, rabbitmq: RabbitCluster, tcp_proxy: ProxyFactory
) -> None:
    """On a frozen network publishes wait instead of filling memory, and health says so."""
    topic, proxy = rabbit.name("orders"), await tcp_proxy(rabbitmq.address)
    broker = rabbit.adapter(
        url=f"amqp://guest:guest@{proxy.address}/", timeouts=Timeouts(publish=0.5, shutdown=2.0)
    )
    await broker.subscribe(topic, Inbox())
    await broker.start()
    assert broker.health().publishing
    await proxy.freeze()
    for _ in range(4):
        outcomes = await asyncio.gather(
            *(broker.publish(topic, bytes(500_000)) for _ in range(50)), return_exceptions=True
        )
        assert all(isinstance(outcome, PublishError) for outcome in outcomes)
        assert written(broker) < 3_000_000
    assert not broker.health().publishing
    await proxy.cut()
    await proxy.heal()
    await eventually(lambda: broker.health().healthy)


def written(broker: RabbitMQAdapter) -> int:
    """Return how much is written for RabbitMQ that the network has not taken."""
    connection = broker._publishing.current
    assert connection is not None
    return connection._transport.get_write_buffer_size()


async def test_a_fault_that_stays_spins_no_loop(
    rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that ends its channel each time is tried ever more slowly, then dead-lettered."""
    topic, group, times = rabbit.name("orders"), rabbit.name("group"), list[float]()

    def fails(self: Topics, *arrived: object) -> None:
        times.append(time.monotonic())
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(Topics, "submit", fails)
    backoff = Backoff(first=0.1, longest=0.5)
    monkeypatch.setattr("pyfly_messaging.adapters.rabbitmq.consumer._BACKOFF", backoff)
    broker = rabbit.adapter()
    await broker.subscribe(topic, Inbox(), group)
    await broker.start()
    await broker.publish(topic, b"value")
    letter = await rabbit.take(f"pyfly.{topic}.dlt")
    assert letter.body == b"value"
    assert len(times) == DELIVERY_LIMIT + 1
    pauses = [after - before for before, after in pairwise(times)]
    assert pauses[0] < 2
    assert all(pause > 0.2 for pause in pauses[4:])


async def test_a_start_that_is_ended_at_any_moment_leaves_nothing(rabbit: Rabbit) -> None:
    """Whenever a start is cancelled, or stopped while it runs, no task of it is left."""
    before = others()
    for number in range(40):
        broker, inbox = rabbit.adapter(), Inbox()
        await broker.subscribe(rabbit.name("one"), inbox, rabbit.name("group"))
        await broker.subscribe(rabbit.name("two"), inbox)
        starting = asyncio.create_task(broker.start())
        await asyncio.sleep(0.001 * number)
        if number % 2:
            starting.cancel()
        await broker.stop()
        await asyncio.wait((starting,))
        await broker.stop()
        await eventually(lambda: others() == before, timeout=5)
        assert not broker.health().publishing
