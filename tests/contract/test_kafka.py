"""The contract on Apache Kafka."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaProducer

from pyfly_messaging.adapters.kafka import KafkaAdapter
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.settings import KafkaSettings
from pyfly_messaging.testing.conformance import Capabilities, ConformanceSuite, Stage
from pyfly_messaging.testing.conformance.order import OrderCases
from tests.brokers import KafkaCluster


class Kafka(Stage):
    """How the cases come to a broker."""

    capabilities = Capabilities(
        redelivers=True,
        durable=True,
        survives_crash=True,
        groups_across_instances=True,
        broadcast=True,
        backlog_for_named_groups=True,
        key_order=True,
        policies=True,
        batches=True,
        health=True,
        unreachable=True,
        foreign=True,
        in_flight_limit=100,
        message_limit=1_048_576,
    )
    partitions = 3
    servers = ""

    @pytest.fixture(autouse=True)
    def address(self, kafka: KafkaCluster) -> None:
        self.servers = kafka.bootstrap_servers

    def make_broker(self, *, policy: ListenerPolicy, timeouts: Timeouts) -> KafkaAdapter:
        settings = KafkaSettings(
            bootstrap_servers=(self.servers,),
            partitions=self.partitions,
            max_in_flight=100,
            session_timeout=6,  # so long a killed member keeps its partitions
        )
        return KafkaAdapter.from_settings(settings, policy=policy, timeouts=timeouts)

    def make_unreachable_broker(
        self, *, policy: ListenerPolicy, timeouts: Timeouts
    ) -> KafkaAdapter:
        return KafkaAdapter("127.0.0.1:1", policy=policy, timeouts=timeouts)

    async def publish_foreign(
        self, topic: str, value: bytes | None, headers: Mapping[str, bytes]
    ) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self.servers) as producer:
            key = None if value is not None else b"tombstone"
            await producer.send_and_wait(topic, value, key=key, headers=list(headers.items()))


class TestKafka(Kafka, ConformanceSuite):
    """All cases, on topics of three partitions; order holds within each, that is for a key."""


class TestKafkaOnOnePartition(Kafka, OrderCases):
    """Order, on topics of one partition, where it holds for the whole topic."""

    partitions = 1
    capabilities = replace(Kafka.capabilities, topic_order=True)
