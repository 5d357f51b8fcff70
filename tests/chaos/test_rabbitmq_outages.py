"""The RabbitMQ adapter through outages: nothing lost, every consumer back, never stuck."""

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import pairwise

import aiormq
import pytest

from pyfly_messaging import Message
from pyfly_messaging.adapters.rabbitmq import RabbitMQAdapter
from pyfly_messaging.adapters.rabbitmq.deliveries import Delivery
from pyfly_messaging.adapters.rabbitmq.topology import DELIVERY_LIMIT
from pyfly_messaging.errors import PublishError
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from tests.brokers import ProxyFactory, RabbitCluster, RabbitFactory
from tests.integration.rabbit import Gate, Inbox, Rabbit, eventually, others, rabbit_at

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


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
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


async def test_a_deleted_exchange_is_declared_anew(rabbit: Rabbit) -> None:
    """A publish to an exchange that was deleted declares it, and says that no queue is bound."""
    topic = rabbit.name("orders")
    broker = rabbit.adapter()
    await broker.subscribe(topic, Inbox())
    await broker.start()
    async with rabbit.channel() as channel:
        await channel.exchange_delete(rabbit.exchange)
    with pytest.raises(PublishError, match="no queue takes"):
        await broker.publish(topic, b"value")


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


@pytest.mark.parametrize("working", [False, True])
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
        with pytest.raises(PublishError, match="publish-timeout"):
            await broker.publish(topic, b"more")
        gate.open.set()
        await inbox.has({str(n).encode() for n in range(20)})
        await asyncio.to_thread(cluster.control, "set_vm_memory_high_watermark", "0.6")
        await eventually(lambda: b"more" in inbox.values)
        await broker.publish(topic, b"again")
        await inbox.has({b"again"})


async def test_a_fault_that_stays_spins_no_loop(
    rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that ends its channel each time is tried ever more slowly, then dead-lettered."""
    topic, group, times = rabbit.name("orders"), rabbit.name("group"), list[float]()

    def fails(delivery: Delivery, topic: str) -> Message:
        times.append(time.monotonic())
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("pyfly_messaging.adapters.rabbitmq.session.decode", fails)
    monkeypatch.setattr("pyfly_messaging.adapters.rabbitmq.consumer._LONGEST_PAUSE", 0.5)
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
