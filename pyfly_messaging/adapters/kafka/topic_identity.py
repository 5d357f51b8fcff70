"""Whether a topic is still the same, or was deleted and created again.

A topic that was deleted and created again has the same name and other messages. aiokafka knows
topics by name only (0.14), so it would go on in the new one where it was in the old one. Kafka
tells them apart by an id (from 2.8; the version of the request is one of 3.1).
"""

from __future__ import annotations

import asyncio
from io import BytesIO

from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from pyfly_messaging.adapters.kafka import errors
from pyfly_messaging.adapters.kafka.client import Client
from pyfly_messaging.errors import TopologyError

# Stands for the id of a topic that is not there.
_NONE = b"none"
_UNKNOWN_TOPIC = 3
_ANY_ID = bytes(16)


class TopicIdentity:
    """Tells a topic from an older one of the same name.

    Args:
        client: The connection to the broker.
        topic: Its name.

    Attributes:
        recreated: Whether the topic was created since the first look: then all of it is new.

    """

    def __init__(self, client: Client, topic: str) -> None:
        self.recreated = False
        self._client = client
        self._topic = topic
        self._id: bytes | None = None  # unknown

    async def is_lost(self) -> bool | None:
        """Tell whether the topic is gone, or is another one; None when the broker does not say."""
        try:
            found = await _find_id(self._client, self._topic)
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
            found = await _find_id(self._client, self._topic)
        except (OSError, KafkaError) as error:
            raise errors.connecting(error, address) from error
        if found is None:
            self._id = self._id or _NONE
            raise TopologyError(
                f"Kafka at {address} does not have the topic {self._topic!r} any more; it is"
                " consumed from its beginning when it is there again"
            )
        other = self._id not in {None, found}
        self._id, self.recreated = found, self.recreated or other
        return other


class TopicMonitor:
    """Notices for one consumer that its topic is gone, or is another one.

    Args:
        identity: What the topic was.
        cluster: The consumer's metadata. aiokafka gets new ones after an error, and from time to
            time; only then is the broker asked.

    """

    def __init__(self, identity: TopicIdentity, cluster: ClusterMetadata) -> None:
        self._identity = identity
        self._turn = asyncio.Lock()
        self._outdated = self._lost = False
        cluster.add_listener(self._on_metadata)

    async def is_lost(self) -> bool:
        """Tell whether the topic is not the one any more whose messages were handled.

        A call while the broker is being asked waits for the same answer: what is committed
        meanwhile could be the offsets of another topic.
        """
        async with self._turn:
            if self._outdated and not self._lost:
                lost, self._outdated = None, False
                try:
                    lost = await self._identity.is_lost()
                finally:
                    self._outdated = self._outdated or lost is None
                self._lost = bool(lost)
        return self._lost

    def _on_metadata(self, metadata: ClusterMetadata) -> None:
        self._outdated = True


class _Uuid(AbstractType[bytes]):  # type: ignore[misc]  # aiokafka has no types
    """Sixteen bytes."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)


class _MetadataResponseV12(Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _MetadataRequestV12(RequestStruct):  # type: ignore[misc]  # aiokafka has no types
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _MetadataResponseV12
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("topic_id", _Uuid), ("topic", CompactString("utf-8")), ("tags", TaggedFields)
            ),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _TopicIdRequest(Request[_MetadataRequestV12]):  # type: ignore[misc]  # aiokafka has no types
    """Asks for the id of a topic; aiokafka's own question is of a version that knows none."""

    API_KEY = 3

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[_MetadataRequestV12]) -> _MetadataRequestV12:
        """Return the request as it is sent."""
        return request_struct_class([(_ANY_ID, self._topic, {})], False, False, {})


async def _find_id(client: Client, topic: str) -> bytes | None:
    """Return what tells a topic from an older one of the same name; None when there is none.

    Brokers that know no ids have the same for all topics.

    Raises:
        OSError, KafkaError: The broker does not say.

    """
    try:
        response = await client.ask(_TopicIdRequest(topic))
    except NotImplementedError:  # aiokafka's way to say that the broker is too old for it
        return b""
    (found,) = response.to_object()["topics"]
    code = found["error_code"]
    if code == _UNKNOWN_TOPIC:
        return None
    if code:
        raise for_code(code)(found["topic"])
    topic_id: bytes = found["topic_id"]
    return topic_id
