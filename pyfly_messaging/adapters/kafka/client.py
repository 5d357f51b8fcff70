"""aiokafka's producers, consumers and admin clients: which setting becomes which argument."""

from __future__ import annotations

from typing import Any, Literal

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, codec
from aiokafka.admin import AIOKafkaAdminClient

from pyfly_messaging.adapters.kafka import errors, internals
from pyfly_messaging.adapters.kafka.connect import BootstrapConnection, Connection, ask
from pyfly_messaging.adapters.kafka.options import check_options, options_for
from pyfly_messaging.adapters.kafka.redaction import redact_logs
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.errors import MissingDependencyError
from pyfly_messaging.logs import quieten
from pyfly_messaging.settings import KafkaSettings

# aiokafka's loggers that repeat ten times a second that a broker is away.
_NOISY = (
    "aiokafka",
    "aiokafka.cluster",
    "aiokafka.conn",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.group_coordinator",
    "aiokafka.producer.sender",
)
# aiokafka's own default of 40 s outlasts our deadlines: a publish could not survive a broker that
# hangs, because the next attempt comes only then.
_REQUEST_TIMEOUT_MS = 20_000
# For one request on a connection of its own. Seconds.
_ANSWER_TIMEOUT_S = 5.0
# The largest that aiokafka takes for a size.
_NO_LIMIT = 2**31 - 1


class Client:
    """What every connection of the adapter has in common.

    Attributes:
        settings: The ``kafka:`` section.
        address: Where the brokers are, for messages.

    Raises:
        ConfigurationError: An option that no client of aiokafka takes, or that a setting of ours
            decides; a file of ``kafka.tls`` that cannot be used.
        MissingDependencyError: The package for ``kafka.compression`` is not installed.

    """

    def __init__(self, settings: KafkaSettings) -> None:
        check_options(settings.options)
        _check_compression(settings.compression)
        redact_logs()
        quieten(_NOISY, errors.TRANSIENT)
        self.settings = settings
        self.address = ",".join(settings.bootstrap_servers)
        self._servers = list(settings.bootstrap_servers)
        self._connection = Connection(settings)
        self._bootstrap = BootstrapConnection(self._servers, self._connection)

    async def bootstrap(self, deadline: Deadline) -> None:
        """Wait until a broker accepts a connection; new clients then ask that one first.

        aiokafka itself makes one pass over the hosts, in random order, and waits for each as long
        as for any request.

        Raises:
            BrokerUnavailableError: None answered by the deadline; with the last cause.
            AuthenticationError: At once, when one refuses the credentials.

        """
        self._servers = [await self._bootstrap(deadline)]

    async def ask(self, request: object) -> Any:
        """Return what a broker answers to one request, on a connection of its own.

        Raises:
            OSError, KafkaError: No answer.
            NotImplementedError: The broker is too old for the request.

        """
        return await ask(self._servers[0], self._connection, request, _ANSWER_TIMEOUT_S)

    def producer(self) -> AIOKafkaProducer:
        """Return a new producer, not started."""
        return self._producer(enable_idempotence=self.settings.idempotence)

    def producer_without_limit(self) -> AIOKafkaProducer:
        """Return a new producer that leaves it to the broker what is too large; not started.

        It is not idempotent: after a refused message an idempotent producer can send no more.
        """
        return self._producer(enable_idempotence=False, max_request_size=_NO_LIMIT)

    def _producer(self, **arguments: Any) -> AIOKafkaProducer:
        settings = self.settings
        producer = AIOKafkaProducer(
            bootstrap_servers=self._servers,
            acks=settings.acks,
            compression_type=None if settings.compression == "none" else settings.compression,
            linger_ms=round(settings.linger * 1000),
            **self._arguments(AIOKafkaProducer) | arguments,
        )
        internals.throttle_metadata(producer.client)
        return producer

    def consumer(
        self, group: str | None, *, reset: Literal["earliest", "latest"]
    ) -> AIOKafkaConsumer[bytes, bytes]:
        """Return a new consumer, not started; it never commits on its own.

        Args:
            group: Its group.
            reset: Where it begins in a partition whose position is unknown or gone: ``earliest``
                or ``latest``.

        """
        settings = self.settings
        poll = round(settings.max_poll_interval * 1000)
        session = round(settings.session_timeout * 1000)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._servers,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset=reset,
            session_timeout_ms=session,
            max_poll_interval_ms=poll,
            rebalance_timeout_ms=poll,
            **{"heartbeat_interval_ms": min(3000, session // 3)}
            | self._arguments(AIOKafkaConsumer),
        )
        internals.throttle_metadata(internals.client_of(consumer))
        return consumer

    def admin(self) -> AIOKafkaAdminClient:
        """Return a new admin client, not started."""
        return AIOKafkaAdminClient(
            bootstrap_servers=self._servers, **self._arguments(AIOKafkaAdminClient)
        )

    def _arguments(self, cls: Any) -> dict[str, Any]:
        common: dict[str, Any] = {"request_timeout_ms": _REQUEST_TIMEOUT_MS}
        return common | self._connection.arguments() | options_for(cls, self.settings.options)


def _check_compression(compression: str) -> None:
    """Refuse a compression whose package is not installed.

    Raises:
        MissingDependencyError: With the extra that brings it.

    """
    if compression != "none" and not getattr(codec, f"has_{compression}")():
        raise MissingDependencyError(
            "cramjam", "kafka", wanted_by=f"kafka.compression: {compression}"
        )
