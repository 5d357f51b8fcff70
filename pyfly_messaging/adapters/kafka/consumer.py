"""One consumer of one (topic, group): joins, is watched, and joins again after an outage."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from pyfly_messaging.adapters.kafka import errors
from pyfly_messaging.adapters.kafka.client import Client
from pyfly_messaging.adapters.kafka.identity import Identity
from pyfly_messaging.adapters.kafka.membership import Membership
from pyfly_messaging.adapters.kafka.outage import Outage
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.errors import (
    BrokerError,
    BrokerUnavailableError,
    NotStartedError,
    TopologyError,
)
from pyfly_messaging.health import ConsumerHealth

logger = logging.getLogger("pyfly_messaging.kafka")

# Between two attempts to join again. Seconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
# How often a consumer is looked at, and how long a silent one may stay silent while a broker
# answers. Seconds.
_LOOK, _PATIENCE = 1.0, 15.0


class TopicConsumer:
    """Consumes a topic for one group, or for nobody's group, until it is stopped.

    Args:
        client: How to connect.
        route: Where the messages go.
        grace: Seconds for running handlers when partitions are revoked.

    """

    def __init__(self, client: Client, route: Route, grace: float) -> None:
        self._client = client
        self._route = route
        self._grace = grace
        self._kept: dict[TopicPartition, int] = {}
        self._identity = Identity(client, route.topic)
        self._membership: Membership | None = None
        self._task: asyncio.Task[None] | None = None
        self._joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._joined.add_done_callback(_retrieve)
        self._farewells: set[asyncio.Task[None]] = set()
        self._error: str | None = None

    def health(self) -> ConsumerHealth:
        """Return how it is now."""
        membership = self._membership
        health = ConsumerHealth(
            name=self._route.name,
            topic=self._route.topic,
            group=self._route.group,
            state="reconnecting" if self._task is not None else "stopped",
            error=self._error,
        )
        if membership is None:
            return health
        return ConsumerHealth(
            name=health.name,
            topic=health.topic,
            group=health.group,
            state=health.state if membership.stuck else "running",
            assigned=membership.assigned,
            in_flight=membership.in_flight,
            error=membership.error,
        )

    async def start(self, deadline: Deadline) -> None:
        """Join the group and know the position in every partition; then consume.

        At the deadline this also returns when the group has let it in, only waits for its other
        members, and will miss nothing: one that was killed keeps its partitions until its session
        has ended. Whoever else starts it meanwhile waits for the same.

        Raises:
            BrokerUnavailableError: Not assigned and positioned by the deadline.
            AuthenticationError, TopologyError: The broker refused.
            NotStartedError: It was stopped meanwhile.

        """
        if self._task is None:
            self._task = asyncio.create_task(
                self._run(deadline), name=f"pyfly kafka {self._route.name}"
            )
        await asyncio.wait((self._joined,))
        if self._joined.cancelled():
            raise NotStartedError
        self._joined.result()

    async def positioned(self, deadline: Deadline) -> None:
        """Wait until the partitions are assigned and positioned, after others have joined too.

        Raises:
            BrokerUnavailableError: Not by the deadline, and not for want of other members.

        """
        allowed = deadline.left()
        try:
            async with asyncio.timeout(allowed):
                while self._membership is None:
                    await asyncio.sleep(_FIRST_PAUSE)
                await self._membership.positioned()
        except (OSError, KafkaError) as error:
            if self._membership is None or not self._membership.awaited:
                raise self._late(self._membership, allowed) from error

    async def stop(self, deadline: Deadline, caller: asyncio.Task[Any] | None = None) -> None:
        """Let running handlers finish, commit what is settled, leave the group.

        Args:
            deadline: For all of it.
            caller: The task that wants it, and is not waited for if it runs a handler.

        """
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))
        self._joined.cancel()
        membership, self._membership = self._membership, None
        if membership is not None:
            await self._leave(membership, deadline, deadline.left(), caller)
        if self._farewells:
            await asyncio.wait(self._farewells)

    async def _run(self, deadline: Deadline) -> None:
        try:
            self._membership = await self._join(deadline)
        except BrokerError as error:
            self._joined.set_exception(error)
            return
        self._joined.set_result(None)
        while True:
            await self._attend(self._membership)
            membership, self._membership = self._membership, None
            await self._leave(membership, Deadline(self._grace), self._grace)
            self._membership = await self._join_again()

    async def _attend(self, membership: Membership) -> None:
        """Return when a consumer has ended, or has fallen silent for good."""
        consuming = asyncio.create_task(
            membership.consume(), name=f"pyfly kafka intake {self._route.name}"
        )
        watching = asyncio.create_task(
            self._watch(membership), name=f"pyfly kafka watch {self._route.name}"
        )
        try:
            await asyncio.wait((consuming, watching), return_when=asyncio.FIRST_COMPLETED)
        finally:
            consuming.cancel()
            watching.cancel()
            await asyncio.wait((consuming, watching))
        if not watching.cancelled():
            reason = watching.result()
        elif not consuming.cancelled():
            error = consuming.exception()
            reason = "the topic has grown" if error is None else errors.describe(error)
            if error is not None and not isinstance(error, errors.CLIENT_ERRORS):
                logger.error("Kafka: listener %s", self._route.name, exc_info=error)
        self._error = reason
        logger.warning("Kafka: listener %s joins again: %s", self._route.name, reason)

    async def _watch(self, membership: Membership) -> str:
        """Tell of outages; return why the consumer is of no more use.

        It is when it has heard nothing for long, although a broker answers (aiokafka itself
        connects again, but only to addresses that it knows), and when its topic was deleted.
        """
        clock = asyncio.get_running_loop().time
        limit = self._client.settings.session_timeout
        heard, answered = clock(), None
        outage = Outage(self._route.name)
        while True:
            await asyncio.sleep(_LOOK)
            outage.look(membership.stuck)
            if await membership.is_bereft():
                return f"topic {self._route.topic!r} was deleted"
            if membership.has_partitions and membership.pulse.faint:
                heard, answered = clock(), None
            elif clock() - heard > limit:
                try:
                    await self._client.reach(Deadline(_LOOK))
                except BrokerError:
                    answered = None
                    continue
                answered = answered or clock()
                if clock() - answered > _PATIENCE:
                    return "it has fallen silent"

    async def _join_again(self) -> Membership:
        pause = _FIRST_PAUSE
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            deadline = Deadline(self._client.settings.session_timeout + self._grace)
            try:
                await self._client.reach(deadline)
                if await self._identity.is_other():
                    self._kept.clear()
                membership = await self._join(deadline)
            except BrokerError as error:
                if isinstance(error, TopologyError):
                    pause = min(pause, _LOOK)
                if self._error != str(error):
                    self._error = str(error)
                    logger.warning("Kafka: listener %s: %s", self._route.name, error)
            else:
                self._error = None
                return membership

    async def _join(self, deadline: Deadline) -> Membership:
        membership = Membership(self._client, self._route, self._kept, self._grace, self._identity)
        allowed = deadline.left()
        try:
            await membership.join(allowed)
        except BaseException as error:
            late = self._late(membership, allowed)
            await self._leave(membership, Deadline(0), 0)
            if isinstance(error, TimeoutError):
                raise late from error
            if isinstance(error, OSError | KafkaError):
                raise errors.connecting(error, self._client.address) from error
            raise
        return membership

    def _late(self, membership: Membership | None, seconds: float) -> BrokerUnavailableError:
        address = self._client.address
        if membership is None or not membership.awaited:
            reason = f"Kafka at {address} does not answer"
            if membership is not None and membership.has_partitions:
                reason = f"Kafka at {address} does not say where its partitions are read next"
        else:
            reason = (
                f"{membership.stuck}. With kafka.auto-offset-reset: latest a start has to wait for"
                " that: set startup.timeout above it, or start again"
            )
        return BrokerUnavailableError(
            f"listener {self._route.name} has got nothing of topic {self._route.topic!r} within"
            f" {seconds:.3g} s: {reason}",
            address=address,
        )

    async def _leave(
        self,
        membership: Membership,
        deadline: Deadline,
        grace: float,
        caller: asyncio.Task[Any] | None = None,
    ) -> None:
        """Leave; whoever waits here may be cancelled, the farewell goes on."""
        farewell = asyncio.create_task(
            membership.leave(deadline, grace, caller),
            name=f"pyfly kafka farewell {self._route.name}",
        )
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)
        await asyncio.shield(farewell)


def _retrieve(future: asyncio.Future[None]) -> None:
    """Mark an exception as seen: whoever waited for it may have been cancelled."""
    if not future.cancelled():
        future.exception()
