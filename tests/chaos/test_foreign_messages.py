"""Whatever foreign producers send: nothing stands still, grows, or shows what it should not.

Hypothesis makes the messages. Between them go messages of our own, and each of these has to be
handled before the next ones are made. ``FUZZ_SECONDS`` says how long; the default is for CI.
"""

import asyncio
import gc
import itertools
import logging
import os
import resource
import time
import unicodedata
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import aiormq
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.structs import TopicPartition
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from pyfly_messaging.adapters.rabbitmq import RabbitMQAdapter
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.ports import MessageBrokerPort
from pyfly_messaging.settings import RabbitSettings
from tests.brokers import KafkaCluster, RabbitCluster
from tests.chaos.foreign import AmqpMessage, KafkaBatch, amqp_messages, kafka_batches
from tests.integration.test_kafka_support import make_adapter, new_topic, unique

SECONDS = float(os.environ.get("FUZZ_SECONDS", "5"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS + 900)]
DEADLINE = 120.0
"""Seconds for a message of our own to be handled, on however busy a machine."""
_EXAMPLES = 20  # between two looks at the clock
_LINES_FOR_EACH = 30  # log lines that a foreign message may cost, on average
_GROWTH = 400 * 1024 * 1024  # bytes that the process may grow by, from a warm start to the end
_OURS = b"ours "

M = TypeVar("M", AmqpMessage, KafkaBatch)


class Handler:
    """Notes messages of our own, and fails at every other foreign one."""

    def __init__(self) -> None:
        self.foreign = 0
        self._ours: set[bytes] = set()
        self._came = asyncio.Event()

    async def __call__(self, message: Message) -> None:
        if message.value.startswith(_OURS):
            self._ours.add(message.value)
            self._came.set()
            return
        self.foreign += 1
        if self.foreign % 2:
            raise ValueError(f"{message.key!r} {message.headers} {message.value[:2000]!r}")

    async def handled(self, values: set[bytes]) -> None:
        """Wait until messages of our own were handled."""
        async with asyncio.timeout(DEADLINE):
            while not values <= self._ours:
                self._came.clear()
                await self._came.wait()
        self._ours.clear()


class Log(logging.Handler):
    """Counts lines, and keeps the first that shows a control character or a secret."""

    def __init__(self, *secrets: str) -> None:
        super().__init__()
        self.lines = 0
        self.bad: str | None = None
        self._secrets = secrets
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        self.lines += 1
        raw = next((char for char in text if _is_control(char)), None)
        shown = any(secret in text for secret in self._secrets)
        if (raw or shown) and self.bad is None and record.name.startswith("pyfly"):
            self.bad = f"{raw!r} in {text[:2000]!r}"


def _is_control(char: str) -> bool:
    return char != "\n" and unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}


@contextmanager
def watched(*secrets: str) -> Iterator[Log]:
    """Provide what is logged meanwhile."""
    log, root = Log(*secrets), logging.getLogger()
    root.addHandler(log)
    try:
        yield log
    finally:
        root.removeHandler(log)


class Fuzz:
    """Sends what hypothesis makes, for some time, and sees after each example that all goes on."""

    def __init__(
        self,
        broker: MessageBrokerPort,
        topic: str,
        handler: Handler,
        send: Callable[[Sequence[Any]], Coroutine[Any, Any, int]],
        log: Log,
    ) -> None:
        self._broker = broker
        self._topic = topic
        self._handler = handler
        self._send = send
        self._log = log
        self._numbers = itertools.count()
        self.accepted = self.refused = 0

    async def example(self, messages: Sequence[Any]) -> None:
        accepted = await self._send(messages)
        self.accepted += accepted
        self.refused += len(messages) - accepted
        values = {_OURS + b"%d" % next(self._numbers) for _ in range(4)}
        for value in values:
            await self._broker.publish(self._topic, value, key=value)
        await self._handler.handled(values)
        assert self._log.bad is None, self._log.bad
        assert len(asyncio.all_tasks()) < 200

    def run(self, runner: asyncio.Runner, messages: st.SearchStrategy[Any], title: str) -> None:
        """Run examples until the time is over."""
        began, warm = time.monotonic(), 0
        for number in itertools.count(int(os.environ.get("FUZZ_SEED", "1"))):

            @seed(number)
            @settings(
                max_examples=_EXAMPLES,
                deadline=None,
                database=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate],
            )
            @given(st.lists(messages, min_size=1, max_size=12))
            def examples(made: list[Any]) -> None:
                runner.run(self.example(made))

            examples()
            warm = warm or _resident()
            print(
                f"{title}: {time.monotonic() - began:.0f} s, seed {number}: {self.accepted} taken,"
                f" {self.refused} refused by the broker, {self._log.lines} log lines,"
                f" {_resident() / 2**20:.0f} MiB",
                flush=True,
            )
            if time.monotonic() - began > SECONDS:
                break
        assert self.accepted, "the broker took nothing"
        assert self._handler.foreign, "no foreign message was handled"
        assert self._log.lines <= _LINES_FOR_EACH * (self.accepted + 10)
        assert _resident() - warm < _GROWTH


def _resident() -> int:
    """Return the memory that the process holds now, in bytes."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


POLICY = ListenerPolicy(retries=1, retry_delay=0.001, concurrency=4)


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
def test_foreign_messages_on_rabbitmq(rabbitmq: RabbitCluster, queue_type: str) -> None:
    """No queue stands still: everything is handled or dead-lettered, and nothing else suffers."""
    with asyncio.Runner() as runner, watched() as log:
        topic, group = unique("fuzz"), unique("group")
        broker = RabbitMQAdapter.from_settings(
            RabbitSettings.model_validate({"url": rabbitmq.url, "queue_type": queue_type}),
            policy=POLICY,
            timeouts=Timeouts(publish=DEADLINE),
        )
        handler = runner.run(_listening(broker, topic, group))
        producer = _RabbitProducer(rabbitmq.url, topic)
        fuzz = Fuzz(broker, topic, handler, producer.send, log)
        try:
            fuzz.run(runner, amqp_messages(), f"RabbitMQ, {queue_type}")
            runner.run(producer.settled(group))
        finally:
            runner.run(broker.stop())
            runner.run(producer.close(group, f"pyfly.{topic}.dlt"))


def test_foreign_records_on_kafka(kafka: KafkaCluster) -> None:
    """No partition stands still: everything is handled or dead-lettered, in one way or another."""
    with asyncio.Runner() as runner, watched() as log:
        topic = runner.run(new_topic(kafka.bootstrap_servers, partitions=2))
        group = unique("group")
        broker = make_adapter(kafka.bootstrap_servers, policy=POLICY, unreadable="skip")
        handler = runner.run(_listening(broker, topic, group))
        producer = runner.run(_KafkaProducer.connected(kafka.bootstrap_servers, topic))
        fuzz = Fuzz(broker, topic, handler, producer.send, log)
        try:
            fuzz.run(runner, kafka_batches(), "Kafka")
            runner.run(_no_lag(kafka.bootstrap_servers, topic, group))
        finally:
            runner.run(broker.stop())
            runner.run(producer.close())


async def _listening(broker: MessageBrokerPort, topic: str, group: str) -> Handler:
    handler = Handler()
    await broker.subscribe(topic, handler, group)
    await broker.start()
    return handler


class _RabbitProducer:
    """Publishes raw properties, on a new connection after each one that RabbitMQ ended."""

    def __init__(self, url: str, topic: str) -> None:
        self._url = url
        self._topic = topic
        self._connection: aiormq.abc.AbstractConnection | None = None
        self._channel: Any = None

    async def send(self, messages: Sequence[AmqpMessage]) -> int:
        """Publish messages; return how many RabbitMQ has taken."""
        accepted = 0
        for message in messages:
            with suppress(aiormq.exceptions.AMQPError, OSError, RuntimeError, TimeoutError):
                async with asyncio.timeout(DEADLINE):
                    if self._connection is None or self._connection.is_closed:
                        self._connection = await aiormq.connect(self._url)
                        self._channel = None
                    if self._channel is None or self._channel.is_closed:
                        self._channel = await self._connection.channel(publisher_confirms=True)
                    await self._channel.basic_publish(
                        message.body,
                        exchange="pyfly",
                        routing_key=self._topic,
                        properties=message.properties,
                        mandatory=True,
                    )
                accepted += 1
        return accepted

    async def settled(self, queue: str) -> None:
        """Wait until the queue is empty."""
        async with asyncio.timeout(DEADLINE):
            while True:
                async with self._other() as channel:
                    declared = await channel.queue_declare(queue, passive=True)
                if not declared.message_count:
                    return
                await asyncio.sleep(0.1)

    async def close(self, *queues: str) -> None:
        """Delete queues, and disconnect."""
        async with self._other() as channel:
            for queue in queues:
                await channel.queue_delete(queue)
        if self._connection is not None:
            await self._connection.close()

    @asynccontextmanager
    async def _other(self) -> AsyncIterator[Any]:
        async with aiormq.connect(self._url) as connection:
            yield await connection.channel()


class _KafkaProducer:
    """Sends raw record batches, each once."""

    def __init__(self, client: AIOKafkaClient, topic: str) -> None:
        self._client = client
        self._topic = topic
        self._turn = itertools.cycle((0, 1))

    @classmethod
    async def connected(cls, servers: str, topic: str) -> "_KafkaProducer":
        client = AIOKafkaClient(bootstrap_servers=servers)
        await client.bootstrap()
        await client.set_topics([topic])
        return cls(client, topic)

    async def send(self, batches: Sequence[KafkaBatch]) -> int:
        """Write batches; return how many Kafka has taken."""
        accepted = 0
        for batch in batches:
            partition = next(self._turn)
            leader = self._client.cluster.leader_for_partition(
                TopicPartition(self._topic, partition)
            )
            request = ProduceRequest(
                transactional_id=None,
                required_acks=-1,
                timeout=30_000,
                topics=[(self._topic, [(partition, batch.raw)])],
            )
            with suppress(KafkaError):
                answer = await self._client.send(leader, request)
                accepted += answer.topics[0][1][0][1] == 0
        return accepted

    async def close(self) -> None:
        """Disconnect."""
        await self._client.close()


async def _no_lag(servers: str, topic: str, group: str) -> None:
    """Wait until everything is committed."""
    async with AIOKafkaConsumer(
        bootstrap_servers=servers, group_id=group, enable_auto_commit=False
    ) as consumer:
        partitions = [TopicPartition(topic, number) for number in range(2)]
        ends = await consumer.end_offsets(partitions)
        async with asyncio.timeout(DEADLINE):
            while {p: await consumer.committed(p) or 0 for p in partitions} != ends:
                await asyncio.sleep(0.1)
