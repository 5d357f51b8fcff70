"""Whether a topic is still the same, without a broker."""

import asyncio

import pytest
from aiokafka.cluster import ClusterMetadata
from aiokafka.protocol.metadata import MetadataResponse_v0

from pyfly_messaging.adapters.kafka import topic_identity
from pyfly_messaging.adapters.kafka.client import Client
from pyfly_messaging.adapters.kafka.topic_identity import TopicIdentity, TopicMonitor
from pyfly_messaging.settings import KafkaSettings

NO_NEWS = MetadataResponse_v0([(0, "127.0.0.1", 1)], [])


class Broker:
    """Answers which topic there is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.topic: bytes | OSError = b"first"
        self.asked = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.cluster = ClusterMetadata()
        client = Client(KafkaSettings())
        monkeypatch.setattr(topic_identity, "_find_id", self._find_id)
        self.watch = TopicMonitor(TopicIdentity(client, "orders"), self.cluster)

    async def _find_id(self, client: Client, topic: str) -> bytes:
        self.asked += 1
        await self.answers.wait()
        if isinstance(self.topic, OSError):
            raise self.topic
        return self.topic

    async def is_lost(self) -> bool:
        """Ask after new metadata."""
        self.cluster.update_metadata(NO_NEWS)
        return await self.watch.is_lost()


async def test_the_broker_is_asked_only_after_new_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without new metadata nobody asks; with some one question is enough."""
    broker = Broker(monkeypatch)
    assert not await broker.watch.is_lost()
    assert broker.asked == 0
    assert not await broker.is_lost()
    assert not await broker.watch.is_lost()
    assert broker.asked == 1


async def test_another_topic_of_the_same_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A topic with another id is another topic, and stays so."""
    broker = Broker(monkeypatch)
    assert not await broker.is_lost()
    broker.topic = b"second"
    assert await broker.is_lost()
    assert await broker.is_lost()
    assert broker.asked == 2


async def test_no_answer_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that does not say is asked again the next time."""
    broker = Broker(monkeypatch)
    assert not await broker.is_lost()
    broker.topic = OSError("away")
    assert not await broker.is_lost()
    broker.topic = b"second"
    assert await broker.watch.is_lost()


async def test_whoever_asks_meanwhile_waits_for_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the broker is asked nobody is told that the topic is still the same."""
    broker = Broker(monkeypatch)
    assert not await broker.is_lost()
    broker.topic = b"second"
    broker.answers.clear()
    first = asyncio.create_task(broker.is_lost())
    while broker.asked < 2:
        await asyncio.sleep(0)
    second = asyncio.create_task(broker.watch.is_lost())
    await asyncio.sleep(0)
    broker.answers.set()
    assert all(await asyncio.gather(first, second))
    assert broker.asked == 2


async def test_a_question_that_is_cut_off_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gives up waiting leaves the question to the next one."""
    broker = Broker(monkeypatch)
    assert not await broker.is_lost()
    broker.topic = b"second"
    broker.answers.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await broker.is_lost()
    broker.answers.set()
    assert await broker.watch.is_lost()
