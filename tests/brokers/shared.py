"""The one Kafka and the one RabbitMQ that all tests of a run share, from wherever they come.

In this order: an address in the environment (`PYFLY_TEST_KAFKA`, `PYFLY_TEST_RABBITMQ`); what is on
this machine, or what apt installs there without a question; Docker Compose. With
`PYFLY_TEST_RABBITMQ_VERSION=4` it is RabbitMQ 4 in a Debian 13 of its own (see `RabbitOptions`).
"""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

from .compose import compose_kafka, compose_rabbitmq
from .install import NotAvailable
from .kafka import KafkaCluster
from .rabbitmq import RabbitCluster

KAFKA_ADDRESS = "PYFLY_TEST_KAFKA"
RABBITMQ_ADDRESS = "PYFLY_TEST_RABBITMQ"
RABBITMQ_VERSION = "PYFLY_TEST_RABBITMQ_VERSION"


class Cluster(Protocol):
    """What a Kafka cluster and a RabbitMQ cluster have in common here."""

    version: str
    origin: str

    def start(self) -> None:
        """Start it."""

    def stop(self) -> None:
        """End it."""


ClusterT = TypeVar("ClusterT", bound=Cluster)


class Shared(Generic[ClusterT]):
    """A broker that starts at the first call of `begin()` or `get()`, once, in a thread."""

    def __init__(self, title: str, start: Callable[[], ClusterT]) -> None:
        self._title = title
        self._start = start
        self._pool: ThreadPoolExecutor | None = None
        self._future: Future[ClusterT] | None = None

    def begin(self) -> Future[ClusterT]:
        """Start the broker without waiting for it."""
        if self._future is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix=self._title)
            self._future = self._pool.submit(self._start)
        return self._future

    def get(self) -> ClusterT:
        """Return the running broker; raise NotAvailable or StartError, every time alike."""
        return self.begin().result()

    def settled(self) -> None:
        """Wait until a start that is under way is over, however it ends."""
        if self._future is not None:
            self._future.exception()

    def stop(self) -> None:
        """End the broker if it was started, after a start that is under way; safe to call twice."""
        if self._future is None or self._pool is None:
            return
        self._pool.shutdown()
        if self._future.exception() is None:
            self._future.result().stop()

    @property
    def description(self) -> str | None:
        """Which broker was used and where it came from; None when none was."""
        if self._future is None or not self._future.done() or self._future.exception() is not None:
            return None
        cluster = self._future.result()
        return f"{self._title} {cluster.version} ({cluster.origin})"


def shared_kafka() -> Shared[KafkaCluster]:
    """Return the Kafka of this run, not yet started."""
    return Shared("Apache Kafka", start_kafka)


def shared_rabbitmq() -> Shared[RabbitCluster]:
    """Return the RabbitMQ of this run, not yet started."""
    return Shared("RabbitMQ", start_rabbitmq)


def start_kafka() -> KafkaCluster:
    """Return one running Kafka node from the first place that has it."""
    if address := os.environ.get(KAFKA_ADDRESS):
        given = KafkaCluster.at(address, origin=KAFKA_ADDRESS)
        given.start()
        return given
    cluster = KafkaCluster()
    try:
        cluster.start()
    except NotAvailable as missing:
        return compose_kafka(missing)
    return cluster


def start_rabbitmq() -> RabbitCluster:
    """Return one running RabbitMQ node from the first place that has it."""
    if address := os.environ.get(RABBITMQ_ADDRESS):
        given = RabbitCluster.at(address, origin=RABBITMQ_ADDRESS)
        given.start()
        return given
    fourth = os.environ.get(RABBITMQ_VERSION) == "4"
    cluster = RabbitCluster(version="4") if fourth else RabbitCluster()
    try:
        cluster.start()
    except NotAvailable as missing:
        return compose_rabbitmq(missing)
    return cluster
