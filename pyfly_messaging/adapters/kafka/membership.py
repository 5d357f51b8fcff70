"""One aiokafka consumer: what it is made of, how it consumes, and how it leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, MutableMapping
from typing import Any

from aiokafka.errors import ConsumerStoppedError, KafkaError
from aiokafka.structs import TopicPartition

from pyfly_messaging.adapters.kafka import errors, internals
from pyfly_messaging.adapters.kafka.assignment import Assignment
from pyfly_messaging.adapters.kafka.assignments import Assignments
from pyfly_messaging.adapters.kafka.client import Client
from pyfly_messaging.adapters.kafka.closing import end_consumer
from pyfly_messaging.adapters.kafka.commits import Commits
from pyfly_messaging.adapters.kafka.group import GroupShare
from pyfly_messaging.adapters.kafka.identity import Identity, TopicWatch
from pyfly_messaging.adapters.kafka.intake import Intake, Records
from pyfly_messaging.adapters.kafka.joining import Joining
from pyfly_messaging.adapters.kafka.pulse import Pulse
from pyfly_messaging.adapters.kafka.skips import Skips
from pyfly_messaging.adapters.kafka.source import Source
from pyfly_messaging.adapters.kafka.whole_topic import WholeTopic
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.logs import get_logger

logger = get_logger("pyfly_messaging.kafka")


class Membership:
    """Consumes a topic until something ends it; then a new one takes its place.

    Args:
        client: How to connect.
        route: Where the messages go.
        kept: For a listener without a group, where it goes on; see `WholeTopic`.
        grace: Seconds for running handlers when partitions are revoked.
        identity: Tells whether the topic is still the same; one that was created since the listener
            began is read from its beginning, for all of it is new.
        skips: Leaves a note of what cannot be read and is skipped.

    Attributes:
        topic: Whether the topic is gone.

    """

    def __init__(
        self,
        client: Client,
        route: Route,
        kept: MutableMapping[TopicPartition, int],
        grace: float,
        identity: Identity,
        *,
        skips: Skips,
    ) -> None:
        settings = client.settings
        self._route = route
        self._grace = grace
        self._beat = min(1.0, settings.max_poll_interval / 3)
        from_end = not identity.renewed
        latest = route.group is not None and settings.auto_offset_reset == "latest" and from_end
        self._consumer = consumer = client.consumer(
            route.group, reset="latest" if latest else "earliest"
        )
        source: Source
        if route.group is None:
            source = WholeTopic(consumer, route.topic, kept, at_end=from_end)
        else:
            source = GroupShare(consumer, route.topic, from_latest=latest)
        self._source = source
        self._intake = Intake(consumer, skips if settings.unreadable == "skip" else None)
        self._pulse = Pulse(consumer, settings.options.get("fetch_max_wait_ms", 500))
        self.topic = TopicWatch(identity, internals.client_of(consumer).cluster)
        self._commits = Commits(route, source, self.topic, self._pulse)
        self._assignments = Assignments(route, settings, self._commits)
        self._joining = Joining(client, route, source, self._assignments)

    @property
    def assigned(self) -> tuple[str, ...]:
        """The partitions that are assigned now."""
        if not self._assignments.are_there:
            return ()
        return tuple(f"{p.topic}-{p.partition}" for p in sorted(self._consumer.assignment()))

    @property
    def in_flight(self) -> int:
        """How many messages are not settled."""
        return self._assignments.in_flight

    @property
    def alive(self) -> bool:
        """Whether records can arrive, be it not from every partition."""
        return self._assignments.are_there and self._pulse.alive

    @property
    def stuck(self) -> str | None:
        """Why records cannot arrive from every partition, or None."""
        if not self._assignments.are_there:
            return self._joining.delay or "no partitions are assigned"
        return self._intake.error or self._pulse.error

    @property
    def error(self) -> str | None:
        """What goes wrong now, or None."""
        return self.stuck or self._commits.error or self._assignments.error

    async def join(self, deadline: Deadline) -> None:
        """Return when partitions are assigned and positioned; see `Joining.join`."""
        await self._joining.join(self._begin, self._end, deadline)

    async def positioned(self, deadline: Deadline) -> None:
        """Wait until partitions are assigned and positioned; see `Joining.positioned`."""
        await self._joining.positioned(deadline)

    async def consume(self) -> str:
        """Fetch and hand over until an error; return why there is nothing more to do.

        Raises:
            KafkaError, ConsumerStoppedError: The consumer cannot go on.

        """
        await self._joining.finished()
        while not self._source.grown:
            assignment = self._assignments.current
            if assignment is None or assignment.closed:
                # In a rebalance this returns when it is over; a member that does not fetch
                # meanwhile would count as stuck.
                await self._intake.stay()
                await self._announcement()
            elif not await assignment.room(self._beat):
                self._pulse.excuse()
                await self._intake.stay()
            elif assignment.has_rest:
                self._pulse.excuse()
                assignment.submit_rest()
            elif fetched := await self._intake.fetch(assignment.at_most):
                await self._hand(assignment, fetched)
        return "the topic has grown"

    async def leave(self, deadline: Deadline, caller: asyncio.Task[Any] | None = None) -> None:
        """Let running handlers finish until the deadline, commit, leave the group.

        Cancelled, it is to be called again, with a shorter deadline.

        Args:
            deadline: For all of it.
            caller: The task that wants it, and is not waited for if it runs a handler.

        """
        self._commits.hurry(deadline)
        self._assignments.announce_last()
        await self._joining.end()
        staying = asyncio.create_task(self._stay(), name=f"pyfly kafka {self._route.name}")
        try:
            await self._assignments.end(deadline, caller)
        finally:
            staying.cancel()
        await asyncio.wait((staying,))
        if not await end_consumer(self._consumer, self._commits.patience):
            logger.warning("Kafka: listener %s could not say goodbye", self._route.name)
        await self._assignments.drained()

    async def _hand(
        self, assignment: Assignment, fetched: Mapping[TopicPartition, Records]
    ) -> None:
        """Give records to the assignment for which they were fetched.

        Those that came with a new assignment, of which the group has not told yet, go back.
        """
        skipped = self._intake.take_skipped()
        starts = {
            p: min([r.offset for r in rs[:1]] + skipped.get(p, [])) for p, rs in fetched.items()
        }
        anchored = await self._commits.anchor(starts)
        if anchored and assignment is self._assignments.current and not assignment.closed:
            assignment.submit(fetched, skipped)
        else:
            self._intake.put_back(starts)

    async def _announcement(self) -> None:
        """Wait a little for an assignment."""
        try:
            async with asyncio.timeout(self._beat):
                await self._assignments.wait()
        except TimeoutError:
            return

    def _begin(self) -> None:
        """Begin with a new assignment."""
        self._assignments.begin()
        self._pulse.excuse()

    async def _end(self) -> None:
        """End an assignment while the group waits for this member."""
        await self._assignments.end(Deadline(self._grace))

    async def _stay(self) -> None:
        """Remain a member while handlers finish."""
        try:
            while True:
                await self._intake.stay()
                await asyncio.sleep(self._beat)
        except (KafkaError, ConsumerStoppedError) as error:
            logger.debug("Kafka: listener %s: %s", self._route.name, errors.describe(error))
