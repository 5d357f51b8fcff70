"""Commits within time limits: a broker that does not answer holds up neither work nor a stop."""

from __future__ import annotations

import asyncio

from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from aiokafka.structs import TopicPartition

from pyfly_messaging.adapters.kafka import errors
from pyfly_messaging.adapters.kafka.liveness import Liveness
from pyfly_messaging.adapters.kafka.sources import Offsets, Source
from pyfly_messaging.adapters.kafka.topic_identity import TopicMonitor
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.logs import get_logger

logger = get_logger("pyfly_messaging.kafka")

# For one commit that can still be repeated; for the last one and for leaving the group, when
# brokers answer and when they do not. Seconds.
_COMMIT_TIMEOUT_S, _LEAVE_TIMEOUT_S, _UNREACHABLE_TIMEOUT_S = 10.0, 5.0, 1.0


class Commits:
    """Commits the offsets of one consumer, each within `timeout`.

    Args:
        route: Whose offsets they are.
        source: What commits them.
        topic: Tells when they are those of another topic.
        liveness: Tells whether brokers answer.

    Attributes:
        error: Why the last commit has failed; None since one has succeeded.

    """

    def __init__(
        self, route: Route, source: Source, topic: TopicMonitor, liveness: Liveness
    ) -> None:
        self.error: str | None = None
        self._route = route
        self._source = source
        self._topic = topic
        self._liveness = liveness
        self._leaving: Deadline | None = None

    async def __call__(self, offsets: dict[TopicPartition, int]) -> None:
        """Commit where to go on.

        Raises:
            KafkaError, TimeoutError: It is not committed.

        """
        try:
            # aiokafka repeats a commit for as long as the broker is away.
            async with asyncio.timeout(self.timeout):
                if await self._topic.is_lost():
                    raise UnknownTopicOrPartitionError(self._route.topic)
                await self._source.commit(offsets)
        except (TimeoutError, KafkaError) as error:
            self.error = f"offsets not committed: {errors.describe(error)}"
            logger.warning("Kafka: listener %s: %s", self._route.name, self.error)
            raise
        self.error = None

    async def commit_start(self, starts: Offsets) -> bool:
        """Commit where partitions begin, see `Source.commit_start`; False if that failed."""
        try:
            async with asyncio.timeout(self.timeout):
                await self._source.commit_start(starts)
        except (TimeoutError, KafkaError) as error:
            logger.info("Kafka: listener %s: %s", self._route.name, errors.describe(error))
            return False
        return True

    def shorten(self, deadline: Deadline) -> None:
        """Shorten the timeout: the consumer leaves, and has until then for all of it."""
        self._leaving = deadline

    @property
    def timeout(self) -> float:
        """How many seconds to wait for a broker's answer.

        On leaving that is half of the time left: there is more to do afterwards.
        """
        if self._leaving is None:
            return _COMMIT_TIMEOUT_S
        at_most = _LEAVE_TIMEOUT_S if self._liveness.connected else _UNREACHABLE_TIMEOUT_S
        return max(_UNREACHABLE_TIMEOUT_S, min(at_most, self._leaving.left() / 2))
