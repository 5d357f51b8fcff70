"""Members of a group that come, go, dawdle and die while messages flow: none is lost."""

import asyncio
import contextlib
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pyfly_messaging.adapters.kafka import KafkaAdapter
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from tests.brokers import KafkaCluster
from tests.integration.test_kafka_support import (
    Tally,
    committed,
    has_committed,
    make_adapter,
    new_topic,
    nothing_left,
    running,
    unique,
    until,
    write,
)

pytestmark = pytest.mark.slow

PROMPT = {"heartbeat_interval_ms": 500}  # members hear of a rebalance with their heartbeats

PARTITIONS = 6

Handler = Callable[[Message], Coroutine[Any, Any, None]]


def counting(tally: Tally, pause: float) -> Handler:
    """Return a handler that takes its time and counts what it has finished."""

    async def handle(message: Message) -> None:
        await asyncio.sleep(pause)
        tally.handled[message.value] += 1

    return handle


class Members:
    """Members of one group; those that a test does not stop end with it."""

    def __init__(self, servers: str, topic: str, concurrency: int = 4) -> None:
        self.group = unique("group")
        self._servers = servers
        self._topic = topic
        self._policy = ListenerPolicy(concurrency=concurrency)
        self._started: list[KafkaAdapter] = []

    async def join(self, handler: Handler, **settings: Any) -> KafkaAdapter:
        """Start one more member."""
        adapter = make_adapter(self._servers, options=PROMPT, **settings)
        self._started.append(adapter)
        await adapter.subscribe(self._topic, handler, self.group, policy=self._policy)
        await adapter.start()
        return adapter

    async def __aenter__(self) -> "Members":
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(adapter.stop() for adapter in self._started))


def shares(*adapters: KafkaAdapter) -> list[int]:
    """Return how many partitions each member has."""
    return [len(adapter.health().consumers[0].assigned) for adapter in adapters]


async def sharing(*adapters: KafkaAdapter) -> None:
    """Wait until the members have all partitions, each as many as the others."""
    even = PARTITIONS // len(adapters)
    await until(lambda: shares(*adapters) == [even] * len(adapters))


@pytest.mark.parametrize("concurrency", [pytest.param(1, marks=pytest.mark.chaos), 8])
async def test_members_come_and_go(kafka: KafkaCluster, concurrency: int) -> None:
    """While members join and leave, nothing is lost and, with all in good order, nothing twice."""
    servers, tally = kafka.bootstrap_servers, Tally()
    topic, handle = await new_topic(servers, partitions=PARTITIONS), counting(tally, 0.003)
    async with (
        nothing_left(),
        running(publisher := make_adapter(servers)),
        Members(servers, topic, concurrency) as members,
    ):
        first = await members.join(handle)
        async with tally.flow(publisher, topic):
            for _ in range(2):
                second = await members.join(handle)
                await sharing(first, second)
                third = await members.join(handle)
                await sharing(first, second, third)
                await second.stop()
                await sharing(first, third)
                await first.stop()
                await sharing(third)
                first = third
        await tally.complete()
    print(tally)
    assert tally.acknowledged == tally.tried
    assert (tally.lost, tally.duplicated, tally.unexpected) == (set(), 0, set())


async def test_a_revocation_waits_for_slow_handlers(kafka: KafkaCluster) -> None:
    """Handlers that run when their partitions are taken away finish; nothing comes twice."""
    servers, tally = kafka.bootstrap_servers, Tally()
    topic, busy, go_on = await new_topic(servers, partitions=2), asyncio.Event(), asyncio.Event()

    async def handle(message: Message) -> None:
        busy.set()
        await go_on.wait()
        tally.handled[message.value] += 1

    async with (
        running(publisher := make_adapter(servers)),
        Members(servers, topic) as members,
    ):
        first = await members.join(handle)
        for _ in range(8):
            await tally.publish(publisher, topic)
        await busy.wait()
        joining = asyncio.create_task(members.join(handle))
        await until(lambda: first.health().consumers[0].state == "reconnecting")
        assert shares(first) == [0]
        done, _ = await asyncio.wait((joining,), timeout=1)
        assert not done
        go_on.set()
        second = await joining
        await tally.complete()
        await until(lambda: shares(first, second) == [1, 1])
    assert tally.duplicated == 0


async def test_what_completes_after_a_revocation_is_not_committed(kafka: KafkaCluster) -> None:
    """A handler that outlasts the revocation commits nothing, though its member stays a member."""
    servers = kafka.bootstrap_servers
    topic = await new_topic(servers, partitions=2)
    old, late, held = list[bytes](), list[bytes](), list[bytes]()
    release, go_on = asyncio.Event(), asyncio.Event()

    async def stubborn(message: Message) -> None:
        if len(old) == 2:
            await hold(message)
            return
        old.append(message.value)
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()
        late.append(message.value)

    async def hold(message: Message) -> None:
        held.append(message.value)
        await go_on.wait()

    async with Members(servers, topic) as members:
        try:
            first = await members.join(stubborn, timeouts=Timeouts(shutdown=1.0))
            await write(servers, topic, b"0", partition=0)
            await write(servers, topic, b"1", partition=1)
            await until(lambda: len(old) == 2)
            second = await members.join(hold)
            await until(lambda: len(held) == 2)
            assert shares(first, second) == [1, 1]
            release.set()
            await until(lambda: len(late) == 2)
        finally:
            release.set()
        await first.stop()  # commits whatever it may
        assert await committed(servers, members.group, topic, 0) == 0
        assert await committed(servers, members.group, topic, 1) == 0
        go_on.set()
        await has_committed(servers, members.group, topic, 1, partition=0)
        await has_committed(servers, members.group, topic, 1, partition=1)


async def test_slow_handlers_and_long_pauses_stay_in_their_group(kafka: KafkaCluster) -> None:
    """An attempt, and a pause before one, may take three times `max-poll-interval`."""
    servers, interval = kafka.bootstrap_servers, 2.0
    attempts, retried = list[bytes](), list[bytes]()

    async def dawdle(message: Message) -> None:
        attempts.append(message.value)
        if len(attempts) == 1:
            await asyncio.sleep(3 * interval)

    async def fail_once(message: Message) -> None:
        retried.append(message.value)
        if len(retried) == 1:
            raise ValueError("not yet")

    topic, group, other = await new_topic(servers), unique("group"), unique("group")
    # So little in flight that nothing can be fetched meanwhile.
    adapter = make_adapter(servers, max_poll_interval=interval, max_in_flight=2)
    await adapter.subscribe(topic, dawdle, group)
    patient = ListenerPolicy(retry_delay=3 * interval, retry_jitter=0)
    await adapter.subscribe(topic, fail_once, other, policy=patient)
    async with running(adapter):
        await write(servers, topic, b"1", b"2", b"3", b"4")
        await has_committed(servers, group, topic, 4)
        await has_committed(servers, other, topic, 4)
        assert adapter.health().healthy
    assert attempts == [b"1", b"2", b"3", b"4"]
    assert retried == [b"1", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(signal.SIGKILL, id="killed", marks=pytest.mark.chaos),
        pytest.param(signal.SIGSTOP, id="frozen"),
    ],
)
async def test_a_member_that_vanishes_is_replaced(kafka: KafkaCluster, how: signal.Signals) -> None:
    """What a process had in work that is killed or frozen is handled by the member that is left."""
    servers, ours, theirs = kafka.bootstrap_servers, Tally(), Tally()
    topic = await new_topic(servers, partitions=2)
    async with running(publisher := make_adapter(servers)), Members(servers, topic) as members:
        first = await members.join(counting(ours, 0.003))
        async with another_process(theirs, servers, topic, members.group) as process:
            await until(lambda: shares(first) == [1])
            async with ours.flow(publisher, topic):
                await theirs.progress(50)
                process.send_signal(how)
                await until(lambda: shares(first) == [2])
                await ours.progress(50)
                if how == signal.SIGSTOP:
                    process.send_signal(signal.SIGCONT)
                    await until(lambda: shares(first) == [1])
                    await theirs.progress(50)
            await until(lambda: not ours.lost - theirs.handled.keys())
    ours.handled += theirs.handled
    print(ours)
    assert not ours.unexpected


MEMBER = """
import asyncio, sys
from tests.integration.test_kafka_support import make_adapter

async def handle(message):
    await asyncio.sleep(0.003)
    print(message.value.decode(), flush=True)

async def main(servers, topic, group):
    adapter = make_adapter(servers, session_timeout=6)
    await adapter.subscribe(topic, handle, group)
    await adapter.start()
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


@asynccontextmanager
async def another_process(tally: Tally, *arguments: str) -> AsyncIterator[Process]:
    """Run a member of a group in a process of its own; count what it has handled."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MEMBER, *arguments, stdout=PIPE, cwd=Path(__file__).parents[2]
    )
    reading = asyncio.create_task(_count(process, tally))
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await reading


async def _count(process: Process, tally: Tally) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        tally.handled[line.strip()] += 1
