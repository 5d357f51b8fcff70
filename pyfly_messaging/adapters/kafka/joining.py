"""The way of a consumer to its first partitions, and for whom it waits there."""

from __future__ import annotations

import asyncio

from pyfly_messaging.adapters.kafka import errors
from pyfly_messaging.adapters.kafka.assignments import Assignments
from pyfly_messaging.adapters.kafka.client import Client
from pyfly_messaging.adapters.kafka.source import Begin, End, Source
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.errors import BrokerUnavailableError

# For the question whether it may wait. Seconds.
_CURT = 1.0


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
        """Why no partitions are assigned, while it is for others that the group waits."""
        if self._assignments.are_there or not self._source.admitted:
            return None
        session = self._client.settings.session_timeout
        return (
            f"group {self._route.group!r} assigns its partitions; it waits for handlers of its"
            " other members, and for one that was killed until its session has ended"
            f" (kafka.session-timeout: {session:g} s)"
        )

    async def join(self, begin: Begin, end: End, deadline: Deadline) -> None:
        """Return when partitions are assigned and positioned.

        Where nothing is missed by it, this also returns at the deadline when it is only others for
        whom the group waits; `finished` then waits on.

        Args:
            begin, end: See `Source.start`.
            deadline: For all of it.

        Raises:
            BrokerUnavailableError: Not assigned and positioned by the deadline.
            BrokerError: The broker refused.

        """
        seconds = deadline.left()
        self._task = asyncio.create_task(
            self._join(begin, end), name=f"pyfly kafka {self._route.name}"
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
            BrokerUnavailableError: Not by the deadline, and not for want of other members.

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

    async def _join(self, begin: Begin, end: End) -> None:
        await self._source.start(begin, end)
        await self._positioned()

    async def _positioned(self) -> None:
        await self._assignments.wait()
        await self._source.positioned()

    async def _may_wait(self) -> bool:
        """Tell whether it is only for others that the group waits, and nothing is missed by it."""
        if self.delay is None:
            return False
        try:
            async with asyncio.timeout(_CURT):
                return await self._source.keeps_place()
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
