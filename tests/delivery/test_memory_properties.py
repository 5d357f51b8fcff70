"""What holds for the in-memory broker whatever is published, cancelled and stopped when."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfly_messaging.adapters.memory import InMemoryMessageBroker
from pyfly_messaging.errors import NotStartedError, PublishError
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.ports import MessageHandler
from tests.delivery.clock import run

TOPICS = ("a", "b")
GROUPS = ("one", "two", None)
TIMES = st.sampled_from([0.0, 0.1, 0.4, 1.0, 3.0])
BEHAVIOURS = (
    "succeed",
    "wait",
    "wait long",
    "stubborn",
    "fail",
    "cancelled inside",
    "cancel itself",
    "cancel itself and return",
    "publish",
    "publish in a task",
    "cancel itself and publish",
)


@dataclass(frozen=True)
class Publish:
    """A message, and what its handlers do, one after the other."""

    topic: str
    key: bytes | None
    script: tuple[str, ...]
    cancelled_after: float | None
    cancelled_before: bool


@dataclass(frozen=True)
class Pause:
    """Time that passes."""

    seconds: float


@dataclass(frozen=True)
class Restart:
    """A stop, and a start some time later."""

    away: float


publishes = st.builds(
    Publish,
    st.sampled_from(TOPICS),
    st.sampled_from([None, b"k", b"l"]),
    st.lists(st.sampled_from(BEHAVIOURS), max_size=5).map(tuple),
    st.none() | TIMES,
    st.sampled_from([False, False, False, True]),
)
events = st.one_of(publishes, publishes, st.builds(Pause, TIMES), st.builds(Restart, TIMES))


@dataclass
class World:
    """A broker with listeners that follow scripts, and everything that is known about it."""

    broker: InMemoryMessageBroker
    concurrency: int
    accepted: list[Message] = field(default_factory=list)
    scripts: dict[bytes, list[str]] = field(default_factory=dict)
    done: defaultdict[tuple[str, str | None], list[bytes]] = field(
        default_factory=lambda: defaultdict(list)
    )
    running: dict[tuple[str, str | None], int] = field(default_factory=lambda: defaultdict(int))
    violations: list[str] = field(default_factory=list)
    stopped: bool = False

    def check(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.violations.append(otherwise)

    async def publish(self, topic: str, key: bytes | None, script: tuple[str, ...]) -> bytes:
        """Publish the next message; note it as soon as the broker has it."""
        value = str(len(self.accepted)).encode()
        self.accepted.append(Message(topic, value, key))
        self.scripts[value] = list(script)
        await self.broker.publish(topic, value, key=key)
        return value

    def handler(self, topic: str, group: str | None) -> MessageHandler:
        place = (topic, group)

        async def handle(message: Message) -> None:
            self.check(not self.stopped, "a handler was begun after the stop")
            self.running[place] += 1
            self.check(self.running[place] <= self.concurrency, "more at once than allowed")
            try:
                await self.behave(message)
                self.check(not self.stopped, "a handler ran after the stop")
            finally:
                self.running[place] -= 1
            self.done[place].append(message.value)

        return handle

    async def behave(self, message: Message) -> None:
        script = self.scripts[message.value]
        task = asyncio.current_task()
        assert task is not None
        match script.pop(0) if script else "succeed":
            case "wait":
                await asyncio.sleep(0.3)
            case "wait long":
                await asyncio.sleep(50)
            case "stubborn":
                try:
                    await asyncio.sleep(2)
                except asyncio.CancelledError:
                    await asyncio.sleep(0.2)
            case "fail":
                raise ValueError(message)
            case "cancelled inside":
                raise asyncio.CancelledError
            case "cancel itself":
                task.cancel()
                await asyncio.sleep(50)
            case "cancel itself and return":
                task.cancel()
            case "publish":
                await self.publish("b", message.key, ())
            case "cancel itself and publish":
                task.cancel()
                await self.publish("b", message.key, ())
            case "publish in a task":
                await asyncio.gather(*(self.publish("b", None, ("wait",)) for _ in range(2)))

    def settled(self, message: Message) -> bool:
        """Tell whether every group is done with a message."""
        buried = {
            letter.headers.get("x-pyfly-original-group")
            for letter in self.broker.dead_letters
            if letter.value == message.value
        }
        return all(
            message.value in self.done[message.topic, group] or group in buried for group in GROUPS
        )


async def scenario(concurrency: int, story: list[Publish | Pause | Restart]) -> None:
    policy = ListenerPolicy(
        concurrency=concurrency, retries=2, retry_delay=0.5, retry_jitter=0.0, timeout=20.0
    )
    broker = InMemoryMessageBroker(policy=policy, timeouts=Timeouts(publish=7.0, shutdown=1.0))
    world = World(broker, concurrency)
    for topic in TOPICS:
        for group in GROUPS:
            await broker.subscribe(topic, world.handler(topic, group), group)
    publishers: list[asyncio.Task[None]] = []
    await broker.start()
    for event in story:
        match event:
            case Publish():
                publishers.append(asyncio.create_task(publisher(world, event)))
                await asyncio.sleep(0)
            case Pause():
                await asyncio.sleep(event.seconds)
            case Restart():
                await restart(world, event)
    await asyncio.gather(*publishers)
    await asyncio.sleep(2_000)
    for message in world.accepted:
        world.check(world.settled(message), "a message was lost")
    for consumer in broker.health().consumers:
        world.check(consumer.in_flight == 0, "something is in flight in the end")
    await broker.stop()
    check_order(world)
    assert not world.violations


async def publisher(world: World, event: Publish) -> None:
    """Publish; be cancelled if the event says so; return when all is as it must be."""

    async def publish() -> bytes:
        if event.cancelled_before:
            inner.cancel()
        return await world.publish(event.topic, event.key, event.script)

    inner = asyncio.create_task(publish())
    if event.cancelled_after is not None:
        await asyncio.wait((inner,), timeout=event.cancelled_after)
        inner.cancel()
    await asyncio.wait((inner,))
    if inner.cancelled():
        by_others = event.cancelled_before or event.cancelled_after is not None
        world.check(by_others, "a publisher was cancelled by a handler")
        return
    world.check(not event.cancelled_before, "a cancellation did not reach the publisher")
    error = inner.exception()
    if error is None:
        (message,) = (m for m in world.accepted if m.value == inner.result())
        world.check(world.settled(message), "publish returned before all was settled")
    elif isinstance(error, NotStartedError):
        world.check(False, "a publish was refused while the broker ran")
    else:
        world.check(isinstance(error, PublishError), f"publish raised {error!r}")
    if event.cancelled_after is None:
        world.check(inner.cancelling() == 0, "a cancellation was left with the publisher")


async def restart(world: World, event: Restart) -> None:
    """Stop the broker within its deadline, and start it again."""
    loop = asyncio.get_running_loop()
    before = loop.time()
    await world.broker.stop()
    world.check(loop.time() - before <= 1.0 + 0.2 + 0.001, "the stop took too long")
    world.stopped = True
    with pytest.raises(NotStartedError):
        await world.broker.publish("a", b"refused")
    await asyncio.sleep(event.away)
    world.stopped = False
    await world.broker.start()


def check_order(world: World) -> None:
    """Messages of one lane are done in the order in which they were published."""
    for (topic, _), values in world.done.items():
        first = list(dict.fromkeys(values))
        published = [m for m in world.accepted if m.topic == topic and m.value in first]
        lanes: dict[bytes | None, list[bytes]] = defaultdict(list)
        for message in published:
            lanes[message.key if world.concurrency > 1 else None].append(message.value)
        for key, lane in lanes.items():
            if key is not None or world.concurrency == 1:
                world.check([v for v in first if v in lane] == lane, "the order was lost")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("pyfly_messaging.delivery")
    logger.disabled = True
    yield
    logger.disabled = False


@given(st.integers(1, 3), st.lists(events, max_size=12))
def test_nothing_is_lost(concurrency: int, story: list[Publish | Pause | Restart]) -> None:
    """Every message that was published is settled by every group, in order, come what may."""
    run(scenario(concurrency, story))
