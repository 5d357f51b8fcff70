"""One aiokafka consumer, from joining to leaving."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, MutableMapping
from typing import Any

from aiokafka.errors import ConsumerStoppedError, KafkaError, UnknownTopicOrPartitionError
from aiokafka.structs import TopicPartition

from pyfly_messaging.adapters.kafka import errors
from pyfly_messaging.adapters.kafka.assignment import Assignment
from pyfly_messaging.adapters.kafka.client import Client
from pyfly_messaging.adapters.kafka.closing import end_consumer
from pyfly_messaging.adapters.kafka.group import GroupShare
from pyfly_messaging.adapters.kafka.identity import Identity
from pyfly_messaging.adapters.kafka.intake import Intake, Records
from pyfly_messaging.adapters.kafka.pulse import Pulse
from pyfly_messaging.adapters.kafka.source import Source
from pyfly_messaging.adapters.kafka.whole_topic import WholeTopic
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.routing import Route

logger = logging.getLogger("pyfly_messaging.kafka")

# For one commit that can still be repeated; for the last one and the farewell, to brokers that
# answer and to brokers that do not. Seconds.
_COMMIT, _FAREWELL, _CURT = 10.0, 5.0, 1.0


class Membership:
    """Consumes a topic until something ends it; then a new one takes its place.

    Args:
        client: How to connect.
        route: Where the messages go.
        kept: For a listener without a group, where it goes on; see `WholeTopic`.
        grace: Seconds for running handlers when partitions are revoked.
        identity: Tells whether the topic is still the same; one that was created since the listener
            began is read from its beginning, for all of it is new.

    Attributes:
        pulse: Whether records can arrive.

    """

    def __init__(
        self,
        client: Client,
        route: Route,
        kept: MutableMapping[TopicPartition, int],
        grace: float,
        identity: Identity,
    ) -> None:
        settings = client.settings
        self._route = route
        self._settings = settings
        self._grace = grace
        self._beat = min(1.0, settings.max_poll_interval / 3)
        self._identity = identity
        from_end = not identity.renewed
        latest = route.group is not None and settings.auto_offset_reset == "latest" and from_end
        self._consumer = consumer = client.consumer(
            route.group, reset="latest" if latest else "earliest"
        )
        self._source: Source
        if route.group is None:
            self._source = WholeTopic(consumer, route.topic, kept, at_end=from_end)
        else:
            self._source = GroupShare(consumer, route.topic, from_latest=latest)
        self._intake = Intake(consumer)
        self.pulse = Pulse(consumer, settings.options.get("fetch_max_wait_ms", 500))
        self._assignment: Assignment | None = None
        self._assigned = asyncio.Event()
        self._left_behind: list[Assignment] = []
        self._leaving: Deadline | None = None
        self._commit_error: str | None = None
        self._joining: asyncio.Task[None] | None = None
        self._bereft = self._refreshed = False
        consumer._client.cluster.add_listener(self._refresh)

    @property
    def has_partitions(self) -> bool:
        """Whether the group has assigned its partitions, be it none."""
        return self._assigned.is_set()

    @property
    def assigned(self) -> tuple[str, ...]:
        """The partitions that are assigned now."""
        if not self.has_partitions:
            return ()
        return tuple(f"{p.topic}-{p.partition}" for p in sorted(self._consumer.assignment()))

    @property
    def in_flight(self) -> int:
        """How many messages are not settled."""
        return 0 if self._assignment is None else self._assignment.in_flight

    @property
    def stuck(self) -> str | None:
        """Why records cannot arrive from every partition, or None."""
        if not self.has_partitions:
            return f"group {self._route.group!r} assigns its partitions; {self._wait}"
        return self._intake.error or self.pulse.error

    @property
    def _wait(self) -> str:
        session = self._settings.session_timeout
        return (
            "it waits for handlers of its other members, and for one that was killed until its"
            f" session has ended (kafka.session-timeout: {session:g} s)"
        )

    @property
    def error(self) -> str | None:
        """What goes wrong now, or None."""
        letter = None if self._assignment is None else self._assignment.error
        return self.stuck or self._commit_error or letter

    @property
    def awaited(self) -> bool:
        """Whether the group has let the member in, and holds back its partitions for others."""
        return not self.has_partitions and bool(
            getattr(self._consumer._coordinator, "member_id", "")
        )

    async def is_bereft(self) -> bool:
        """Tell whether the topic is gone, or is not the one any more whose messages were handled.

        That is asked only when aiokafka has got new metadata, as it does after an error.
        """
        if self._refreshed and not self._bereft:
            lost, self._refreshed = None, False
            try:
                lost = await self._identity.is_lost()
            finally:
                self._refreshed = self._refreshed or lost is None
            self._bereft = bool(lost)
        return self._bereft

    async def join(self, timeout: float) -> None:
        """Return when partitions are assigned and positioned.

        Where nothing is missed by it, this also returns after ``timeout`` seconds when it is only
        others for whom the group waits; `consume` then waits on.

        Raises:
            TimeoutError: Not in time.
            KafkaError, OSError: As aiokafka does.

        """
        self._joining = asyncio.create_task(self._join(), name=f"pyfly kafka {self._route.name}")
        await asyncio.wait((self._joining,), timeout=timeout)
        if self._joining.done():
            self._joining.result()
        elif not self.awaited or not await self._keeps_place():
            raise TimeoutError

    async def _keeps_place(self) -> bool:
        async with asyncio.timeout(_CURT):
            return await self._source.keeps_place()

    async def _join(self) -> None:
        await self._source.start(self._begin, self._end)
        await self.positioned()

    async def positioned(self) -> None:
        """Wait until partitions are assigned and positioned."""
        await self._assigned.wait()
        await self._source.positioned()

    async def consume(self) -> None:
        """Fetch and hand over until an error, or until the topic has grown.

        Raises:
            KafkaError, ConsumerStoppedError: The consumer cannot go on.

        """
        if self._joining is not None:
            await self._joining
        while not self._source.grown:
            assignment = self._assignment
            if assignment is None or assignment.closed:
                # In a rebalance this returns when it is over; a member that does not fetch
                # meanwhile would count as stuck.
                await self._intake.stay()
                await self._announcement()
            elif not await assignment.room(self._beat):
                self.pulse.excuse()
                await self._intake.stay()
            elif fetched := await self._intake.fetch(assignment.share):
                await self._hand(assignment, fetched)

    async def leave(
        self, deadline: Deadline, grace: float, caller: asyncio.Task[Any] | None = None
    ) -> None:
        """Let running handlers finish for ``grace`` seconds, commit, leave the group.

        Args:
            deadline: For all of it.
            grace: Seconds.
            caller: The task that wants it, and is not waited for if it runs a handler.

        """
        self._leaving = deadline
        if self._joining is not None and not self._joining.done():
            self._joining.cancel()
            await asyncio.gather(self._joining, return_exceptions=True)
        if self._assignment is not None:
            staying = asyncio.create_task(self._stay(), name=f"pyfly kafka {self._route.name}")
            await self._hand_over(grace, caller)
            staying.cancel()
            await asyncio.wait((staying,))
        if not await end_consumer(self._consumer, self._patience()):
            logger.warning("Kafka: listener %s could not say goodbye", self._route.name)
        for assignment in self._left_behind:
            await assignment.drained()

    def _patience(self) -> float:
        """Return how long to wait for a broker's answer.

        On leaving that is half of the time left: there is more to do afterwards.
        """
        if self._leaving is None:
            return _COMMIT
        at_most = _FAREWELL if self.pulse.connected else _CURT
        return max(_CURT, min(at_most, self._leaving.left() / 2))

    async def _hand(
        self, assignment: Assignment, fetched: Mapping[TopicPartition, Records]
    ) -> None:
        """Give records to the assignment for which they were fetched.

        Those that came with a new assignment, of which the group has not told yet, go back.
        """
        starts = {partition: records[0].offset for partition, records in fetched.items()}
        try:
            async with asyncio.timeout(self._patience()):
                await self._source.anchor(starts)
        except (TimeoutError, KafkaError) as error:
            logger.info("Kafka: listener %s: %s", self._route.name, errors.describe(error))
            self._intake.put_back(starts)
            return
        if assignment is self._assignment and not assignment.closed:
            assignment.submit(fetched)
        else:
            self._intake.put_back(starts)

    async def _announcement(self) -> None:
        """Wait a little for an assignment."""
        try:
            async with asyncio.timeout(self._beat):
                await self._assigned.wait()
        except TimeoutError:
            return

    def _begin(self) -> None:
        """Begin with a new assignment."""
        if self._leaving is not None:
            return
        self._assignment = Assignment(self._route, self._settings, self._commit)
        if self._route.group is not None:
            self._assignment.begin()
        self.pulse.excuse()
        self._assigned.set()

    async def _end(self) -> None:
        """End an assignment while the group waits for this member."""
        await self._hand_over(self._grace)

    async def _hand_over(self, grace: float, caller: asyncio.Task[Any] | None = None) -> None:
        assignment = self._assignment
        if assignment is None:
            return
        self._assigned.clear()
        await assignment.end(grace, caller)
        if assignment is self._assignment:
            self._assignment = None
            self._left_behind.append(assignment)

    async def _commit(self, offsets: dict[TopicPartition, int]) -> None:
        try:
            # aiokafka repeats a commit for as long as the broker is away.
            async with asyncio.timeout(self._patience()):
                if await self.is_bereft():
                    raise UnknownTopicOrPartitionError(self._route.topic)
                await self._source.commit(offsets)
        except (TimeoutError, KafkaError) as error:
            self._commit_error = f"offsets not committed: {errors.describe(error)}"
            logger.warning("Kafka: listener %s: %s", self._route.name, self._commit_error)
            raise
        self._commit_error = None

    def _refresh(self, metadata: object) -> None:
        self._refreshed = True

    async def _stay(self) -> None:
        """Remain a member while handlers finish."""
        try:
            while True:
                await self._intake.stay()
                await asyncio.sleep(self._beat)
        except (KafkaError, ConsumerStoppedError) as error:
            logger.debug("Kafka: listener %s: %s", self._route.name, errors.describe(error))
