"""aiokafka's clients, with arguments from the settings."""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from pyfly_messaging.adapters.kafka.options import check_options, options_for
from pyfly_messaging.adapters.kafka.reach import Reach
from pyfly_messaging.adapters.kafka.redaction import redact_logs
from pyfly_messaging.adapters.repetition import quieten
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.errors import ConfigurationError
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


class Client:
    """What every connection of the adapter has in common.

    Attributes:
        settings: The ``kafka:`` section.
        address: Where the brokers are, for messages.

    Raises:
        ConfigurationError: An option that no client of aiokafka takes, or that a setting of ours
            decides; a file of ``kafka.tls`` that cannot be used.

    """

    def __init__(self, settings: KafkaSettings) -> None:
        check_options(settings.options)
        redact_logs()
        quieten(_NOISY)
        self.settings = settings
        self.address = ",".join(settings.bootstrap_servers)
        self._servers = list(settings.bootstrap_servers)
        self._connection = _connection(settings)
        self._reach = Reach(self._servers, self._connection)

    async def reach(self, deadline: Deadline) -> None:
        """Wait until a broker answers and lets us in; new clients then ask that one first.

        aiokafka itself makes one pass over the hosts, in random order, and waits for each as long
        as for any request.

        Raises:
            BrokerUnavailableError: None answered by the deadline; with the last cause.
            AuthenticationError: At once, when one does not let us in.

        """
        self._servers = [await self._reach(deadline)]

    def producer(self) -> AIOKafkaProducer:
        """Return a new producer, not started."""
        settings = self.settings
        return AIOKafkaProducer(
            bootstrap_servers=self._servers,
            acks=settings.acks,
            enable_idempotence=settings.idempotence,
            compression_type=None if settings.compression == "none" else settings.compression,
            linger_ms=round(settings.linger * 1000),
            **self._arguments(AIOKafkaProducer),
        )

    def consumer(self, group: str | None) -> AIOKafkaConsumer[bytes, bytes]:
        """Return a new consumer, not started; it never commits on its own.

        Without a group it goes to the beginning of a partition whose position is unknown or gone,
        so whoever wants the end has to seek it.
        """
        settings = self.settings
        poll = round(settings.max_poll_interval * 1000)
        session = round(settings.session_timeout * 1000)
        return AIOKafkaConsumer(
            bootstrap_servers=self._servers,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest" if group is None else settings.auto_offset_reset,
            session_timeout_ms=session,
            max_poll_interval_ms=poll,
            rebalance_timeout_ms=poll,
            **{"heartbeat_interval_ms": min(3000, session // 3)}
            | self._arguments(AIOKafkaConsumer),
        )

    def admin(self) -> AIOKafkaAdminClient:
        """Return a new admin client, not started."""
        return AIOKafkaAdminClient(
            bootstrap_servers=self._servers, **self._arguments(AIOKafkaAdminClient)
        )

    def _arguments(self, cls: Any) -> dict[str, Any]:
        common: dict[str, Any] = {"request_timeout_ms": _REQUEST_TIMEOUT_MS}
        return common | self._connection | options_for(cls, self.settings.options)


class _Connection(dict[str, Any]):
    """The arguments that say who connects, and how; with a password that nobody gets to see."""

    def __repr__(self) -> str:
        return f"<{', '.join(self)}>"


def _connection(settings: KafkaSettings) -> _Connection:
    connection = _Connection(client_id=settings.client_id)
    protocol = "SSL" if settings.tls.enabled else "PLAINTEXT"
    if settings.tls.enabled:
        try:
            connection["ssl_context"] = settings.tls.ssl_context()
        except OSError as error:
            tls = settings.tls
            files = ", ".join(str(f) for f in (tls.ca_file, tls.cert_file, tls.key_file) if f)
            raise ConfigurationError(f"kafka.tls: cannot use {files}: {error}") from error
    if settings.sasl.mechanism is not None:
        protocol = "SASL_SSL" if settings.tls.enabled else "SASL_PLAINTEXT"
        password = settings.sasl.password
        connection |= {
            "sasl_mechanism": settings.sasl.mechanism,
            "sasl_plain_username": settings.sasl.username,
            "sasl_plain_password": password.get_secret_value() if password else None,
        }
    connection["security_protocol"] = protocol
    return connection
