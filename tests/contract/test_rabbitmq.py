"""The contract on RabbitMQ."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import aio_pika
import pytest
from aio_pika.abc import HeadersType

from pyfly_messaging.adapters.rabbitmq import RabbitMQAdapter
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.settings import RabbitSettings
from pyfly_messaging.testing.conformance import Capabilities, ConformanceSuite, Stage
from pyfly_messaging.testing.conformance.groups import GroupCases
from pyfly_messaging.testing.conformance.reconnection import ReconnectionCases
from tests.brokers import RabbitCluster
from tests.brokers.proxy import ThreadedProxy


class RabbitMQ(Stage):
    """How the cases come to a broker."""

    capabilities = Capabilities(
        redelivers=True,
        durable=True,
        survives_crash=True,
        groups_across_instances=True,
        key_order=True,
        topic_order=True,
        unroutable=True,
        policies=True,
        batches=True,
        health=True,
        unreachable=True,
        foreign=True,
        in_flight_limit=100,
    )
    broadcast = "shared"
    url = ""

    @pytest.fixture(autouse=True)
    def address(self, rabbitmq: RabbitCluster) -> None:
        self.url = rabbitmq.url

    def make_broker(self, *, policy: ListenerPolicy, timeouts: Timeouts) -> RabbitMQAdapter:
        settings = RabbitSettings.model_validate({"url": self.url, "broadcast": self.broadcast})
        return RabbitMQAdapter.from_settings(settings, policy=policy, timeouts=timeouts)

    def make_unreachable_broker(
        self, *, policy: ListenerPolicy, timeouts: Timeouts
    ) -> RabbitMQAdapter:
        return RabbitMQAdapter("amqp://127.0.0.1:1/", policy=policy, timeouts=timeouts)

    async def publish_foreign(
        self, topic: str, value: bytes | None, headers: Mapping[str, bytes]
    ) -> None:
        async with await aio_pika.connect(self.url) as connection:
            exchange = await (await connection.channel()).get_exchange("pyfly")
            table: HeadersType = {name: bytearray(text) for name, text in headers.items()}
            await exchange.publish(aio_pika.Message(value or b"", headers=table), topic)


class TestRabbitMQ(RabbitMQ, ConformanceSuite):
    """All cases, with the default settings: quorum queues, one for the listeners without group."""


class TestRabbitMQWithInstanceQueues(RabbitMQ, GroupCases):
    """Groups, where the listeners without group have a queue of their own in each instance."""

    broadcast = "instance"
    capabilities = replace(RabbitMQ.capabilities, broadcast=True)


class TestRabbitMQBehindAProxy(RabbitMQ, ReconnectionCases):
    """Reconnection, where a proxy resets the connections and refuses new ones."""

    capabilities = replace(RabbitMQ.capabilities, reconnects=True)

    @pytest.fixture(autouse=True)
    def address(self, rabbitmq: RabbitCluster) -> Iterator[None]:
        user, _, place = rabbitmq.url.rpartition("@")
        server, slash, virtual_host = place.partition("/")
        with ThreadedProxy(server) as self.proxy:
            self.url = f"{user}@{self.proxy.address}{slash}{virtual_host}"
            yield

    async def break_connection(self) -> None:
        await self.proxy.cut()

    async def restore(self) -> None:
        await self.proxy.heal()
