"""Committing, within limits: a broker that does not answer must hold up neither work nor a stop."""

from __future__ import annotations

import asyncio

from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from aiokafka.structs import TopicPartition

from pyfly_messaging.adapters.kafka import errors
from pyfly_messaging.adapters.kafka.liveness import Pulse
from pyfly_messaging.adapters.kafka.sources import Offsets, Source
from pyfly_messaging.adapters.kafka.topic_identity import TopicWatch
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.logs import get_logger

logger = get_logger("pyfly_messaging.kafka")

# For one commit that can still be repeated; for the last one and the farewell, to brokers that
# answer and to brokers that do not. Seconds.
_COMMIT, _FAREWELL, _CURT = 10.0, 5.0, 1.0


class Commits:
    """Commits the offsets of one consumer, each time within `patience`.

    Args:
        route: Whose offsets they are.
        source: What commits them.
        topic: Tells when they are those of another topic.
        pulse: Tells whether brokers answer.

    Attributes:
        error: Why the last commit has failed; None since one has succeeded.

    """

    def __init__(self, route: Route, source: Source, topic: TopicWatch, pulse: Pulse) -> None:
        self.error: str | None = None
        self._route = route
        self._source = source
        self._topic = topic
        self._pulse = pulse
        self._leaving: Deadline | None = None

    async def __call__(self, offsets: dict[TopicPartition, int]) -> None:
        """Commit where to go on.

        Raises:
            KafkaError, TimeoutError: It is not committed.

        """
        try:
            # aiokafka repeats a commit for as long as the broker is away.
            async with asyncio.timeout(self.patience):
                if await self._topic.is_lost():
                    raise UnknownTopicOrPartitionError(self._route.topic)
                await self._source.commit(offsets)
        except (TimeoutError, KafkaError) as error:
            self.error = f"offsets not committed: {errors.describe(error)}"
            logger.warning("Kafka: listener %s: %s", self._route.name, self.error)
            raise
        self.error = None

    async def anchor(self, starts: Offsets) -> bool:
        """Hold on to where partitions begin, see `Source.anchor`; False if that failed."""
        try:
            async with asyncio.timeout(self.patience):
                await self._source.anchor(starts)
        except (TimeoutError, KafkaError) as error:
            logger.info("Kafka: listener %s: %s", self._route.name, errors.describe(error))
            return False
        return True

    def hurry(self, deadline: Deadline) -> None:
        """Leave the patience aside: the consumer leaves, and has until then for all of it."""
        self._leaving = deadline

    @property
    def patience(self) -> float:
        """How many seconds to wait for a broker's answer.

        On leaving that is half of the time left: there is more to do afterwards.
        """
        if self._leaving is None:
            return _COMMIT
        at_most = _FAREWELL if self._pulse.connected else _CURT
        return max(_CURT, min(at_most, self._leaving.left() / 2))
