"""What holds for lanes and ledgers whatever happens in which order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from pyfly_messaging.delivery.lanes import Batch, Lanes, lanes_for
from pyfly_messaging.delivery.ledger import Ledger
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.delivery.settlement import Settlement
from pyfly_messaging.message import Message
from tests.delivery.clock import VirtualLoop
from tests.delivery.samples import subscription

TIMEOUT = 2.0  # of an attempt
CLEANUP = 0.3  # that a stubborn handler takes after its cancellation

BEHAVIOURS = (
    "succeed",
    "return",
    "yield",
    "slow",
    "stubborn",
    "fail",
    "fail late",
    "fatal",
    "time out",
    "cancelled inside",
    "cancel itself",
    "cancel itself and return",
    "cancel itself and fail",
)


class Wrecked(BaseException):
    """An exception that is no `Exception`."""


class Hopeless(Exception):
    """An exception that the policy calls fatal."""


@dataclass
class Story:
    """A message, what its handlers will do, and what became of it."""

    number: int
    key: bytes | None
    script: list[str]
    running: int = 0
    done_by: set[str] = field(default_factory=set)
    buried: bool = False
    begun: bool = False

    @property
    def message(self) -> Message:
        return Message("orders", str(self.number).encode(), self.key)


class LanesMachine(RuleBasedStateMachine):
    """Feeds lanes, lets time pass, drains them and begins anew with what was handed back."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.stories: dict[bytes, Story] = {}
        self.running: list[Story] = []
        self.refusals = 0
        # What is found inside a handler cannot be raised there: that would be a failed attempt.
        self.violations: list[str] = []

    def check(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.violations.append(otherwise)

    # -- what is tested ---------------------------------------------------------------------------

    @initialize(
        concurrency=st.integers(1, 4),
        handlers=st.integers(1, 3),
        retry_delay=st.sampled_from([0.0, 1.0]),
    )
    def build(self, concurrency: int, handlers: int, retry_delay: float) -> None:
        self.concurrency = concurrency
        self.route = Route("orders", "group")
        self.names = [f"handler-{number}" for number in range(handlers)]
        for name in self.names:
            self.route.add(
                Settlement(
                    subscription(
                        self.handler(name),
                        name=name,
                        concurrency=concurrency,
                        timeout=TIMEOUT,
                        retries=2,
                        retry_delay=retry_delay,
                        fatal_exceptions=(Hopeless,),
                    ),
                    self.bury,
                )
            )
        self.assign()

    def assign(self) -> None:
        """Begin with new lanes and a new ledger."""
        self.in_flight: dict[int, Story] = {}
        self.settled: list[int] = []
        self.taken: list[int] = []
        self.named: set[int] = set()
        self.ledger = Ledger()
        self.idle_calls = 0

        async def make() -> Lanes:
            return lanes_for("listener", self.concurrency, self.on_idle)

        self.lanes = self.loop.run_until_complete(make())

    def handler(self, name: str) -> Any:
        async def handle(message: Message) -> Any:
            story = self.stories[message.value]
            self.check(not self.lanes.closed, "begun after the drain had begun")
            story.begun = True
            self.check(name not in story.done_by, "called again after it had succeeded")
            self.check_order(story)
            story.running += 1
            self.running.append(story)
            self.check(len(self.running) <= self.concurrency, "more at once than allowed")
            how = story.script.pop(0) if story.script else "succeed"
            try:
                result = await behave(how)
            except asyncio.CancelledError:
                own = how == "time out" or how.startswith("cancel")
                due = own or self.lanes.closed
                self.check(due, "paid for what the handler of another message cancelled")
                raise
            finally:
                self.running.remove(story)
                story.running -= 1
            story.done_by.add(name)
            return result

        return handle

    def check_order(self, story: Story) -> None:
        """Nothing is begun before what has to come before it is settled."""
        lane = story.key if self.concurrency > 1 else "all"
        if lane is None:
            return
        for other in self.in_flight.values():
            if self.concurrency == 1 or other.key == story.key:
                self.check(other.number == story.number, "overtook another message")
                return

    async def bury(self, letter: Message, error: BaseException) -> None:
        if self.refusals:
            self.refusals -= 1
            raise ConnectionError("the broker is away")
        self.stories[letter.value].buried = True

    def settle(self, number: int) -> None:
        self.check(number in self.in_flight, "settled twice, or after it was handed back")
        story = self.in_flight.pop(number)
        self.check(bool(story.buried or story.done_by), "settled without a handler")
        self.check(not story.running, "settled while its handler runs")
        self.settled.append(number)
        self.ledger.settle(number)

    def on_idle(self) -> None:
        self.check(not self.in_flight, "called idle while something is in flight")
        self.idle_calls += 1

    # -- what happens -----------------------------------------------------------------------------

    @rule(
        batch=st.lists(
            st.tuples(
                st.sampled_from([None, b"a", b"b"]),
                st.lists(st.sampled_from(BEHAVIOURS), max_size=4),
            ),
            max_size=5,
        )
    )
    def arrive(self, batch: list[tuple[bytes | None, list[str]]]) -> None:
        stories = []
        for key, script in batch:
            story = Story(len(self.stories), key, script)
            self.stories[story.message.value] = story
            stories.append(story)
        self.submit(stories)

    def submit(self, stories: list[Story]) -> None:
        numbers = [story.number for story in stories]

        async def submit() -> None:
            self.taken += numbers
            self.ledger.take(numbers)
            self.in_flight |= {story.number: story for story in stories}
            self.lanes.submit(
                Batch(self.route, [story.message for story in stories], numbers, self.settle)
            )

        self.loop.run_until_complete(submit())

    @rule(seconds=st.sampled_from([0.0, 0.05, 0.2, 0.5, 1.0, 5.0]))
    def pass_time(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    @rule(number=st.integers(1, 3))
    def refuse_dead_letters(self, number: int) -> None:
        self.refusals = number

    @rule(below=st.integers(1, 4), timeout=st.sampled_from([0.0, 0.3, 3.0]))
    def wait_for_room(self, below: int, timeout: float) -> None:
        async def wait() -> None:
            there_is_room = await self.lanes.room(below, timeout)
            assert there_is_room == (len(self.in_flight) < below)

        self.loop.run_until_complete(wait())

    @rule()
    def acknowledge(self) -> None:
        up_to, single = self.ledger.acknowledgeable()
        for number in [*single, *([] if up_to is None else [up_to])]:
            assert number not in self.named, "named twice"
            assert number in self.settled, "named but not settled"
        if up_to is not None:
            covered = {number for number in self.taken if number <= up_to}
            assert covered <= set(self.settled), "acknowledged unsettled"
            self.named |= covered
        self.named |= set(single)
        assert self.named == set(self.settled), "settled but not acknowledgeable"

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, None]))
    def drain(self, seconds: float | None) -> None:
        """Drain; the next owner begins with what was handed back, as at a redelivery."""
        before = self.loop.time()
        back = self.loop.run_until_complete(self.lanes.drain(seconds))
        limit = TIMEOUT + CLEANUP if seconds is None else seconds + CLEANUP
        assert self.loop.time() - before <= limit + 0.001, "the drain took too long"
        assert not self.running, "a handler runs after the drain"
        assert not asyncio.all_tasks(self.loop), "a task is left"
        assert [number for _, number in back] == sorted(self.in_flight)
        assert [int(message.value) for message, _ in back] == sorted(self.in_flight)
        settled = len(self.settled)
        self.loop.run_until_complete(asyncio.sleep(100))
        assert len(self.settled) == settled, "settled after the drain"
        again = [self.in_flight[number] for number in sorted(self.in_flight)]
        for story in again:
            story.done_by.clear()
            story.buried = story.begun = False
        self.assign()
        self.submit(again)

    @rule()
    def wait_for_all(self) -> None:
        """Everything is settled in the end, and that is said once."""
        calls = self.idle_calls + bool(self.in_flight)
        self.loop.run_until_complete(asyncio.sleep(2_000))
        assert not self.in_flight
        assert self.idle_calls == calls

    # -- what holds at any time -------------------------------------------------------------------

    @invariant()
    def nothing_is_violated(self) -> None:
        assert not self.violations

    @invariant()
    def counts(self) -> None:
        if hasattr(self, "lanes"):
            assert self.lanes.in_flight == len(self.in_flight)

    @invariant()
    def prefix_is_contiguous(self) -> None:
        if hasattr(self, "ledger"):
            assert self.ledger.prefix == longest_prefix(self.taken, set(self.settled))

    def teardown(self) -> None:
        try:
            if hasattr(self, "lanes"):
                self.drain(None)
                self.loop.run_until_complete(self.lanes.drain())
            assert not self.violations
            assert not asyncio.all_tasks(self.loop)
            assert not self.loop.uncaught
        finally:
            self.loop.close()


async def behave(how: str) -> Any:
    """Do what a handler may do."""
    task = asyncio.current_task()
    assert task is not None
    match how:
        case "return":
            return "ignored"
        case "yield":
            await asyncio.sleep(0)
        case "slow":
            await asyncio.sleep(0.5)
        case "stubborn":
            try:
                await asyncio.sleep(0.5)
            except asyncio.CancelledError:
                await asyncio.sleep(CLEANUP)
        case "fail":
            raise ValueError(how)
        case "fail late":
            await asyncio.sleep(0.1)
            raise Wrecked
        case "fatal":
            raise Hopeless
        case "time out":
            await asyncio.sleep(10 * TIMEOUT)
        case "cancelled inside":
            raise asyncio.CancelledError
        case "cancel itself":
            task.cancel()
            await asyncio.sleep(10 * TIMEOUT)
        case "cancel itself and return":
            task.cancel()
        case "cancel itself and fail":
            task.cancel()
            raise ValueError(how)
    return None


def longest_prefix(taken: list[int], settled: set[int]) -> int | None:
    """Return the last of the leading numbers that are all settled."""
    prefix = None
    for number in taken:
        if number not in settled:
            break
        prefix = number
    return prefix


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("pyfly_messaging.delivery")
    logger.disabled = True
    yield
    logger.disabled = False


TestLanes = LanesMachine.TestCase
