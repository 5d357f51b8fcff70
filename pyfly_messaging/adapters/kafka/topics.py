"""Topics that must exist before anything is published to them or read from them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.metadata import MetadataRequest

from pyfly_messaging.adapters.kafka import errors, internals
from pyfly_messaging.adapters.kafka.client import Client
from pyfly_messaging.adapters.kafka.shutdown import end_admin
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.errors import TopologyError
from pyfly_messaging.logs import get_logger

logger = get_logger("pyfly_messaging.kafka")

_UNKNOWN_TOPIC = 3
_LEADER_NOT_AVAILABLE = 5
_TOPIC_EXISTS = 36
_PAUSE_S = 0.05
# How long a topic may take to appear that others create. Seconds.
_APPEAR_TIMEOUT_S = 5.0


class Topics:
    """Creates or verifies topics, each once.

    Without this, a publish to a topic that does not exist takes 40 seconds to fail, and a consumer
    of it waits for the next refresh of its metadata, five minutes later.

    Attributes:
        known: Topics that were there when they were last looked for.

    """

    def __init__(self, client: Client) -> None:
        self.known: set[str] = set()
        self._client = client
        self._lock = asyncio.Lock()

    async def ensure(self, topics: Iterable[str], deadline: Deadline) -> None:
        """Make sure that topics exist, as ``kafka.topics`` says.

        ``create`` creates those that are missing, ``verify`` refuses them at once, ``ignore``
        gives them a few seconds to appear: the broker or another program may create them.

        Raises:
            TopologyError: A topic is missing, or cannot be created as asked for.
            AuthenticationError: The user may not see or create a topic.
            BrokerUnavailableError: No answer by the deadline.

        """
        async with self._lock:
            missing = [topic for topic in dict.fromkeys(topics) if topic not in self.known]
            if missing:
                await self._until_there(missing, deadline)
                self.known.update(missing)

    def forget(self, topic: str) -> None:
        """Look for a topic again the next time: it may have been deleted."""
        self.known.discard(topic)

    def forget_all(self) -> None:
        """Begin anew, on another event loop too: a lock that was waited for belongs to one."""
        self.known.clear()
        self._lock = asyncio.Lock()

    async def _until_there(self, topics: list[str], deadline: Deadline) -> None:
        while True:
            try:
                async with asyncio.timeout(deadline.left()):
                    await self._attempt(topics)
            except (OSError, KafkaError) as error:
                if errors.is_final(error) or deadline.left() <= _PAUSE_S:
                    raise errors.connecting(error, self._client.address) from error
                await asyncio.sleep(_PAUSE_S)
                await self._client.bootstrap(deadline)
            else:
                return

    async def _attempt(self, topics: list[str]) -> None:
        admin = self._client.admin()
        try:
            with internals.bootstrapping():
                await admin.start()
            await self._make_sure(admin, topics)
        finally:
            await end_admin(admin)

    async def _make_sure(self, admin: AIOKafkaAdminClient, topics: list[str]) -> None:
        policy = self._client.settings.topics
        missing = [topic for topic, there in (await _find(admin, topics)).items() if not there]
        if not missing:
            return
        if policy == "create":
            await self._create(admin, missing)
            while not all((await _find(admin, missing, leaders=True)).values()):
                await asyncio.sleep(_PAUSE_S)
            return
        if policy == "ignore":
            missing = await _appear(admin, missing)
        if missing:
            raise TopologyError(
                f"Kafka at {self._client.address} does not have the topics {', '.join(missing)};"
                " create them, or set kafka.topics: create"
            )

    async def _create(self, admin: AIOKafkaAdminClient, topics: list[str]) -> None:
        settings = self._client.settings
        # -1 asks for the broker's default; aiokafka takes it only together with an (empty)
        # assignment of replicas.
        partitions, replicas = settings.partitions or -1, settings.replication_factor or -1
        assignments: dict[int, list[int]] | None = {} if -1 in {partitions, replicas} else None
        response = await admin.create_topics(
            [NewTopic(topic, partitions, replicas, assignments) for topic in topics]
        )
        for topic, code, *message in response.topic_errors:
            if code == _TOPIC_EXISTS:
                continue
            if code:
                raise for_code(code)(f"cannot create topic {topic}: {(message or [''])[0] or code}")
            logger.info("created topic %s on Kafka at %s", topic, self._client.address)


async def _appear(admin: AIOKafkaAdminClient, topics: list[str]) -> list[str]:
    """Wait a little for topics to appear; return those that did not."""
    deadline = Deadline(_APPEAR_TIMEOUT_S)
    while deadline.left():
        there = await _find(admin, topics, create=True)
        topics = [topic for topic in topics if not there[topic]]
        if not topics:
            break
        await asyncio.sleep(_PAUSE_S)
    return topics


async def _find(
    admin: AIOKafkaAdminClient, topics: list[str], *, leaders: bool = False, create: bool = False
) -> dict[str, bool]:
    """Tell of each topic whether it is there.

    Args:
        admin: Whom to ask with.
        topics: Which to look for.
        leaders: A topic counts only when each of its partitions has a leader.
        create: The broker may create them because they were asked for.

    """
    response = await internals.send_request(
        admin, MetadataRequest(topics, allow_auto_topic_creation=create)
    )
    there = dict.fromkeys(topics, False)
    for topic in response.to_object()["topics"]:
        code = topic["error_code"]
        if code not in {0, _UNKNOWN_TOPIC, _LEADER_NOT_AVAILABLE}:
            raise for_code(code)(topic["topic"])
        there[topic["topic"]] = code == 0 and not (
            leaders and any(p["error_code"] == _LEADER_NOT_AVAILABLE for p in topic["partitions"])
        )
    return there
