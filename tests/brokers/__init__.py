"""Real brokers for the tests: Apache Kafka and RabbitMQ, found or installed on this machine.

Tests ask for the fixtures `kafka` and `rabbitmq` (one shared node each), and for `kafka_cluster`,
`rabbit_cluster` and `tcp_proxy` (functions that start private ones, which a test may break):

    async def test_survives_a_crash(kafka_cluster: KafkaFactory) -> None:
        cluster = await asyncio.to_thread(kafka_cluster, nodes=3)
        await asyncio.to_thread(cluster.kill, 0)
        await asyncio.to_thread(cluster.restart, 0)

For a person, `python -m tests.brokers` runs one of each until Ctrl-C.
"""

from .certificates import Certificates
from .install import NotAvailable
from .kafka import KafkaCluster, KafkaFactory
from .kafka_config import KafkaOptions
from .process import StartError
from .proxy import ProxyFactory, TcpProxy
from .rabbitmq import RabbitCluster, RabbitFactory
from .rabbitmq_config import RabbitOptions

__all__ = [
    "Certificates",
    "KafkaCluster",
    "KafkaFactory",
    "KafkaOptions",
    "NotAvailable",
    "ProxyFactory",
    "RabbitCluster",
    "RabbitFactory",
    "RabbitOptions",
    "StartError",
    "TcpProxy",
]
