"""One aiokafka consumer: how it joins, consumes and leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, MutableMapping
from typing import Any

from aiokafka.errors import ConsumerStoppedError, KafkaError
from aiokafka.structs import TopicPartition

from pyfly_messaging.adapters.kafka import errors, internals
from pyfly_messaging.adapters.kafka.assignment import Assignment, Assignments
from pyfly_messaging.adapters.kafka.client import Client
from pyfly_messaging.adapters.kafka.commits import Commits
from pyfly_messaging.adapters.kafka.liveness import Liveness
from pyfly_messaging.adapters.kafka.poller import Poller, Records
from pyfly_messaging.adapters.kafka.shutdown import end_consumer
from pyfly_messaging.adapters.kafka.sources import (
    AllPartitions,
    GroupPartitions,
    PartitionListener,
    Source,
)
from pyfly_messaging.adapters.kafka.topic_identity import TopicIdentity, TopicMonitor
from pyfly_messaging.adapters.kafka.unreadable import SkipNotes
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.errors import BrokerUnavailableError
from pyfly_messaging.logs import get_logger

logger = get_logger("pyfly_messaging.kafka")

# For the question whether it may wait. Seconds.
_MAY_WAIT_TIMEOUT_S = 1.0


class Member:
    """Consumes a topic until something ends it; then a new one takes its place.

    Args:
        client: How to connect.
        route: Where the messages go.
        kept: For a listener without a group, where it goes on; see `AllPartitions`.
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
        identity: TopicIdentity,
        *,
        skips: SkipNotes,
    ) -> None:
        settings = client.settings
        self._route = route
        self._grace = grace
        self._interval = min(1.0, settings.max_poll_interval / 3)
        from_end = not identity.recreated
        latest = route.group is not None and settings.auto_offset_reset == "latest" and from_end
        self._consumer = consumer = client.consumer(
            route.group, reset="latest" if latest else "earliest"
        )
        source: Source
        if route.group is None:
            source = AllPartitions(consumer, route.topic, kept, at_end=from_end)
        else:
            source = GroupPartitions(consumer, route.topic, from_latest=latest)
        self._source = source
        self._poller = Poller(consumer, skips if settings.unreadable == "skip" else None)
        self._liveness = Liveness(consumer, settings.options.get("fetch_max_wait_ms", 500))
        self.topic = TopicMonitor(identity, internals.client_of(consumer).cluster)
        self._commits = Commits(route, source, self.topic, self._liveness)
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
        """Whether records can arrive from at least one partition."""
        return self._assignments.are_there and self._liveness.alive

    @property
    def stuck(self) -> str | None:
        """Why records cannot arrive from every partition, or None."""
        if not self._assignments.are_there:
            return self._joining.delay or "no partitions are assigned"
        return self._poller.error or self._liveness.error

    @property
    def error(self) -> str | None:
        """What goes wrong now, or None."""
        return self.stuck or self._commits.error or self._assignments.error

    async def join(self, deadline: Deadline) -> None:
        """Return when partitions are assigned and positioned; see `Joining.join`."""
        await self._joining.join(self, deadline)

    async def positioned(self, deadline: Deadline) -> None:
        """Wait until partitions are assigned and positioned; see `Joining.positioned`."""
        await self._joining.positioned(deadline)

    async def consume(self) -> str:
        """Fetch and hand over until an error; return why there is nothing more to do.

        Raises:
            KafkaError, ConsumerStoppedError: The consumer cannot go on.

        """
        await self._joining.finished()
        while not self._source.has_new_partitions:
            assignment = self._assignments.current
            if assignment is None or assignment.closed:
                # In a rebalance this returns when it is over; a member that does not fetch
                # meanwhile would count as stuck.
                await self._poller.keep_alive()
                await self._next_assignment()
            elif not await assignment.room(self._interval):
                self._liveness.reset()
                await self._poller.keep_alive()
            elif assignment.has_rest:
                self._liveness.reset()
                assignment.submit_rest()
            elif fetched := await self._poller.fetch(assignment.at_most):
                await self._hand_over(assignment, fetched)
        return "the topic has new partitions"

    async def leave(self, deadline: Deadline, caller: asyncio.Task[Any] | None = None) -> None:
        """Let running handlers finish until the deadline, commit, leave the group.

        Cancelled, it is to be called again, with a shorter deadline.

        Args:
            deadline: For all of it.
            caller: The task that wants it, and is not waited for if it runs a handler.

        """
        self._commits.shorten(deadline)
        self._assignments.announce_last()
        await self._joining.end()
        staying = asyncio.create_task(self._stay_alive(), name=f"pyfly kafka {self._route.name}")
        try:
            await self._assignments.end(deadline, caller)
        finally:
            staying.cancel()
        await asyncio.wait((staying,))
        if not await end_consumer(self._consumer, self._commits.timeout):
            logger.warning("Kafka: listener %s could not leave its group", self._route.name)
        await self._assignments.drained()

    def begin_assignment(self) -> None:
        """Begin with a new assignment; see `PartitionListener`."""
        self._assignments.begin()
        self._liveness.reset()

    async def end_assignment(self) -> None:
        """End an assignment while the group waits for this member; see `PartitionListener`."""
        await self._assignments.end(Deadline(self._grace))

    async def _hand_over(
        self, assignment: Assignment, fetched: Mapping[TopicPartition, Records]
    ) -> None:
        """Give records to the assignment for which they were fetched.

        Those that came with a new assignment, of which the group has not told yet, go back.
        """
        skipped = self._poller.take_skipped()
        starts = {
            p: min([r.offset for r in rs[:1]] + skipped.get(p, [])) for p, rs in fetched.items()
        }
        committed = await self._commits.commit_start(starts)
        if committed and assignment is self._assignments.current and not assignment.closed:
            assignment.submit(fetched, skipped)
        else:
            self._poller.put_back(starts)

    async def _next_assignment(self) -> None:
        """Wait a little for an assignment."""
        try:
            async with asyncio.timeout(self._interval):
                await self._assignments.wait()
        except TimeoutError:
            return

    async def _stay_alive(self) -> None:
        """Remain a member while handlers finish."""
        try:
            while True:
                await self._poller.keep_alive()
                await asyncio.sleep(self._interval)
        except (KafkaError, ConsumerStoppedError) as error:
            logger.debug("Kafka: listener %s: %s", self._route.name, errors.describe(error))


class Joining:
    """Starts a source, and tells what its partitions wait for.

    Args:
        client: How to connect.
        route: Where the messages go.
        source: What is started.
        assignments: Where its partitions arrive.

    """

    def __init__(
        self, client: Client, route: Route, source: Source, assignments: Assignments
    ) -> None:
        self._client = client
        self._route = route
        self._source = source
        self._assignments = assignments
        self._task: asyncio.Task[None] | None = None

    @property
    def delay(self) -> str | None:
        """Why no partitions are assigned, if the group waits only for its other members."""
        if self._assignments.are_there or not self._source.has_joined:
            return None
        session = self._client.settings.session_timeout
        return (
            f"group {self._route.group!r} assigns its partitions; it waits for handlers of its"
            " other members, and for one that was killed until its session has ended"
            f" (kafka.session-timeout: {session:g} s)"
        )

    async def join(self, listener: PartitionListener, deadline: Deadline) -> None:
        """Return when partitions are assigned and positioned.

        Where nothing is missed by it, this also returns at the deadline when the group waits only
        for its other members; `finished` then waits on.

        Args:
            listener: See `Source.start`.
            deadline: For all of it.

        Raises:
            BrokerUnavailableError: Not assigned and positioned by the deadline.
            BrokerError: The broker refused.

        """
        seconds = deadline.left()
        self._task = asyncio.create_task(
            self._join(listener), name=f"pyfly kafka {self._route.name}"
        )
        await asyncio.wait((self._task,), timeout=seconds)
        if self._task.cancelled():  # by aiokafka
            raise self._late(seconds)
        if not self._task.done():
            if not await self._may_wait():
                raise self._late(seconds)
        elif (error := self._task.exception()) is not None:
            raise errors.connecting(error, self._client.address) from error

    async def finished(self) -> None:
        """Wait until partitions are assigned and positioned for the first time.

        Raises:
            KafkaError, OSError: As aiokafka does.

        """
        if self._task is not None:
            await self._task

    async def positioned(self, deadline: Deadline) -> None:
        """Wait until the partitions are assigned and positioned, after others have joined too.

        Raises:
            BrokerUnavailableError: Not by the deadline, and not because of other members.

        """
        seconds = deadline.left()
        try:
            async with asyncio.timeout(seconds):
                await self._positioned()
        except (OSError, *errors.CLIENT_ERRORS) as error:
            if self.delay is None:
                raise self._late(seconds) from error

    async def end(self) -> None:
        """Join no more."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _join(self, listener: PartitionListener) -> None:
        await self._source.start(listener)
        await self._positioned()

    async def _positioned(self) -> None:
        await self._assignments.wait()
        await self._source.positioned()

    async def _may_wait(self) -> bool:
        """Tell whether the group waits only for other members, and nothing is missed by it."""
        if self.delay is None:
            return False
        try:
            async with asyncio.timeout(_MAY_WAIT_TIMEOUT_S):
                return await self._source.misses_nothing()
        except TimeoutError:
            return False
        except errors.CLIENT_ERRORS as error:
            raise errors.connecting(error, self._client.address) from error

    def _late(self, seconds: float) -> BrokerUnavailableError:
        address = self._client.address
        if (delay := self.delay) is not None:
            reason = (
                f"{delay}. With kafka.auto-offset-reset: latest a start has to wait for that: set"
                " startup.timeout above it, or start again"
            )
        elif self._assignments.are_there:
            reason = f"Kafka at {address} does not say where its partitions are read next"
        else:
            reason = f"Kafka at {address} does not answer"
        return BrokerUnavailableError(
            f"listener {self._route.name} has got nothing of topic {self._route.topic!r} within"
            f" {seconds:.3g} s: {reason}",
            address=address,
        )
