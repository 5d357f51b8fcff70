"""The consumer of one queue: supervised, one session after the other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pyfly_messaging.adapters.rabbitmq import errors
from pyfly_messaging.adapters.rabbitmq.consumer_state import QueueState
from pyfly_messaging.adapters.rabbitmq.session import Session
from pyfly_messaging.adapters.rabbitmq.topic_lanes import Topics
from pyfly_messaging.delivery.backoff import Backoff
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.errors import BrokerError, BrokerUnavailableError
from pyfly_messaging.health import ConsumerHealth

if TYPE_CHECKING:
    from pyfly_messaging.adapters.rabbitmq.connection import Connection
    from pyfly_messaging.adapters.rabbitmq.reconnecting_connection import ReconnectingConnection
    from pyfly_messaging.adapters.rabbitmq.topology import Queue, Topology
    from pyfly_messaging.adapters.rabbitmq.unknown_topics import UnknownTopics

# Between the end of a session and the next try. It grows while sessions end without having settled
# anything, so that a message that brings its channel down does not do so in a hot loop.
_BACKOFF = Backoff(first=0.1, longest=10.0)
# For the end of a session that is over. Seconds.
_CLOSE_TIMEOUT_S = 5.0


class QueueConsumer:
    """Consumes one queue for all its routes, whatever happens to its channel.

    When a session is over, the next one begins at once. Only the topics whose handlers still run
    wait for these (see `TopicLanes`).

    Args:
        reconnecting: The connection that all consumers share.
        topology: Declares the queue.
        queue: The queue.
        unknown_topics: What to do with topics that no handler here listens to.
        prefetch: Messages that may be unacknowledged, unless the concurrency is higher.
        grace_period: Seconds for a handler whose session is over.

    Attributes:
        queue: The queue.
        state: Whether it is consumed.

    """

    def __init__(
        self,
        reconnecting: ReconnectingConnection,
        topology: Topology,
        queue: Queue,
        unknown_topics: UnknownTopics,
        *,
        prefetch: int,
        grace_period: float,
    ) -> None:
        self.queue = queue
        self.state = QueueState(queue.name)
        self._reconnecting = reconnecting
        self._topology = topology
        self._unknown_topics = unknown_topics
        self._least_prefetch = prefetch
        self._grace_period = grace_period
        self._topics = self._no_topics()
        self._routes: list[Route] = []
        self._declared: tuple[Connection, tuple[Route, ...]] | None = None  # for the first session
        self._session: Session | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether it has no routes."""
        return not self._routes

    @property
    def routes(self) -> tuple[Route, ...]:
        """What it consumes the queue for."""
        return tuple(self._routes)

    def add(self, route: Route) -> None:
        """Add a route, or note that one has changed.

        Raises:
            ValueError: Another group's route of the same topic would share the queue.

        """
        for known in self._routes:
            if known.topic == route.topic and known.group != route.group:
                raise ValueError(
                    f"group {route.group!r} and group {known.group!r} would share the queue"
                    f" {self.queue.name!r} for topic {route.topic!r}, and each get half of its"
                    " messages: choose another group"
                )
        if route not in self._routes:
            self._routes.append(route)

    async def remove(self, route: Route) -> None:
        """Take a route out that could not be consumed, unless other handlers remain on it."""
        if not route.subscriptions and route in self._routes:
            self._routes.remove(route)
            if self._session is not None:
                await self._session.forget(route)
            else:
                await self._topics.forget(route)

    async def declare(self) -> None:
        """Declare the queue with its bindings, unless it ends with the process.

        The exchanges and the queues of dead letters have been declared before.

        Raises:
            BrokerError: It was refused, or the connection was lost.

        """
        connection, routes = await self._reconnecting.connection(), self.routes
        if not self.queue.own:
            await connection.declare(
                lambda channel: self._topology.declare_bound(channel, self.queue, routes)
            )
        self._declared = connection, routes

    async def start(self) -> None:
        """Begin to consume; return when it does.

        Raises:
            AuthenticationError, TopologyError: The broker refused, at once.
            NotStartedError: It was closed meanwhile.

        """
        self.state.begin()
        self._topics = self._no_topics()
        self._supervisor = asyncio.create_task(
            self._supervise(), name=f"pyfly rabbitmq consumer {self.queue.name}"
        )
        await self.state.session()

    async def extend(self, route: Route) -> None:
        """Consume for a route that was added, or for one more handler of it.

        Raises:
            BrokerError: It was refused; what was consumed before goes on.

        """
        while True:
            session = await self.state.session()
            try:
                await session.extend(route, self._prefetch())
            except BrokerUnavailableError:
                if not session.over.done():
                    raise
            if not session.over.done():
                return

    def halt(self) -> None:
        """Begin nothing more, neither handlers nor sessions."""
        self.state.halt()
        if self._supervisor is not None:
            self._supervisor.cancel()
        self._topics.close()
        if self._session is not None:
            self._session.halt()

    async def cancel(self, timeout: float) -> None:
        """Let nothing more arrive; `halt` comes before."""
        if self._session is not None:
            await self._session.cancel(timeout)

    async def drain(self, deadline: Deadline, caller: asyncio.Task[Any] | None) -> None:
        """Let running handlers finish until the deadline, then cancel them."""
        await self._topics.drain(deadline, caller)

    async def bind(self) -> None:
        """Declare exchanges, dead letters and bindings again, wherever some were deleted.

        Raises:
            BrokerError: It was refused, or the connection was lost.

        """
        if (session := self.state.current) is None:
            return  # the next session binds
        await session.bind(tuple(self._routes))
        self.state.bound()

    async def close(self, timeout: float) -> None:
        """Acknowledge what is settled, requeue the rest, and forget the session."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait((self._supervisor,))
        if self._session is not None:
            await self._session.close(timeout)
        self._supervisor = self._session = None
        self._topics = self._no_topics()

    def health(self) -> list[ConsumerHealth]:
        """Return the health of each route."""
        return [
            ConsumerHealth(
                name=route.name,
                topic=route.topic,
                group=route.group,
                state=self.state.name,
                assigned=self._assigned,
                in_flight=self._topics.in_flight(route),
                error=self._error,
            )
            for route in self._routes
        ]

    @property
    def _error(self) -> str | None:
        failure = self._reconnecting.failure
        if self.state.name == "reconnecting" and failure is not None:
            return errors.describe(failure.__cause__ or failure)
        return self.state.last_error

    @property
    def _assigned(self) -> tuple[str, ...]:
        if self._session is None or self.state.name != "running":
            return ()
        return (self._session.queue,)

    def _prefetch(self) -> int:
        return max((self._least_prefetch, *(r.concurrency for r in self._routes)))

    async def _supervise(self) -> None:
        """Have a session, and after its end the next one."""
        failures, first = 0, True
        while self.state.name != "stopped":
            try:
                settled = await self._consume()
                first = False
            except Exception as error:  # noqa: BLE001 - whatever it is, the consumer goes on
                if first and isinstance(error, BrokerError) and errors.is_final(error):
                    self.state.refuse(error)
                    return
                self.state.interrupted(error)
                settled = 0
            failures = 1 if settled else failures + 1
            await asyncio.sleep(_BACKOFF.pause(failures))

    async def _consume(self) -> int:
        """Consume until a session is over; return how many messages it settled."""
        connection = await self._reconnecting.connection()
        declared, self._declared = self._declared == (connection, self.routes), None
        session = self._session = Session(
            connection,
            self._topology,
            self.queue,
            self._topics,
            unknown_topics=self._unknown_topics,
            on_over=self.state.interrupted,
        )
        try:
            await session.open(self.routes, self._prefetch(), declared=declared)
        except Exception:
            await self._end(session)
            raise
        self.state.consumes(session)
        await session.over
        await self._end(session)
        return session.settled

    async def _end(self, session: Session) -> None:
        self._topics.abandon()
        await session.close(_CLOSE_TIMEOUT_S)
        self._session = None

    def _no_topics(self) -> Topics:
        return Topics(self._grace_period, self._topology.source_of)
