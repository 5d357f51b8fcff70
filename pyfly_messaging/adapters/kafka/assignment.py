"""What happens to assigned partitions: lanes, ledgers, when to commit, the end at a revocation."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from pyfly_messaging.adapters.kafka import errors
from pyfly_messaging.adapters.kafka.codec import decode
from pyfly_messaging.adapters.kafka.room import Room
from pyfly_messaging.delivery.acknowledge import Acknowledger
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.lanes import Batch, lanes_for
from pyfly_messaging.delivery.ledger import Ledger
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.logs import get_logger
from pyfly_messaging.message import Message
from pyfly_messaging.settings import KafkaSettings

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

logger = get_logger("pyfly_messaging.kafka")

# For a handler that was cancelled at a revocation to end. Seconds.
_CANCELLED_TIMEOUT_S = 2.0

# Between two attempts to commit. Seconds.
_COMMIT_PAUSE_S = 1.0

Commit = Callable[[dict[TopicPartition, int]], Awaitable[None]]
"""Commits offsets, or raises what aiokafka raises, or TimeoutError."""


class Assignment:
    """Handles the records of an assignment and commits the settled prefix of each partition.

    Each assignment has lanes and ledgers of its own: whatever completes after the end of one has
    no ledger that anybody commits.

    Args:
        route: Where the messages go.
        settings: How much may be in flight, and how often to commit.
        commit: How to commit.

    """

    def __init__(self, route: Route, settings: KafkaSettings, commit: Commit) -> None:
        self._route = route
        self._commit = commit
        self._refusals: dict[int, BaseException] = {}  # why a dead letter is not confirmed
        self._room = Room(settings)
        self.share = self._room.share
        self._commit_count = settings.commit_count
        self._taken = 0
        self._flushed = 0
        self._rest: dict[TopicPartition, Sequence[ConsumerRecord[bytes, bytes]]] = {}
        self._ledgers: defaultdict[TopicPartition, Ledger] = defaultdict(Ledger)
        self._committed: dict[TopicPartition, int] = {}
        self._lost = False
        self._acknowledger = Acknowledger(
            self._flush_at_last, interval=settings.commit_interval, name=route.name
        )
        self._lanes = lanes_for(route.name, route.concurrency, self._acknowledger.idle)
        self._lanes.context.run(handling.set, self)
        self._drains: list[asyncio.Task[object]] = []

    @property
    def group(self) -> str | None:
        """The group whose messages are handled."""
        return self._route.group

    @property
    def error(self) -> str | None:
        """Why a dead letter is not confirmed, so that its message stays; None when none is late."""
        for refusal in self._refusals.values():
            return f"dead letter not confirmed: {refusal}"
        return None

    def note_dead_letter(self, letter: Message, refusal: BaseException | None) -> None:
        """Note what a publish of a dead letter has come to."""
        if refusal is None:
            self._refusals.pop(id(letter), None)
        else:
            self._refusals[id(letter)] = refusal

    @property
    def in_flight(self) -> int:
        """How many messages are not settled."""
        return self._lanes.in_flight

    @property
    def at_most(self) -> int:
        """How many records to fetch next."""
        return self._room.at_most

    @property
    def closed(self) -> bool:
        """Whether nothing is begun any more."""
        return self._lanes.closed

    def begin(self) -> None:
        """Commit from now on what is settled."""
        self._acknowledger.start()

    async def room(self, timeout: float) -> bool:
        """Wait until there is room for another `at_most`; False after ``timeout`` seconds."""
        return await self._room.wait(timeout) and await self._lanes.room(self.share + 1, timeout)

    def submit(
        self,
        fetched: Mapping[TopicPartition, Sequence[ConsumerRecord[bytes, bytes]]],
        skipped: Mapping[TopicPartition, Sequence[int]] = MappingProxyType({}),
    ) -> None:
        """Hand records to the lanes; keep the rest for which there is no room.

        Args:
            fetched: The records.
            skipped: Offsets of the same partitions that are settled without a record.

        """
        self._commit_by_count(0)
        for partition, records in fetched.items():
            ledger = self._ledgers[partition]
            gaps = skipped.get(partition)
            if gaps is not None:
                self._pass_over(ledger, records, gaps)
            if not records:
                continue
            settle = ledger.settle if self._commit_count >= self.share else self._counting(ledger)
            taken, settle = self._room.take(records, settle)
            if gaps is None:
                if taken < len(records):
                    self._rest[partition] = records[taken:]
                    records = records[:taken]
                    if not taken:
                        continue
                offsets = [record.offset for record in records]
                ledger.take(offsets)
            else:  # what is left of a broken batch is not fetched again
                offsets = [record.offset for record in records]
            self._taken += len(offsets)
            self._lanes.submit(Batch(self._route, decode(records), offsets, settle))
        self._acknowledger.begin()
        if not self._lanes.in_flight:
            self._acknowledger.idle()

    @property
    def has_rest(self) -> bool:
        """Whether some of what was fetched waits for room; nothing is fetched until it has some."""
        return bool(self._rest)

    def submit_rest(self) -> None:
        """Hand over what waits for room, as far as there is some now."""
        rest, self._rest = self._rest, {}
        self.submit(rest)

    def _pass_over(
        self,
        ledger: Ledger,
        records: Sequence[ConsumerRecord[bytes, bytes]],
        gaps: Sequence[int],
    ) -> None:
        """Note the offsets of records and of what is skipped between them, which is settled."""
        ledger.take(sorted([*(record.offset for record in records), *gaps]))
        for offset in gaps:
            ledger.settle(offset)

    async def end(self, deadline: Deadline, caller: asyncio.Task[Any] | None = None) -> None:
        """Let running handlers finish until the deadline, then commit what is settled.

        A handler that ignores its cancellation is left behind; see `drained`. Called again, this
        counts with the earlier of the deadlines.

        Args:
            deadline: For the handlers.
            caller: The task that wants it, and is not waited for if it runs a handler.

        """
        draining = asyncio.create_task(
            self._lanes.drain(deadline, caller=caller),
            name=f"pyfly kafka drain {self._route.name}",
        )
        self._drains.append(draining)
        if await deadline.wait((draining,)):
            logger.warning(
                "Kafka: listener %s: a handler still runs and is cancelled; its message is handled"
                " again",
                self._route.name,
            )
            await asyncio.wait((draining,), timeout=_CANCELLED_TIMEOUT_S)
        await self._acknowledger.stop()
        await self._flush()

    @property
    def is_drained(self) -> bool:
        """Whether it has ended, and no handler runs any more; see `drained`."""
        return bool(self._drains) and all(draining.done() for draining in self._drains)

    async def drained(self) -> None:
        """Wait until no handler runs any more, one that ignores its cancellation excepted."""
        if self._drains:
            await asyncio.wait(self._drains)

    async def _flush_at_last(self) -> None:
        """Commit, for as long as it takes."""
        while not await self._flush():
            await asyncio.sleep(_COMMIT_PAUSE_S)

    async def _flush(self) -> bool:
        """Commit the settled prefix of each partition, if it has grown; False if that failed."""
        offsets = {
            partition: ledger.prefix + 1
            for partition, ledger in self._ledgers.items()
            if ledger.prefix is not None and ledger.prefix + 1 != self._committed.get(partition)
        }
        self._flushed = self._taken - self._lanes.in_flight
        if offsets and not self._lost:
            try:
                await self._commit(offsets)
            except (TimeoutError, KafkaError) as error:
                self._lost = errors.is_lost_membership(error)
                return self._lost
            self._committed |= offsets
        return True

    def _counting(self, ledger: Ledger) -> Callable[[int], None]:
        """Return how to settle when commits may be due within one batch."""

        def settle(offset: int) -> None:
            ledger.settle(offset)
            self._commit_by_count(1)

        return settle

    def _commit_by_count(self, leaving: int) -> None:
        """Commit soon when enough is settled; ``leaving`` more than is known to the lanes."""
        settled = self._taken - self._lanes.in_flight + leaving
        if settled - self._flushed >= self._commit_count:
            self._flushed = settled
            self._acknowledger.nudge()


handling: ContextVar[Assignment | None] = ContextVar("pyfly kafka assignment", default=None)
"""The assignment whose handler runs."""


class Assignments:
    """Begins an `Assignment` when partitions are assigned, and ends it when they are revoked.

    Args:
        route: Where the messages go.
        settings: See `Assignment`.
        commit: How to commit.

    Attributes:
        current: The assignment whose records are handled; while it ends it is closed.

    """

    def __init__(self, route: Route, settings: KafkaSettings, commit: Commit) -> None:
        self.current: Assignment | None = None
        self._route = route
        self._settings = settings
        self._commit = commit
        self._there = asyncio.Event()
        self._ending: list[Assignment] = []
        self._last = False

    @property
    def are_there(self) -> bool:
        """Whether the group has assigned partitions, or none."""
        return self._there.is_set()

    @property
    def in_flight(self) -> int:
        """How many messages are not settled."""
        return 0 if self.current is None else self.current.in_flight

    @property
    def error(self) -> str | None:
        """Why a dead letter is not confirmed; None when none is late."""
        return None if self.current is None else self.current.error

    async def wait(self) -> None:
        """Wait until partitions are assigned."""
        await self._there.wait()

    def begin(self) -> None:
        """Begin with what was assigned, unless the last one was announced."""
        if self._last:
            return
        self.current = Assignment(self._route, self._settings, self._commit)
        if self._route.group is not None:
            self.current.begin()
        self._there.set()

    async def end(self, deadline: Deadline, caller: asyncio.Task[Any] | None = None) -> None:
        """End the one that holds; see `Assignment.end`."""
        assignment = self.current
        if assignment is None:
            return
        self._there.clear()
        await assignment.end(deadline, caller)
        if assignment is self.current:
            self.current = None
            self._ending = [each for each in (*self._ending, assignment) if not each.is_drained]

    def announce_last(self) -> None:
        """Begin no other from now on: the consumer leaves."""
        self._last = True

    async def drained(self) -> None:
        """Wait until no handler of those that have ended runs; see `Assignment.drained`."""
        for assignment in self._ending:
            await assignment.drained()
