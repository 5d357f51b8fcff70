"""The brokers that the tests run on do what their names say, and leave nothing behind."""

import asyncio
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import aio_pika
import aiokafka  # type: ignore[import-untyped, unused-ignore]
import pytest
from aiokafka.admin import (  # type: ignore[import-untyped, unused-ignore]
    AIOKafkaAdminClient,
    NewTopic,
)

from tests.brokers import (
    KafkaCluster,
    KafkaFactory,
    KafkaOptions,
    NotAvailable,
    ProxyFactory,
    RabbitCluster,
    RabbitFactory,
    StartError,
)

ROOT = Path(__file__).parents[2]


async def test_kafka_gives_back_what_was_sent(kafka: KafkaCluster) -> None:
    """The shared Kafka gives a group what a producer sent."""
    topic = await new_topic(kafka.bootstrap_servers)
    await send(kafka.bootstrap_servers, topic, b"one", b"two")
    assert await read(kafka.bootstrap_servers, topic, 2) == [b"one", b"two"]


async def test_rabbitmq_gives_back_what_was_published(rabbitmq: RabbitCluster) -> None:
    """The shared RabbitMQ gives a consumer what was published."""
    queue = await new_queue(rabbitmq.url)
    await publish(rabbitmq.url, queue, b"one", b"two")
    assert await take(rabbitmq.url, queue, 2) == [b"one", b"two"]


def test_kafka_knows_its_version(kafka: KafkaCluster) -> None:
    """The shared Kafka knows its version and where it comes from."""
    assert kafka.version
    assert kafka.origin


def test_rabbitmq_knows_its_version(rabbitmq: RabbitCluster) -> None:
    """The shared RabbitMQ knows its version and where it comes from."""
    assert rabbitmq.version[0] in "34"
    assert rabbitmq.origin


@pytest.mark.slow
async def test_kafka_can_be_paused_killed_and_stopped(kafka_cluster: KafkaFactory) -> None:
    """A paused node confirms what waited when it goes on; a killed one comes back with all that."""
    cluster = await asyncio.to_thread(kafka_cluster)
    servers, pids = cluster.bootstrap_servers, cluster.pids
    topic = await new_topic(servers)
    async with aiokafka.AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
        await producer.send_and_wait(topic, b"before")
        cluster.pause()
        waiting = asyncio.ensure_future(producer.send_and_wait(topic, b"during"))
        done, _ = await asyncio.wait([waiting], timeout=1.0)
        assert not done
        cluster.resume()
        await asyncio.wait_for(waiting, 60)
    await asyncio.to_thread(cluster.kill)
    assert not any(map(runs, pids))
    await asyncio.to_thread(cluster.restart)
    assert cluster.bootstrap_servers == servers
    assert cluster.pids != pids
    await send(servers, topic, b"after")
    assert await read(servers, topic, 3) == [b"before", b"during", b"after"]
    await asyncio.to_thread(leaves_nothing, cluster)


@pytest.mark.slow
async def test_rabbitmq_can_be_paused_killed_and_stopped(rabbit_cluster: RabbitFactory) -> None:
    """A paused node confirms what waited when it goes on; a killed one comes back with all that."""
    cluster = await asyncio.to_thread(rabbit_cluster)
    url, pids = cluster.url, cluster.pids
    queue = await new_queue(url)
    await asyncio.to_thread(cluster.remember_queues)
    cluster.pause()
    waiting = asyncio.create_task(publish(url, queue, b"during"))
    done, _ = await asyncio.wait([waiting], timeout=1.0)
    assert not done
    cluster.resume()
    await asyncio.wait_for(waiting, 60)
    await asyncio.to_thread(cluster.kill)
    assert not any(map(runs, pids))
    await asyncio.to_thread(cluster.restart)
    assert cluster.url == url
    await publish(url, queue, b"after")
    assert await take(url, queue, 2) == [b"during", b"after"]
    await asyncio.to_thread(leaves_nothing, cluster)


@pytest.mark.slow
@pytest.mark.chaos
async def test_kafka_of_three_outlives_one_node(kafka_cluster: KafkaFactory) -> None:
    """Three Kafka nodes go on without one, take it back, and go on without another."""
    cluster = await asyncio.to_thread(kafka_cluster, nodes=3)
    assert len(set(cluster.bootstrap_servers.split(","))) == 3
    topic = await new_topic(cluster.bootstrap_servers)
    await send(cluster.bootstrap_servers, topic, b"with three")
    await asyncio.to_thread(cluster.kill, 0)
    await send(cluster.bootstrap_servers, topic, b"without the first")
    await asyncio.to_thread(cluster.restart, 0)
    await asyncio.to_thread(cluster.terminate, 1)
    await send(cluster.bootstrap_servers, topic, b"without the second")
    expected = [b"with three", b"without the first", b"without the second"]
    assert await read(cluster.bootstrap_servers, topic, 3) == expected


@pytest.mark.slow
@pytest.mark.chaos
async def test_rabbitmq_of_three_outlives_one_node(rabbit_cluster: RabbitFactory) -> None:
    """A quorum queue on three RabbitMQ nodes is served by the two that are left."""
    cluster = await asyncio.to_thread(rabbit_cluster, nodes=3)
    first, second, third = cluster.urls
    queue = await new_queue(first)
    await asyncio.to_thread(cluster.remember_queues)
    await publish(first, queue, b"with three")
    await asyncio.to_thread(cluster.kill, 0)
    await publish(second, queue, b"without the first")
    await asyncio.to_thread(cluster.restart, 0)
    await asyncio.to_thread(cluster.terminate, 1)
    await publish(third, queue, b"without the second")
    expected = [b"with three", b"without the first", b"without the second"]
    assert list(dict.fromkeys(await take(first, queue, 3))) == expected


@pytest.mark.slow
@pytest.mark.chaos
async def test_rabbitmq_4_runs_beside_the_machines_own() -> None:
    """RabbitMQ 4 runs in a Debian of its own, where there is root to do it: not on every CI."""
    cluster = RabbitCluster(version="4", users={"alice": "secret"})
    try:
        await asyncio.to_thread(cluster.start)
    except NotAvailable as missing:
        pytest.skip(str(missing))
    try:
        assert cluster.version.startswith("4.")
        pids, url = cluster.pids, cluster.url_for("alice", "secret")
        queue = await new_queue(url)
        await asyncio.to_thread(cluster.remember_queues)
        await publish(url, queue, b"before")
        await asyncio.to_thread(cluster.kill)
        assert not any(map(runs, pids))
        await asyncio.to_thread(cluster.restart)
        assert await take(url, queue, 1) == [b"before"]
    finally:
        await asyncio.to_thread(cluster.stop)


async def test_proxy_breaks_rabbitmq_and_heals(
    rabbitmq: RabbitCluster, tcp_proxy: ProxyFactory
) -> None:
    """Behind a proxy, clients of RabbitMQ see resets, refusals and silence, until it is healed."""
    proxy = await tcp_proxy(rabbitmq.address)
    url = f"amqp://guest:guest@{proxy.address}/"
    queue = await new_queue(url)

    async with await aio_pika.connect(url) as connection:
        closed: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        connection.close_callbacks.add(lambda _, error: closed.set_result(error))
        assert proxy.connections == 1
        await proxy.cut()
        assert isinstance(await asyncio.wait_for(closed, 10), ConnectionError)
    with pytest.raises(ConnectionError):
        await aio_pika.connect(url)

    await proxy.heal()
    await publish(url, queue, b"healed")

    await proxy.freeze()
    with pytest.raises(TimeoutError):
        await aio_pika.connect(url, timeout=0.5)
    thawed = asyncio.create_task(take(url, queue, 1))
    await proxy.heal()
    assert await asyncio.wait_for(thawed, 10) == [b"healed"]


async def test_kafka_advertises_a_proxy(
    kafka_cluster: KafkaFactory, tcp_proxy: ProxyFactory
) -> None:
    """Clients of Kafka stay behind a proxy whose port the brokers advertise."""
    proxy = await tcp_proxy()
    cluster = await asyncio.to_thread(kafka_cluster, advertised_ports=[proxy.port])
    proxy.target = cluster.listeners[0]
    assert cluster.bootstrap_servers == proxy.address
    topic = await new_topic(proxy.address)
    async with aiokafka.AIOKafkaProducer(bootstrap_servers=proxy.address) as producer:
        await producer.send_and_wait(topic, b"before")
        assert proxy.connections > 0
        await proxy.cut()
        waiting = asyncio.ensure_future(producer.send_and_wait(topic, b"during"))
        done, _ = await asyncio.wait([waiting], timeout=1.0)
        assert not done
        await proxy.heal()
        await asyncio.wait_for(waiting, 60)
    assert await read(proxy.address, topic, 2) == [b"before", b"during"]


@pytest.mark.chaos
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_kafka_knows_its_users(kafka_cluster: KafkaFactory, tls: bool) -> None:
    """A Kafka with users lets them in by each mechanism, and nobody with a wrong password."""
    users = {"alice": "secret", "bob": "another secret"}
    cluster = await asyncio.to_thread(kafka_cluster, sasl=users, tls=tls)
    protocol = "SASL_SSL" if tls else "SASL_PLAINTEXT"
    context = ssl.create_default_context(cafile=str(cluster.ca_file)) if tls else None

    def login(mechanism: str, user: str, password: str) -> dict[str, Any]:
        return {
            "security_protocol": protocol,
            "ssl_context": context,
            "sasl_mechanism": mechanism,
            "sasl_plain_username": user,
            "sasl_plain_password": password,
        }

    topic = await new_topic(cluster.bootstrap_servers, **login("PLAIN", "alice", "secret"))
    for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        options = login(mechanism, "bob", "another secret")
        await send(cluster.bootstrap_servers, topic, mechanism.encode(), **options)
        with pytest.raises(aiokafka.errors.KafkaError):
            await send(cluster.bootstrap_servers, topic, b"-", **login(mechanism, "bob", "secret"))


@pytest.mark.chaos
async def test_kafka_asks_for_certificates(kafka_cluster: KafkaFactory) -> None:
    """A Kafka that demands certificates takes a client's, shows its own, and refuses others."""
    cluster = await asyncio.to_thread(kafka_cluster, client_certificates=True)
    made = cluster.certificates
    trusting = ssl.create_default_context(cafile=str(made.ca))
    trusting.load_cert_chain(made.client, made.client_encrypted_key, made.client_key_password)
    servers = cluster.bootstrap_servers
    topic = await new_topic(servers, security_protocol="SSL", ssl_context=trusting)
    await send(servers, topic, b"trusted", security_protocol="SSL", ssl_context=trusting)
    nameless = ssl.create_default_context(cafile=str(made.ca))
    distrusting = ssl.create_default_context(cafile=str(made.other_ca))
    for context in (nameless, distrusting):
        with pytest.raises(aiokafka.errors.KafkaError):
            await send(servers, topic, b"-", security_protocol="SSL", ssl_context=context)


async def test_rabbitmq_knows_users_and_virtual_hosts(rabbit_cluster: RabbitFactory) -> None:
    """A RabbitMQ with users lets them in with their password, where they have permission."""
    cluster = await asyncio.to_thread(rabbit_cluster, users={"alice": "se/cr@et"})
    await publish(cluster.url_for("alice", "se/cr@et"), await new_queue(cluster.url), b"hello")
    with pytest.raises(aio_pika.exceptions.ProbableAuthenticationError):
        await aio_pika.connect(cluster.url_for("alice", "secret"))
    await asyncio.to_thread(cluster.add_virtual_host, "a/b")
    await new_queue(cluster.url_for("guest", "guest", virtual_host="a/b"))


async def test_rabbitmq_asks_for_certificates(rabbit_cluster: RabbitFactory) -> None:
    """A RabbitMQ that demands certificates takes a client's, shows its own, and refuses others."""
    cluster = await asyncio.to_thread(rabbit_cluster, client_certificates=True)
    made = cluster.certificates
    trusting = ssl.create_default_context(cafile=str(made.ca))
    trusting.load_cert_chain(made.client, made.client_key)
    async with await aio_pika.connect(cluster.tls_url, ssl_context=trusting) as connection:
        await connection.channel()
    nameless = ssl.create_default_context(cafile=str(made.ca))
    distrusting = ssl.create_default_context(cafile=str(made.other_ca))
    for context in (nameless, distrusting):
        with pytest.raises((OSError, aio_pika.exceptions.AMQPError)):
            await aio_pika.connect(cluster.tls_url, ssl_context=context, timeout=10)
    await new_queue(cluster.url)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        pytest.param({"config": {"num.partitions": "many"}}, "many", id="refused configuration"),
        pytest.param(
            {"config": {"ssl.keystore.location": "missing.pem"}, "tls": True},
            "missing.pem",
            id="failure while it starts",
        ),
    ],
)
@pytest.mark.usefixtures("kafka")  # once it runs, nobody else makes temporary folders here
def test_kafka_says_why_it_did_not_start(
    options: KafkaOptions, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A Kafka that does not start says why, and leaves neither a process nor a file."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cluster = KafkaCluster(**options)
    with pytest.raises(StartError, match=reason):
        cluster.start()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("rabbitmq")
def test_rabbitmq_says_why_it_did_not_start() -> None:
    """A RabbitMQ that does not start shows the end of its log, and is as if never started."""
    cluster = RabbitCluster(config={"no.such.setting": 1})
    with pytest.raises(StartError, match=r"no\.such\.setting"):
        cluster.start()
    with pytest.raises(RuntimeError, match="not started"):
        _ = cluster.pids


def leaves_nothing(cluster: KafkaCluster | RabbitCluster) -> None:
    """After `stop()`, also a second one, neither the processes nor their folders are there."""
    pids = cluster.pids
    folders = [Path(f"/proc/{pid}/cwd").readlink() for pid in pids]
    assert all(map(runs, pids))
    assert all(folder.exists() for folder in folders)
    cluster.stop()
    cluster.stop()
    assert not any(map(runs, pids))
    assert not any(folder.exists() for folder in folders)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_servers_end_with_the_run(end: signal.Signals) -> None:
    """When a run is killed or interrupted, its servers end too, and its folders are removed."""
    script = """if True:
        import os, time
        from tests.brokers.leftovers import make_folder
        from tests.brokers.process import Server
        folder = make_folder("orphan")
        server = Server("sleeper", ["sleep", "600"], folder=folder, environ=os.environ)
        server.start()
        print(server.pid, folder, flush=True)
        time.sleep(600)
    """
    run = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with run:
        assert run.stdout is not None
        pid, folder = run.stdout.readline().split()
        assert runs(int(pid))
        run.send_signal(end)
        run.wait(30)
    until(lambda: not runs(int(pid)) and not Path(folder).exists())


@pytest.mark.slow
def test_a_person_can_run_them() -> None:
    """`python -m tests.brokers` prints where the brokers are, and ends them when it is ended."""
    run = subprocess.Popen(
        [sys.executable, "-m", "tests.brokers"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with run:
        assert run.stdout is not None
        lines = list(iter(run.stdout.readline, "# running until Ctrl-C\n"))
        variables = dict(
            line.removeprefix("export ").strip().split("=", maxsplit=1)
            for line in lines
            if line.startswith("export ")
        )
        kafka = variables["PYFLY_TEST_KAFKA"]
        assert variables["PYFLY_MESSAGING__KAFKA__BOOTSTRAP_SERVERS"] == kafka
        rabbitmq = variables["PYFLY_TEST_RABBITMQ"]
        assert variables["PYFLY_MESSAGING__RABBITMQ__URL"] == rabbitmq
        given = {"PYFLY_TEST_KAFKA": kafka, "PYFLY_TEST_RABBITMQ": rabbitmq}
        tests = run_pytest(__file__, "-k", "gives_back", **given)
        assert "2 passed" in tests.stdout, tests.stdout
        assert "(PYFLY_TEST_RABBITMQ)" in tests.stdout
        run.send_signal(signal.SIGTERM)
        assert run.wait(60) == 0


@pytest.mark.parametrize(("ci", "outcome"), [("", "3 skipped"), ("true", "1 failed, 2 errors")])
def test_a_missing_broker_is_skipped_only_on_a_laptop(
    ci: str, outcome: str, tmp_path: Path
) -> None:
    """Without any broker a test is skipped with the reason; where CI is set, no test may be."""
    tests = tmp_path / "test_without_brokers.py"
    tests.write_text("""if True:
        import asyncio, pytest

        def test_shared(kafka):
            raise AssertionError("there is no Kafka")

        async def test_private(kafka_cluster):
            await asyncio.to_thread(kafka_cluster)

        @pytest.mark.skip(reason="out of order")
        def test_skipped(kafka):
            raise AssertionError("skipped")
    """)
    nowhere = str(tmp_path)
    done = run_pytest(
        str(tests),
        *("-c", "pyproject.toml", "-p", "tests.conftest"),
        **{"CI": ci, "PATH": nowhere, "JAVA_HOME": nowhere, "XDG_CACHE_HOME": nowhere},
    )
    assert outcome in done.stdout, done.stdout
    assert "Kafka needs a JDK" in done.stdout
    assert "out of order" in done.stdout


def run_pytest(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run tests in a process of their own."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def runs(pid: int) -> bool:
    """Whether there is such a process, and not only what is left until its parent asks."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Return when the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)


async def new_topic(servers: str, **options: Any) -> str:
    """Create a Kafka topic of one partition, on as many nodes as there are, and return its name."""
    name = f"brokers-{uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=servers, **options)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, len(servers.split(",")))])
    finally:
        await admin.close()
    return name


async def send(servers: str, topic: str, *values: bytes, **options: Any) -> None:
    """Send values, each confirmed by all replicas that are in sync."""
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=servers, acks="all", **options)
    try:
        await producer.start()
        for value in values:
            await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def read(servers: str, topic: str, count: int) -> list[bytes]:
    """Read a topic from its beginning, as a new group."""
    consumer = aiokafka.AIOKafkaConsumer(
        topic,
        bootstrap_servers=servers,
        group_id=uuid4().hex,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        async with asyncio.timeout(60):
            return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


async def new_queue(url: str) -> str:
    """Declare a quorum queue and return its name."""
    name = f"brokers-{uuid4().hex[:8]}"
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})
    return name


async def publish(url: str, queue: str, *values: bytes) -> None:
    """Publish persistent messages, each confirmed; again where the queue has just lost its leader.

    So a message can be in the queue twice, as with any client that tries again.
    """
    for value in values:
        async with asyncio.timeout(60):
            while not await published(url, queue, value):
                await asyncio.sleep(0.2)


async def published(url: str, queue: str, value: bytes) -> bool:
    """Publish one message, and return whether the queue has taken it."""
    message = aio_pika.Message(value, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(on_return_raises=True)
        try:
            await channel.default_exchange.publish(message, queue, timeout=10)
        except (aio_pika.exceptions.DeliveryError, TimeoutError):
            return False
    return True


async def take(url: str, name: str, count: int) -> list[bytes]:
    """Take messages off a queue."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(name)
        values: list[bytes] = []
        async with asyncio.timeout(60), queue.iterator() as messages:
            async for message in messages:
                await message.ack()
                values.append(message.body)
                if len(values) == count:
                    break
        return values
