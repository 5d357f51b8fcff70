"""Whether a topic is still the one that it was."""

from __future__ import annotations

import asyncio

from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import KafkaError

from pyfly_messaging.adapters.kafka import errors
from pyfly_messaging.adapters.kafka.client import Client
from pyfly_messaging.errors import TopologyError

# Stands for the id of a topic that is not there.
_NONE = b"none"


class Identity:
    """Tells a topic from an older one of the same name.

    Args:
        client: Whom to ask.
        topic: Its name.

    Attributes:
        renewed: Whether the topic was created since the first look: then all of it is new.

    """

    def __init__(self, client: Client, topic: str) -> None:
        self.renewed = False
        self._client = client
        self._topic = topic
        self._id: bytes | None = None  # unknown

    async def is_lost(self) -> bool | None:
        """Tell whether the topic is gone, or is another one; None when the broker does not say."""
        try:
            found = await self._client.topic_id(self._topic)
        except (OSError, KafkaError):
            return None
        if self._id is None:
            self._id = found
        return found is None or found != self._id

    async def is_other(self) -> bool:
        """Tell whether the topic is another one than at the last look.

        Raises:
            TopologyError: There is none.
            BrokerError: The broker does not say.

        """
        address = self._client.address
        try:
            found = await self._client.topic_id(self._topic)
        except (OSError, KafkaError) as error:
            raise errors.connecting(error, address) from error
        if found is None:
            self._id = self._id or _NONE
            raise TopologyError(
                f"Kafka at {address} does not have the topic {self._topic!r} any more; it is"
                " consumed from its beginning when it is there again"
            )
        other = self._id not in {None, found}
        self._id, self.renewed = found, self.renewed or other
        return other


class TopicWatch:
    """Notices for one consumer that its topic is gone, or is another one.

    Args:
        identity: What the topic was.
        cluster: The consumer's metadata. aiokafka gets new ones after an error, and from time to
            time; only then is the broker asked.

    """

    def __init__(self, identity: Identity, cluster: ClusterMetadata) -> None:
        self._identity = identity
        self._turn = asyncio.Lock()
        self._doubtful = self._lost = False
        cluster.add_listener(self._doubt)

    async def is_lost(self) -> bool:
        """Tell whether the topic is not the one any more whose messages were handled.

        Whoever asks while the broker is being asked waits for the same answer: what is committed
        meanwhile could be the offsets of another topic.
        """
        async with self._turn:
            if self._doubtful and not self._lost:
                lost, self._doubtful = None, False
                try:
                    lost = await self._identity.is_lost()
                finally:
                    self._doubtful = self._doubtful or lost is None
                self._lost = bool(lost)
        return self._lost

    def _doubt(self, metadata: ClusterMetadata) -> None:
        self._doubtful = True
