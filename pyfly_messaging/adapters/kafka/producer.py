"""The one producer of an adapter: connected, supervised, and replaced when it cannot go on."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import KafkaError

from pyfly_messaging.adapters.kafka import errors, internals
from pyfly_messaging.adapters.kafka.client import Client
from pyfly_messaging.adapters.kafka.shutdown import end_producer
from pyfly_messaging.adapters.kafka.topics import Topics
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.errors import BrokerError
from pyfly_messaging.logs import get_logger

logger = get_logger("pyfly_messaging.kafka")

# For a replaced producer to confirm what it still can. Seconds.
_REPLACED_TIMEOUT_S = 10.0
# How often the connection is looked at, for how long a broker may not answer, and for how long none
# of them may while a bootstrap server does: longer than one request takes to fail. Seconds.
_CHECK_INTERVAL_S, _ANSWER_TIMEOUT_S, _SILENCE_LIMIT_S = 1.0, 5.0, 30.0
# For a last flush when the time of a stop is over. Seconds.
_LAST_FLUSH_S = 1.0


class Producer:
    """Holds the producer that is to be used now.

    Args:
        client: How to connect.
        topics: Makes sure that a topic is there that is not there any more.
        timeout: Seconds that a replacement may take to connect.

    Attributes:
        current: The producer, or None when stopped.
        suspect: Whether a publish had no answer in time; cleared when a broker answers again.

    """

    def __init__(self, client: Client, topics: Topics, timeout: float) -> None:
        self.current: AIOKafkaProducer | None = None
        self.suspect = False
        self._client = client
        self._topics = topics
        self._timeout = timeout
        self._replacing: asyncio.Task[None] | None = None
        self._supervising: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[bool]] = set()
        self._looked_up: set[str] = set()  # topics that a publish has not found in the metadata
        self._unanswered: dict[tuple[int, int], float] = {}  # the oldest request of a connection

    @property
    def connected(self) -> bool:
        """Whether a broker can be reached now, as far as is known."""
        return not self.suspect and _has_connection(self.current)

    async def start(self, deadline: Deadline) -> None:
        """Connect.

        Raises:
            BrokerUnavailableError: Not connected by the deadline.
            AuthenticationError: The broker refused.

        """
        self.current = await self._connect(deadline)
        self.suspect = False
        self._supervising = asyncio.create_task(
            self._supervise(), name="pyfly kafka producer supervisor"
        )

    async def stop(self, deadline: Deadline) -> None:
        """Flush what is being sent and disconnect; never hangs on a dead broker."""
        last = None
        if self.current is not None:
            last = self._close_old(self.current, max(_LAST_FLUSH_S, deadline.left()))
            self.current = None
        for task in (self._supervising, self._replacing):
            if task is not None:
                task.cancel()
                await asyncio.wait((task,))
        self._supervising = self._replacing = None
        if last is not None:
            if await deadline.wait((last,)):  # it is over, or has expired early
                await asyncio.wait((last,), timeout=_LAST_FLUSH_S)
            if not last.done() or last.cancelled() or not last.result():
                logger.warning(
                    "Kafka at %s: not all that was published is confirmed", self._client.address
                )
        for closing in tuple(self._closing):
            closing.cancel()
            await asyncio.wait((closing,))

    async def replace(self, unusable: AIOKafkaProducer) -> None:
        """Replace an unusable producer, once, however many callers ask for it.

        Raises:
            BrokerError: The new one could not connect.

        """
        if self.current is not unusable:
            return
        if self._replacing is None:
            self._replacing = asyncio.create_task(
                self._replace(unusable), name="pyfly kafka producer replacement"
            )
        # A caller may be cancelled by a limit of its own; the replacement goes on.
        await asyncio.shield(self._replacing)

    async def _replace(self, unusable: AIOKafkaProducer) -> None:
        try:
            logger.warning("Kafka at %s: the producer is replaced", self._client.address)
            self.current = await self._connect(Deadline(self._timeout))
        finally:
            self._replacing = None
        self._close_old(unusable, _REPLACED_TIMEOUT_S)

    def _close_old(self, producer: AIOKafkaProducer, timeout: float) -> asyncio.Task[bool]:
        """Begin to end a producer that is used no more."""
        closing = asyncio.create_task(
            end_producer(producer, timeout), name="pyfly kafka closing producer"
        )
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        return closing

    async def _connect(self, deadline: Deadline) -> AIOKafkaProducer:
        await self._client.bootstrap(deadline)
        producer = self._client.producer()
        await connect(self._client, producer, deadline)
        self._follow_topics(producer.client)
        return producer

    def _follow_topics(self, client: AIOKafkaClient) -> None:
        """Have topics looked for again that are not there any more."""

        def forget_missing(metadata: ClusterMetadata) -> None:
            for topic in internals.followed_topics(client) - metadata.topics(
                exclude_internal_topics=False
            ):
                self._topics.forget(topic)

        internals.note_lookups(client, self._looked_up.add)
        client.cluster.add_listener(forget_missing)

    async def _supervise(self) -> None:
        """Connect again when no connection is left, so that health can tell the truth.

        aiokafka connects when there is something to send; until then it would be unknown whether
        the brokers are back. And it knows only the addresses of which it was told last.
        """
        clock = asyncio.get_running_loop().time
        answered = clock()
        while True:
            await asyncio.sleep(_CHECK_INTERVAL_S)
            if (producer := self.current) is None:
                continue
            lost = clock() - answered > _SILENCE_LIMIT_S and await self._is_reachable()
            if lost or internals.has_ended(producer):  # nothing would ever be sent
                await self._reconnect(producer)
                answered = clock()
                continue
            await self._restore_topics(producer)
            stuck = self._is_stuck(producer)
            if stuck or not self.connected:
                asked = producer.client.force_metadata_update()
                await asyncio.wait((asked,), timeout=_ANSWER_TIMEOUT_S)
                if not (asked.done() and asked.result()):
                    self.suspect = True
                    continue
                self.suspect = stuck
            answered = clock()

    async def _restore_topics(self, producer: AIOKafkaProducer) -> None:
        """Make sure that the topics are there for which messages wait: they may be deleted."""
        waiting = internals.waiting_topics(producer)
        sought = set(self._looked_up)
        self._looked_up.clear()
        missing = (waiting | sought) - producer.client.cluster.topics(exclude_internal_topics=False)
        if missing:
            try:
                await self._topics.ensure(missing, Deadline(_ANSWER_TIMEOUT_S))
            except BrokerError as error:  # the publish raises an error of its own
                logger.info("Kafka at %s: %s", self._client.address, error)

    async def _is_reachable(self) -> bool:
        """Tell whether one of the bootstrap servers accepts a connection."""
        try:
            await self._client.bootstrap(Deadline(_CHECK_INTERVAL_S))
        except BrokerError:
            return False
        return True

    async def _reconnect(self, dead: AIOKafkaProducer) -> None:
        try:
            await self.replace(dead)
        except BrokerError as error:
            logger.warning("Kafka at %s: %s", self._client.address, error)

    def _is_stuck(self, producer: AIOKafkaProducer) -> bool:
        """Tell whether a broker has left a request unanswered for too long."""
        now = asyncio.get_running_loop().time()
        waiting = internals.oldest_requests(producer.client)
        self._unanswered = {request: self._unanswered.get(request, now) for request in waiting}
        return any(now - since > _ANSWER_TIMEOUT_S for since in self._unanswered.values())


async def connect(client: Client, producer: AIOKafkaProducer, deadline: Deadline) -> None:
    """Start a producer; one that does not start is closed.

    Raises:
        BrokerUnavailableError: Not connected by the deadline.
        AuthenticationError: The broker refused.

    """
    try:
        async with asyncio.timeout(deadline.left()):
            with internals.bootstrapping():
                await producer.start()
    except BaseException as error:
        await end_producer(producer, 1.0)
        if isinstance(error, OSError | KafkaError):
            raise errors.connecting(error, client.address) from error
        raise


def _has_connection(producer: AIOKafkaProducer | None) -> bool:
    return producer is not None and any(
        connection.connected() for connection in internals.connections(producer.client)
    )
