"""Start, subscribe and stop of the RabbitMQ adapter: all or nothing, bounded, nothing left over."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pyfly_messaging import Message
from pyfly_messaging.adapters.rabbitmq import RabbitMQAdapter
from pyfly_messaging.adapters.rabbitmq.topology import Topology
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.errors import (
    AuthenticationError,
    BatchPublishError,
    BrokerUnavailableError,
    ConfigurationError,
    NotStartedError,
    PublishError,
    TopologyError,
)
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from tests.brokers import ProxyFactory, RabbitCluster, RabbitFactory
from tests.integration.rabbit import (
    QUICK,
    Gate,
    Inbox,
    Rabbit,
    caught_logs,
    eventually,
    others,
    rabbit_at,
)

pytestmark = pytest.mark.rabbitmq


@pytest.fixture
async def rabbit(rabbitmq: RabbitCluster) -> AsyncIterator[Rabbit]:
    async with rabbit_at(rabbitmq.url) as rabbit:
        yield rabbit


async def test_a_message_published_right_after_start_arrives(rabbit: Rabbit) -> None:
    """When start has returned, every consumer is there: what is published next is not missed."""
    for number in range(10):
        topic, inbox = rabbit.name(f"orders-{number}"), Inbox()
        broker = rabbit.adapter(broadcast="instance")
        await broker.subscribe(topic, inbox)
        await broker.start()
        await broker.publish(topic, b"value")
        await inbox.take(1)
        await broker.stop()


async def test_publish_needs_a_running_broker(rabbit: Rabbit) -> None:
    """Before start and after stop a publish raises NotStartedError."""
    broker = rabbit.adapter()
    with pytest.raises(NotStartedError):
        await broker.publish("topic", b"")
    await broker.start()
    await broker.stop()
    with pytest.raises(NotStartedError):
        await broker.publish("topic", b"")
    with pytest.raises(NotStartedError):
        await broker.publish_many([Message("topic", b"")])


async def test_start_and_stop_are_idempotent_and_repeatable(rabbit: Rabbit) -> None:
    """Start twice is start, stop twice is stop, and a stopped broker starts again."""
    topic, inbox = rabbit.name("orders"), Inbox()
    broker = rabbit.adapter()
    await broker.stop()
    await broker.subscribe(topic, inbox)
    for number in range(3):
        await asyncio.gather(broker.start(), broker.start())
        await broker.publish(topic, b"value")
        await inbox.take(number + 1)
        await asyncio.gather(broker.stop(), broker.stop())
    assert len(inbox.messages) == 3


async def test_nothing_is_left_after_a_stop(rabbit: Rabbit, rabbitmq: RabbitCluster) -> None:
    """After stop no task of ours runs, and RabbitMQ has no connection of ours any more."""
    topic, inbox = rabbit.name("orders"), Inbox()
    before = others()
    broker = rabbit.adapter(options={"name": rabbit.prefix})
    await broker.subscribe(topic, inbox, rabbit.name("group"))
    await broker.subscribe(topic, inbox)
    await broker.start()
    await broker.publish(topic, b"value")
    await inbox.take(2)
    await broker.stop()
    assert others() == before
    assert all(consumer.state == "stopped" for consumer in broker.health().consumers)
    if rabbitmq.origin != "PYFLY_TEST_RABBITMQ":
        listed = await asyncio.to_thread(rabbitmq.control, "list_connections", "client_properties")
        assert rabbit.prefix not in listed


async def test_a_clean_run_warns_of_nothing(rabbit: Rabbit) -> None:
    """Start, traffic and stop without a fault log no warning."""
    topic, inbox = rabbit.name("orders"), Inbox()
    broker = rabbit.adapter()
    with caught_logs("pyfly_messaging") as log:
        await broker.subscribe(topic, inbox, rabbit.name("group"))
        await broker.start()
        await broker.publish(topic, b"value")
        await inbox.take(1)
        await broker.stop()
    assert log.text == ""


async def test_handlers_of_a_backlog_may_publish(rabbit: Rabbit) -> None:
    """Messages that waited for the start find a broker on which their handlers can publish."""
    topic, done, inbox = rabbit.name("orders"), rabbit.name("done"), Inbox()
    before = rabbit.adapter()
    await before.subscribe(topic, Gate(), rabbit.name("group"))
    await before.start()
    await before.publish_many([Message(topic, b"")] * 5)
    await before.stop()
    broker = rabbit.adapter(policy=ListenerPolicy(retries=0), timeouts=Timeouts(shutdown=1.0))

    async def handler(message: Message) -> None:
        await broker.publish(done, b"done")

    await broker.subscribe(topic, handler, rabbit.name("group"))
    await broker.subscribe(done, inbox, rabbit.name("other"))
    await broker.start()
    await inbox.take(5)
    assert await rabbit.count(f"pyfly.{topic}.dlt") == 0


async def test_health_tells_what_runs(rabbit: Rabbit) -> None:
    """Health names each listener, its queue, and what is in flight."""
    topic, group, gate = rabbit.name("orders"), rabbit.name("group"), Gate()
    broker = rabbit.adapter()
    await broker.subscribe(topic, gate, group, name="my-listener")
    assert not broker.health().healthy
    await broker.start()
    await broker.publish_many([Message(topic, b"")] * 3)
    await gate.entered.wait()
    await eventually(lambda: broker.health().consumers[0].in_flight == 3)
    (health,) = broker.health().consumers
    await eventually(lambda: broker.health().healthy)
    assert (health.name, health.topic, health.group) == ("my-listener", topic, group)
    assert (health.state, health.assigned, health.error) == ("running", (group,), None)
    gate.open.set()
    await eventually(lambda: broker.health().consumers[0].in_flight == 0)


async def test_subscribe_on_a_running_broker(rabbit: Rabbit) -> None:
    """A later subscription consumes when subscribe returns, on a new queue and on a known one."""
    group, one, two, three = rabbit.name("group"), Inbox(), Inbox(), Inbox()
    broker = rabbit.adapter()
    await broker.start()
    await broker.subscribe(rabbit.name("a"), one, group)
    await broker.publish(rabbit.name("a"), b"1")
    await one.take(1)
    await broker.subscribe(rabbit.name("b"), two, group)
    await broker.publish(rabbit.name("b"), b"2")
    await two.take(1)
    await broker.subscribe(rabbit.name("b"), three, group)
    for _ in range(2):
        await broker.publish(rabbit.name("b"), b"3")
    await three.take(1)
    assert len(broker.health().consumers) == 2


async def test_a_refused_subscription_is_taken_back(rabbit: Rabbit) -> None:
    """A subscription that the broker refuses leaves nothing, and can be made again."""
    topic, group, other, inbox = rabbit.name("a"), rabbit.name("group"), rabbit.name("b"), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(topic, inbox, group)
    await broker.start()
    async with rabbit.channel() as channel:
        await channel.queue_declare(f"pyfly.{other}.dlt")
        await channel.queue_declare(rabbit.name("taken"))
    with pytest.raises(TopologyError, match=r"pyfly\..*-b\.dlt"):
        await broker.subscribe(other, inbox, group)
    with pytest.raises(TopologyError, match="taken"):
        await broker.subscribe(other, inbox, rabbit.name("taken"))
    assert [h.topic for h in broker.health().consumers] == [topic]
    await rabbit.delete(f"pyfly.{other}.dlt")
    await broker.subscribe(other, inbox, group)
    await broker.publish(other, b"value")
    await inbox.take(1)


async def test_what_came_for_a_refused_subscription_goes_back(
    rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages that come before a subscription is refused are there for the next one."""
    topic, group, other = rabbit.name("a"), rabbit.name("group"), rabbit.name("b")
    before, broker = rabbit.adapter(), rabbit.adapter()
    await before.subscribe(other, Inbox(), group)
    await before.start()
    await before.stop()
    await broker.subscribe(topic, Inbox(), group)
    await broker.start()
    await rabbit.delete(f"pyfly.{other}.dlt")
    async with rabbit.channel() as channel:
        await channel.queue_declare(f"pyfly.{other}.dlt")
    binding = Held(monkeypatch, "bind")
    gate, inbox, values = Gate(), Inbox(), {b"0", b"1", b"2"}
    subscribing = asyncio.create_task(broker.subscribe(other, gate, group))
    await binding.entered.wait()
    await broker.publish_many(Message(other, value) for value in sorted(values))
    await gate.entered.wait()
    binding.go.set()
    with pytest.raises(TopologyError):
        await subscribing
    assert [h.topic for h in broker.health().consumers] == [topic]
    gate.open.set()
    await rabbit.delete(f"pyfly.{other}.dlt")
    await broker.subscribe(other, inbox, group)
    await inbox.has(values)
    assert gate.finished == [], "its handler was ended with it"


async def test_a_subscription_that_a_stop_overtakes_is_refused(
    rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subscribe that is under way while the broker stops raises NotStartedError."""
    topic, group, other, inbox = rabbit.name("a"), rabbit.name("group"), rabbit.name("b"), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(topic, inbox, group)
    await broker.start()
    binding = Held(monkeypatch, "bind")
    subscribing = asyncio.create_task(broker.subscribe(other, inbox, group))
    await binding.entered.wait()
    await broker.stop()
    binding.go.set()
    with pytest.raises(NotStartedError):
        await subscribing
    await broker.start()
    assert [h.topic for h in broker.health().consumers] == [topic]


async def test_a_subscription_that_is_cancelled_while_its_queue_comes_back_disturbs_nobody(
    rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue's consumer comes back at the first try, without the topic that was given up."""
    topic, group, other, inbox = rabbit.name("a"), rabbit.name("group"), rabbit.name("b"), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(topic, inbox, group)
    await broker.start()

    def both(routes: tuple[Route, ...]) -> bool:
        if len(routes) < 2:
            raise BrokerUnavailableError("not yet", address="", attempts=1)
        return True

    declaring = Held(monkeypatch, "declare_all", when=lambda args: both(args[-1]))
    await rabbit.delete(group)
    await eventually(lambda: not broker.health().healthy)
    subscribing = asyncio.create_task(broker.subscribe(other, inbox, group))
    await declaring.entered.wait()
    subscribing.cancel()
    await asyncio.wait((subscribing,))
    with caught_logs("pyfly_messaging.rabbitmq") as log:
        declaring.go.set()
        await eventually(lambda: broker.health().healthy)
    assert log.text == ""
    await broker.publish(topic, b"value")
    await inbox.take(1)


class Held:
    """One method of `Topology`, whose call waits until it is let."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        when: Callable[[tuple[Any, ...]], bool] = lambda _: True,
    ) -> None:
        self.entered, self.go = asyncio.Event(), asyncio.Event()
        method = getattr(Topology, name)

        async def held(*args: Any) -> Any:
            if not self.go.is_set() and when(args):
                self.entered.set()
                await self.go.wait()
            return await method(*args)

        monkeypatch.setattr(Topology, name, held)


async def test_the_same_handler_twice_is_refused(rabbit: Rabbit) -> None:
    """The same handler cannot listen twice to one topic in one group."""
    inbox = Inbox()
    broker = rabbit.adapter()
    await broker.subscribe("orders", inbox, "group")
    with pytest.raises(ValueError, match="already listens"):
        await broker.subscribe("orders", inbox, "group")


async def test_groups_that_would_share_a_queue_are_refused(rabbit: Rabbit) -> None:
    """Two groups whose names give one queue for a topic would steal from each other."""
    broker = rabbit.adapter()
    await broker.subscribe("orders", Inbox())
    with pytest.raises(ValueError, match=r"share the queue 'pyfly\.orders'"):
        await broker.subscribe("orders", Inbox(), "pyfly.orders")
    with pytest.raises(ValueError, match="ASCII"):
        await broker.subscribe("orders", Inbox(), "größe")
    assert len(broker.health().consumers) == 1


@pytest.mark.parametrize("part", ["queue", "exchange", "dead letters"])
async def test_a_start_says_what_exists_and_what_was_asked_for(rabbit: Rabbit, part: str) -> None:
    """What exists with other arguments fails the start at once, with both sides, and no trace."""
    topic, group, before = rabbit.name("orders"), rabbit.name("group"), others()
    async with rabbit.channel() as channel:
        match part:
            case "queue":
                await channel.queue_declare(
                    group, durable=True, arguments={"x-queue-type": "classic"}
                )
                both = rf"{group}.*received the value .* but current is none"
            case "exchange":
                await channel.exchange_declare(rabbit.exchange, exchange_type="topic", durable=True)
                both = r"type.*direct.*topic"
            case _:
                await channel.queue_declare(
                    f"pyfly.{topic}.dlt", durable=True, arguments={"x-max-length": 1}
                )
                both = r"pyfly\..*\.dlt.*(x-queue-type|x-max-length|x-dead-letter)"
    broker = rabbit.adapter()
    await broker.subscribe(topic, Inbox(), group)
    with pytest.raises(TopologyError, match=both) as caught:
        await broker.start()
    assert "change the settings" in str(caught.value)
    assert caught.value.__cause__ is not None
    assert others() == before
    assert not broker.health().started


async def test_a_topic_can_be_added_to_a_groups_queue(rabbit: Rabbit) -> None:
    """A process that listens to one more topic declares the same queue as the one before."""
    group, inbox = rabbit.name("group"), Inbox()
    for topics in (["a"], ["a", "b"], ["b", "c"]):
        broker = rabbit.adapter()
        for topic in topics:
            await broker.subscribe(rabbit.name(topic), inbox, group)
        await broker.start()
        await broker.publish(rabbit.name(topics[-1]), topics[-1].encode())
        await inbox.has({topics[-1].encode()})
        await broker.stop()


async def test_a_wrong_password_fails_at_once(
    rabbit: Rabbit, rabbitmq: RabbitCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """Refused credentials fail the start at once; the password is shown nowhere."""
    before, secret = others(), "s3cr3t-pass/word#"
    caplog.set_level(logging.DEBUG)
    url = f"amqp://guest:{secret}@{rabbitmq.address}/"
    broker = rabbit.adapter(url=url)
    await broker.subscribe(rabbit.name("orders"), Inbox())
    began = time.monotonic()
    with pytest.raises(AuthenticationError, match="ACCESS_REFUSED") as caught:
        await broker.start()
    assert time.monotonic() - began < 10
    assert others() == before
    cause: BaseException | None = caught.value
    while cause is not None:
        assert "s3cr3t" not in f"{cause!r} {cause}"
        cause = cause.__cause__ or cause.__context__
    assert "s3cr3t" not in caplog.text
    assert "s3cr3t" not in repr(vars(broker))
    assert "guest" in str(caught.value)


async def test_a_wrong_virtual_host_fails_at_once(rabbit: Rabbit, rabbitmq: RabbitCluster) -> None:
    """A virtual host that is not there fails the start at once and is named."""
    broker = rabbit.adapter(url=f"amqp://guest:guest@{rabbitmq.address}/nowhere")
    with pytest.raises(AuthenticationError, match="vhost nowhere not found"):
        await broker.start()


async def test_an_unreachable_broker_fails_within_the_startup_timeout(rabbit: Rabbit) -> None:
    """Without a broker the start tries until its deadline and says where, how often and why."""
    before = others()
    broker = rabbit.adapter(
        url="amqp://guest:secret@127.0.0.1:1/", timeouts=Timeouts(startup=1.0, shutdown=1.0)
    )
    await broker.subscribe("orders", Inbox())
    began = time.monotonic()
    with pytest.raises(BrokerUnavailableError, match="Connect call failed") as caught:
        await broker.start()
    assert 0.9 < time.monotonic() - began < 5
    assert caught.value.attempts >= 3
    assert caught.value.address == "amqp://guest:******@127.0.0.1:1/"
    assert caught.value.address in str(caught.value)
    assert others() == before


async def test_a_silent_server_fails_within_the_startup_timeout(
    rabbit: Rabbit, rabbitmq: RabbitCluster, tcp_proxy: ProxyFactory
) -> None:
    """A server that accepts connections and says nothing does not hang the start."""
    proxy = await tcp_proxy(rabbitmq.address)
    await proxy.freeze()
    before = others()
    broker = rabbit.adapter(
        url=f"amqp://guest:guest@{proxy.address}/", timeouts=Timeouts(startup=1.0)
    )
    await broker.subscribe("orders", Inbox())
    with pytest.raises(BrokerUnavailableError):
        await broker.start()
    await eventually(lambda: others() == before | (others() & _of(proxy)))


async def test_tls_is_verified(rabbit_cluster: RabbitFactory) -> None:
    """A broker's certificate is checked against the authorities given, and refused at once."""
    cluster = await asyncio.to_thread(rabbit_cluster, client_certificates=True)
    made, rabbit = cluster.certificates, Rabbit(cluster.url)
    client = {
        "enabled": True,
        "ca_file": str(made.ca),
        "cert_file": str(made.client),
        "key_file": str(made.client_encrypted_key),
        "key_password": made.client_key_password,
    }
    topic, inbox = rabbit.name("orders"), Inbox()
    broker = rabbit.adapter(url=cluster.tls_url, tls=client)
    await broker.subscribe(topic, inbox)
    await broker.start()
    await broker.publish(topic, b"value")
    await inbox.take(1)
    await broker.stop()

    stranger = rabbit.adapter(url=cluster.tls_url, tls=client | {"ca_file": str(made.other_ca)})
    began = time.monotonic()
    with pytest.raises(BrokerUnavailableError, match="certificate verify failed"):
        await stranger.start()
    assert time.monotonic() - began < 10

    trusting = rabbit.adapter(
        url=cluster.tls_url, tls=client | {"ca_file": str(made.other_ca), "verify": False}
    )
    await trusting.start()
    await trusting.stop()

    broken = rabbit.adapter(url=cluster.tls_url, tls=client | {"key_password": "wr0ng"})
    with pytest.raises(ConfigurationError, match="certificates") as caught:
        await broken.start()
    assert "wr0ng" not in str(caught.value)


def _of(proxy: object) -> set[asyncio.Task[object]]:
    """Return the proxy's own tasks."""
    return {task for task in others() if "TcpProxy" in repr(task)}


async def test_a_start_waits_for_a_broker_that_comes_late(
    rabbit: Rabbit, rabbitmq: RabbitCluster, tcp_proxy: ProxyFactory
) -> None:
    """A broker that can be reached only after a while is no failed start."""
    topic, inbox = rabbit.name("orders"), Inbox()
    proxy = await tcp_proxy(rabbitmq.address)
    await proxy.cut()
    broker = rabbit.adapter(url=f"amqp://guest:guest@{proxy.address}/")
    await broker.subscribe(topic, inbox)
    starting = asyncio.create_task(broker.start())
    await asyncio.sleep(0.3)
    await proxy.heal()
    await starting
    await broker.publish(topic, b"value")
    await inbox.take(1)


async def test_a_start_that_is_cancelled_leaves_nothing(rabbit: Rabbit) -> None:
    """A start that is cancelled on its way closes what it had opened."""
    before = others()
    broker = rabbit.adapter(url="amqp://guest:guest@127.0.0.1:1/")
    await broker.subscribe("orders", Inbox())
    starting = asyncio.create_task(broker.start())
    await asyncio.sleep(0.2)
    starting.cancel()
    await asyncio.wait((starting,))
    assert starting.cancelled()
    assert others() == before


async def test_stop_lets_a_running_handler_finish(rabbit: Rabbit) -> None:
    """A handler that runs at the stop finishes, may publish meanwhile, and is acknowledged."""
    topic, group, gate = rabbit.name("orders"), rabbit.name("group"), Gate()
    broker = rabbit.adapter()

    async def handler(message: Message) -> None:
        await gate(message)
        await broker.publish(rabbit.name("done"), message.value)

    await broker.subscribe(topic, handler, group)
    await broker.subscribe(rabbit.name("done"), Inbox(), rabbit.name("other"))
    await broker.start()
    await broker.publish_many([Message(topic, str(n).encode()) for n in range(5)])
    await gate.entered.wait()
    stopping = asyncio.create_task(broker.stop())
    await asyncio.sleep(0.2)
    assert not stopping.done()
    gate.open.set()
    await stopping
    assert gate.finished == [b"0"]
    await rabbit.counts(group, 4)
    assert await rabbit.count(rabbit.name("other")) == 1


async def test_stop_cancels_a_handler_that_takes_too_long(rabbit: Rabbit) -> None:
    """After the shutdown timeout a handler is cancelled, and its message comes again."""
    topic, group, cancelled = rabbit.name("orders"), rabbit.name("group"), asyncio.Event()
    entered = asyncio.Event()

    async def handler(message: Message) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    broker = rabbit.adapter(timeouts=Timeouts(shutdown=1.0))
    await broker.subscribe(topic, handler, group)
    await broker.start()
    await broker.publish(topic, b"value")
    await entered.wait()
    began = time.monotonic()
    await broker.stop()
    assert time.monotonic() - began < 10
    assert cancelled.is_set()
    await rabbit.counts(group, 1)


async def test_a_handler_stops_its_own_broker(rabbit: Rabbit) -> None:
    """A handler may stop its broker, and does not wait for itself."""
    topic, stopped = rabbit.name("orders"), asyncio.Event()
    broker = rabbit.adapter()

    async def handler(message: Message) -> None:
        await broker.stop()
        stopped.set()

    await broker.subscribe(topic, handler, rabbit.name("group"))
    await broker.start()
    began = time.monotonic()
    await broker.publish(topic, b"value")
    async with asyncio.timeout(20):
        await stopped.wait()
    assert time.monotonic() - began < 5
    assert not broker.health().started


async def test_stop_cuts_a_retry_delay_short(rabbit: Rabbit) -> None:
    """A stop does not wait for the next attempt, and the message comes again."""
    topic, group, tried = rabbit.name("orders"), rabbit.name("group"), asyncio.Event()

    async def fails(message: Message) -> None:
        tried.set()
        raise ValueError

    broker = rabbit.adapter(policy=ListenerPolicy(retry_delay=60, retry_max_delay=60))
    await broker.subscribe(topic, fails, group)
    await broker.start()
    await broker.publish(topic, b"value")
    await tried.wait()
    began = time.monotonic()
    await broker.stop()
    assert time.monotonic() - began < 5
    await rabbit.counts(group, 1)


async def test_stop_waits_for_what_is_being_published(rabbit: Rabbit) -> None:
    """Publishes that are under way at the stop are confirmed before it returns."""
    topic, inbox = rabbit.name("orders"), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(topic, inbox)
    await broker.start()
    publishing = [asyncio.create_task(broker.publish(topic, b"v" * 1000)) for _ in range(500)]
    await asyncio.sleep(0)
    await broker.stop()
    outcomes = await asyncio.gather(*publishing, return_exceptions=True)
    assert outcomes == [None] * 500


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tiemout": 3}, "did you mean 'timeout'"),
        ({"nonsense": 3}, "it takes timeout"),
        ({"password": "p4ss"}, r"rabbitmq\.password"),
        ({"timeout": "long"}, "must be a number"),
        ({"client_properties": 3}, "must be a mapping"),
        ({"name": 3}, "must be text"),
    ],
)
async def test_options_are_checked_before_anything_is_connected(
    rabbit: Rabbit, options: dict[str, object], message: str
) -> None:
    """An option that the client does not take, or of another type, is refused at construction."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        rabbit.adapter(options=options)
    assert "p4ss" not in str(caught.value)


async def test_options_reach_the_connection(rabbit: Rabbit, rabbitmq: RabbitCluster) -> None:
    """The name and the client properties of the options are what RabbitMQ shows."""
    broker = rabbit.adapter(
        options={"name": rabbit.prefix, "client_properties": {"team": "blue"}, "timeout": 5}
    )
    await broker.start()
    if rabbitmq.origin != "PYFLY_TEST_RABBITMQ":  # there rabbitmqctl reaches it
        listed = await asyncio.to_thread(rabbitmq.control, "list_connections", "client_properties")
        assert f"{rabbit.prefix} publishing" in listed
        assert "blue" in listed


async def test_publish_while_the_broker_is_frozen_raises_in_time(
    rabbit: Rabbit, rabbitmq: RabbitCluster, tcp_proxy: ProxyFactory
) -> None:
    """A publish that nobody confirms raises at its deadline, and stop is bounded as well."""
    topic, proxy, before = rabbit.name("orders"), await tcp_proxy(rabbitmq.address), others()
    broker = rabbit.adapter(
        url=f"amqp://guest:guest@{proxy.address}/",
        timeouts=Timeouts(publish=0.5, shutdown=2.0),
    )
    await broker.subscribe(topic, Inbox())
    await broker.start()
    await proxy.freeze()
    began = time.monotonic()
    with pytest.raises(PublishError, match="publish-timeout"):
        await broker.publish(topic, b"value")
    assert 0.4 < time.monotonic() - began < 20
    many = [asyncio.create_task(broker.publish(topic, b"v" * 100_000)) for _ in range(200)]
    outcomes = await asyncio.gather(*many, return_exceptions=True)
    assert all(isinstance(outcome, PublishError) for outcome in outcomes)
    began = time.monotonic()
    await broker.stop()
    assert time.monotonic() - began < 20
    await eventually(lambda: others() - _of(proxy) == before)


async def test_publish_many_has_one_deadline(
    rabbit: Rabbit, rabbitmq: RabbitCluster, tcp_proxy: ProxyFactory
) -> None:
    """Thousands of messages that nobody confirms raise at the publish timeout, each by its name."""
    topic, proxy = rabbit.name("orders"), await tcp_proxy(rabbitmq.address)
    broker = rabbit.adapter(
        url=f"amqp://guest:guest@{proxy.address}/", timeouts=Timeouts(publish=1.0, shutdown=2.0)
    )
    await broker.subscribe(topic, Inbox())
    await broker.start()
    await proxy.freeze()
    began = time.monotonic()
    with pytest.raises(BatchPublishError) as caught:
        await broker.publish_many(Message(topic, b"v") for _ in range(20_000))
    assert time.monotonic() - began < 12  # with a deadline for each 1,000 it would be 20 s
    assert len(caught.value.failed) == 20_000
    assert all("1 s (publish-timeout)" in str(error) for _, error in caught.value.failed)


async def test_subscribe_does_not_wait_for_a_busy_handler(rabbit: Rabbit) -> None:
    """A handler with more concurrency than the prefetch joins a busy queue at once."""
    slow, quick, group = rabbit.name("slow"), rabbit.name("quick"), rabbit.name("group")
    gate, one, entered = Gate(), Inbox(), 0
    together = asyncio.Event()

    async def wide(message: Message) -> None:
        nonlocal entered
        entered += 1
        if entered == 4:
            together.set()
        await together.wait()

    # One that waited for the gate would raise at this timeout.
    broker = rabbit.adapter(prefetch=3, timeouts=Timeouts(startup=15.0, shutdown=5.0))
    await broker.subscribe(slow, gate, group)
    await broker.subscribe(quick, one, group)
    await broker.start()
    await broker.publish(slow, b"0")
    await gate.entered.wait()
    await broker.subscribe(quick, wide, group, policy=QUICK.replace(concurrency=8))
    await broker.publish_many([Message(quick, b"")] * 8)  # four for each handler
    async with asyncio.timeout(30):
        await together.wait()
    assert gate.finished == []
    await broker.subscribe(slow, one, group, policy=QUICK.replace(concurrency=4))
    await broker.publish_many(Message(slow, str(n).encode(), b"key") for n in range(1, 5))
    gate.open.set()
    await eventually(lambda: len(gate.finished) + len(one.messages) == 9)
    assert {*gate.finished, *one.values} >= {str(n).encode() for n in range(5)}
    await broker.stop()
    await rabbit.counts(group, 0)


async def test_more_prefetch_keeps_a_queue_of_this_process(rabbit: Rabbit) -> None:
    """A queue that ends with its last consumer stays when its prefetch is raised."""
    topic, inbox = rabbit.name("news"), Inbox()
    broker = rabbit.adapter(prefetch=2, broadcast="instance")
    await broker.subscribe(topic, inbox)
    await broker.start()
    (before,) = broker.health().consumers[0].assigned
    gate = Gate()
    await broker.subscribe(topic, gate, policy=QUICK.replace(concurrency=5))
    await broker.publish_many([Message(topic, b"")] * 9)
    await eventually(lambda: broker.health().consumers[1].in_flight == 5)
    assert [each.assigned for each in broker.health().consumers] == [(before,)] * 2
    gate.open.set()
    await eventually(lambda: len(gate.finished) == 9)


@pytest.mark.parametrize("grouped", [True, False])
async def test_stop_drains_all_queues_at_once(rabbit: Rabbit, grouped: bool) -> None:
    """Handlers that take long to clean up do so together, of one queue or of several."""
    began = asyncio.Semaphore(0)

    async def tidies(message: Message) -> None:
        began.release()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.7)

    broker = rabbit.adapter(timeouts=Timeouts(shutdown=1.0))
    topics = [rabbit.name(f"t{n}") for n in range(12)]
    for number, topic in enumerate(topics):
        group = rabbit.name("group" if grouped else f"group-{number}")
        await broker.subscribe(topic, tidies, group)
    await broker.start()
    for topic in topics:
        await broker.publish(topic, b"")
        await began.acquire()
    started = time.monotonic()
    await broker.stop()
    assert time.monotonic() - started < 7  # one after the other it would be 9.4 s


@pytest.mark.parametrize("grouped", [True, False])
async def test_a_handler_stops_its_own_broker_beside_others(rabbit: Rabbit, grouped: bool) -> None:
    """A handler that stops its broker waits for the others, of all queues, and not for itself."""
    one, two, gate, stopped = rabbit.name("one"), rabbit.name("two"), Gate(), asyncio.Event()
    broker = rabbit.adapter()

    async def stops(message: Message) -> None:
        await broker.stop()
        stopped.set()

    await broker.subscribe(one, stops, rabbit.name("group"))
    await broker.subscribe(two, gate, rabbit.name("group" if grouped else "other"))
    await broker.start()
    await broker.publish(two, b"value")
    await gate.entered.wait()
    await broker.publish(one, b"value")
    await asyncio.sleep(0.3)
    assert not stopped.is_set()
    gate.open.set()
    async with asyncio.timeout(20):
        await stopped.wait()
    assert gate.finished == [b"value"]


def test_a_broker_serves_one_event_loop_after_the_other(rabbitmq: RabbitCluster) -> None:
    """After stop, start works on another event loop; timeouts, locks and flush do as well."""
    rabbit = Rabbit(rabbitmq.url)
    topic = rabbit.name("orders")
    broker = rabbit.adapter(timeouts=Timeouts(publish=1.0, shutdown=2.0))

    async def use(*, last: bool) -> None:
        inbox = Inbox()
        await broker.subscribe(topic, inbox, rabbit.name("group"))
        await broker.start()
        publisher = broker._publisher
        # Publishes that meet at a channel that has to be opened, and at the flush of the stop.
        assert publisher._confirm_channel._channel is not None
        await publisher._confirm_channel._channel.close()
        many = [asyncio.create_task(broker.publish(topic, b"v")) for _ in range(100)]
        await asyncio.sleep(0)
        if last:
            await asyncio.gather(*many)
            never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            with pytest.raises(TimeoutError), publisher._limit:
                await asyncio.wait_for(never, 5)
            await rabbit.close()
        else:
            await broker.stop()
            await asyncio.gather(*many)

    asyncio.run(use(last=False))
    asyncio.run(use(last=False))
    asyncio.run(use(last=True))


async def test_two_exchanges_with_one_queue_are_both_named(rabbit: Rabbit) -> None:
    """An application with another exchange and the same group or topic hears which two it is."""
    topic, group = rabbit.name("orders"), rabbit.name("group")
    first = rabbit.adapter()
    await first.subscribe(topic, Inbox(), group)
    await first.start()
    for name in (group, rabbit.name("other")):  # the same queue, or only the same dead letters
        second = RabbitMQAdapter(rabbit.url, f"{rabbit.exchange}2")
        await second.subscribe(topic, Inbox(), name)
        both = f"belongs to the exchange '{rabbit.exchange}'.*uses '{rabbit.exchange}2'"
        with pytest.raises(TopologyError, match=both):
            await second.start()
    async with rabbit.channel() as channel:
        await channel.exchange_delete(f"{rabbit.exchange}2")
        await channel.exchange_delete(f"{rabbit.exchange}2.dlx")


async def test_stop_sums_up_a_storm(rabbit: Rabbit, caplog: pytest.LogCaptureFixture) -> None:
    """What was not logged one by one of a storm of failures is told at the stop."""
    topic, letters = rabbit.name("orders"), Inbox()
    broker = rabbit.adapter(policy=ListenerPolicy(retries=0))

    async def fail(message: Message) -> None:
        raise ValueError("no")

    await broker.subscribe(topic, fail, rabbit.name("group"))
    await broker.subscribe(f"{topic}.dlt", letters, rabbit.name("letters"))
    await broker.start()
    for _ in range(15):
        await broker.publish(topic, b"value")
    await letters.take(15)
    await broker.stop()
    assert any("5 messages go to dead letters (5 ValueError)" in text for text in caplog.messages)
