"""The consumer of a route: it joins, and reconnects after an outage, until it is stopped."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka.structs import TopicPartition

from pyfly_messaging.adapters.kafka import errors
from pyfly_messaging.adapters.kafka.client import Client
from pyfly_messaging.adapters.kafka.member import Member
from pyfly_messaging.adapters.kafka.topic_identity import TopicIdentity
from pyfly_messaging.adapters.kafka.unreadable import SkipNotes
from pyfly_messaging.delivery.backoff import Backoff
from pyfly_messaging.delivery.dead_letter import PublishDeadLetter
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.errors import (
    BrokerError,
    BrokerUnavailableError,
    NotStartedError,
    TopologyError,
)
from pyfly_messaging.health import ConsumerHealth, ConsumerState
from pyfly_messaging.logs import get_logger

logger = get_logger("pyfly_messaging.kafka")

# Between two attempts to join again, and while the topic is missing.
_BACKOFF, _BACKOFF_WITHOUT_TOPIC = Backoff(first=0.2, longest=5.0), Backoff(first=0.2, longest=1.0)
# Between two looks whether it has joined again. Seconds.
_JOIN_POLL_S = 0.2
# How often a consumer is looked at, and how long a silent one may stay silent while a broker
# answers. Seconds.
_CHECK_INTERVAL_S, _SILENCE_LIMIT_S = 1.0, 15.0


class Supervisor:
    """Consumes a topic for one group, or without a group, until it is stopped.

    Args:
        client: How to connect.
        route: Where the messages go.
        grace: Seconds for running handlers when partitions are revoked.
        publish: How to publish a dead letter.

    """

    def __init__(
        self, client: Client, route: Route, grace: float, publish: PublishDeadLetter
    ) -> None:
        self._client = client
        self._route = route
        self._grace = grace
        self._positions: dict[TopicPartition, int] = {}
        self._identity = TopicIdentity(client, route.topic)
        self._skip_notes = SkipNotes(route, publish)
        self._member: Member | None = None
        self._task: asyncio.Task[None] | None = None
        self._joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._joined.add_done_callback(_mark_seen)
        self._open: list[Member] = []  # those that have not left
        self._stopping = False
        self._turn = asyncio.Lock()
        self._error: str | None = None

    def health(self) -> ConsumerHealth:
        """Return how it is now."""
        name, topic, group = self._route.name, self._route.topic, self._route.group
        if (member := self._member) is not None:
            return ConsumerHealth(
                name=name,
                topic=topic,
                group=group,
                state="reconnecting" if member.stuck else "running",
                assigned=member.assigned,
                in_flight=member.in_flight,
                error=member.error,
                skipped=self._skip_notes.count,
            )
        stopped = self._task is None or self._stopping
        state: ConsumerState = "stopped" if stopped else "reconnecting"
        return ConsumerHealth(
            name=name,
            topic=topic,
            group=group,
            state=state,
            error=self._error,
            skipped=self._skip_notes.count,
        )

    async def start(self, deadline: Deadline) -> None:
        """Join the group and know the position in every partition; then consume.

        At the deadline this also returns when the group has let it in, only waits for its other
        members, and will miss nothing: one that was killed keeps its partitions until its session
        has ended. Another call meanwhile waits for the same.

        Raises:
            BrokerUnavailableError: Not assigned and positioned by the deadline.
            AuthenticationError, TopologyError: The broker refused.
            NotStartedError: It was stopped meanwhile.

        """
        if self._stopping:
            raise NotStartedError
        if self._task is None:
            self._task = asyncio.create_task(
                self._run(deadline), name=f"pyfly kafka {self._route.name}"
            )
            self._task.add_done_callback(self._ended)
        await asyncio.wait((self._joined,))
        if self._joined.cancelled():
            raise NotStartedError
        self._joined.result()

    async def positioned(self, deadline: Deadline) -> None:
        """Wait until the partitions are assigned and positioned, after others have joined too.

        Raises:
            BrokerUnavailableError: Not by the deadline, and not because of other members.

        """
        while self._member is None:
            if not deadline.left():
                raise BrokerUnavailableError(
                    f"listener {self._route.name} has to join again: {self._error}",
                    address=self._client.address,
                )
            await asyncio.sleep(_JOIN_POLL_S)
        await self._member.positioned(deadline)

    async def stop(self, deadline: Deadline, caller: asyncio.Task[Any] | None = None) -> None:
        """Let running handlers finish, commit what is settled, leave the group.

        Args:
            deadline: For all of it.
            caller: The task that wants it, and is not waited for if it runs a handler.

        """
        self._stopping = True
        self._joined.cancel()
        async with self._turn:
            if self._task is not None and not self._task.done():
                self._task.cancel()
                await asyncio.wait((self._task,))
            self._member = None
            for member in tuple(self._open):
                await self._leave(member, deadline, caller)

    async def _run(self, deadline: Deadline) -> None:
        member = self._member = await self._join(deadline)
        self._joined.set_result(None)
        outage = Outage(self._route.name)
        while True:
            self._error = await supervise(self._client, self._route, member, outage)
            logger.warning("Kafka: listener %s joins again: %s", self._route.name, self._error)
            self._member = None
            await self._leave(member, Deadline(self._grace))
            member = self._member = await self._join_again()
            self._error = None

    def _ended(self, run: asyncio.Task[None]) -> None:
        """Tell why nothing is consumed, unless it was stopped."""
        if self._stopping:
            return
        error = BrokerError("its client was cancelled") if run.cancelled() else run.exception()
        if error is not None and not self._joined.done():
            self._joined.set_exception(error)
        else:
            logger.critical("Kafka: listener %s consumes no more", self._route.name, exc_info=error)

    async def _join_again(self) -> Member:
        failures, backoff = 1, _BACKOFF  # the first is the end of the member before
        while True:
            await asyncio.sleep(backoff.pause(failures))
            failures += 1
            deadline = Deadline(self._client.settings.session_timeout + self._grace)
            try:
                await self._client.bootstrap(deadline)
                if await self._identity.is_other():
                    self._positions.clear()
                return await self._join(deadline)
            except BrokerError as error:
                missing = isinstance(error, TopologyError)
                backoff = _BACKOFF_WITHOUT_TOPIC if missing else _BACKOFF
                if self._error != str(error):
                    self._error = str(error)
                    logger.warning("Kafka: listener %s: %s", self._route.name, error)

    async def _join(self, deadline: Deadline) -> Member:
        member = Member(
            self._client,
            self._route,
            self._positions,
            self._grace,
            self._identity,
            skips=self._skip_notes,
        )
        self._open.append(member)
        try:
            await member.join(deadline)
        except BaseException:
            await self._leave(member, Deadline(0))
            raise
        return member

    async def _leave(
        self,
        member: Member,
        deadline: Deadline,
        caller: asyncio.Task[Any] | None = None,
    ) -> None:
        """Have a member leave; cancelled, `stop` has it leave again."""
        await member.leave(deadline, caller)
        self._open.remove(member)


def _mark_seen(future: asyncio.Future[None]) -> None:
    """Mark an exception as seen: the caller that waited for it may have been cancelled."""
    if not future.cancelled():
        future.exception()


async def supervise(client: Client, route: Route, member: Member, outage: Outage) -> str:
    """Have a consumer consume; return why it has ended, or must be replaced.

    Args:
        client: How to reach the broker.
        route: Where the messages go.
        member: The consumer.
        outage: What tells of outages; one may end with another consumer than it began with.

    """
    checking = asyncio.create_task(
        _check(client, route, member, outage), name=f"pyfly kafka check {route.name}"
    )
    consuming = asyncio.create_task(member.consume(), name=f"pyfly kafka poll {route.name}")
    try:
        done, _ = await asyncio.wait((checking, consuming), return_when=asyncio.FIRST_COMPLETED)
    finally:
        checking.cancel()
        consuming.cancel()
        await asyncio.wait((checking, consuming))
    return _outcome(route, checking if checking in done else consuming)


def _outcome(route: Route, ended: asyncio.Task[str]) -> str:
    if ended.cancelled():  # not by us: aiokafka has let out what cancelled a task of its own
        return "its client was cancelled"
    if (error := ended.exception()) is None:
        return ended.result()
    if not isinstance(error, errors.CLIENT_ERRORS):
        logger.error("Kafka: listener %s", route.name, exc_info=error)
    return errors.describe(error)


async def _check(client: Client, route: Route, member: Member, outage: Outage) -> str:
    """Tell of outages; return why the consumer must be replaced.

    It must when nothing has arrived for long although a broker answers (aiokafka itself connects
    again, but only to addresses that it knows), and when its topic was deleted.
    """
    clock = asyncio.get_running_loop().time
    limit = client.settings.session_timeout
    heard, answered = clock(), None
    while True:
        await asyncio.sleep(_CHECK_INTERVAL_S)
        outage.update(member.stuck)
        if await member.topic.is_lost():
            return f"topic {route.topic!r} was deleted"
        if member.alive:
            heard, answered = clock(), None
        elif clock() - heard > limit:
            try:
                await client.bootstrap(Deadline(_CHECK_INTERVAL_S))
            except BrokerError:
                answered = None
                continue
            answered = answered or clock()
            if clock() - answered > _SILENCE_LIMIT_S:
                return "it has fallen silent"


class Outage:
    """Logs once that a consumer gets nothing, and once that it does again.

    Args:
        name: What logs call the listener.

    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._checks = 0  # at which nothing could arrive, one after the other

    def update(self, stuck: str | None) -> None:
        """Note whether records can arrive now."""
        if stuck is None:
            if self._checks > 1:
                logger.info("Kafka: listener %s is consumed again", self._name)
            self._checks = 0
            return
        self._checks += 1
        if self._checks == 2:  # not at a rebalance that is over at once
            logger.warning(
                "Kafka: listener %s is not consumed until it works again: %s", self._name, stuck
            )
