"""Connecting: the arguments of all clients, the bootstrap connection, and why a broker hangs up."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from typing import Any

from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.admin import SaslHandShakeRequest
from aiokafka.protocol.metadata import MetadataRequest

from pyfly_messaging.adapters.kafka import errors
from pyfly_messaging.adapters.kafka.redaction import drop_secret_frames
from pyfly_messaging.adapters.kafka.shutdown import close_connection
from pyfly_messaging.delivery.backoff import Backoff
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.errors import AuthenticationError, BrokerError, ConfigurationError
from pyfly_messaging.logs import get_logger
from pyfly_messaging.settings import KafkaSettings

logger = get_logger("pyfly_messaging.kafka")

# Between two rounds over all hosts, and the longest wait for the hosts of one round.
_BACKOFF = Backoff(first=0.1, longest=2.0)
_ROUND_TIMEOUT_S = 10.0
# For all probes after one failed attempt. Seconds.
_PROBE_TIMEOUT_S = 2.0


class BootstrapConnection:
    """Asks all hosts at once, round after round, until one takes the connection.

    Args:
        servers: ``host:port`` of each.
        connection: The arguments of the connection.

    """

    def __init__(self, servers: Sequence[str], connection: Connection) -> None:
        self._servers = tuple(servers)
        self._connection = connection
        self._address = ",".join(servers)

    async def __call__(self, deadline: Deadline) -> str:
        """Return the first server that accepts the connection.

        Raises:
            BrokerUnavailableError: None did by the deadline; with the last cause.
            AuthenticationError: At once, when one refuses the credentials.

        """
        attempts = 0
        while True:
            attempts += 1
            answer = await self._ask_all(max(0.1, deadline.left(at_most=_ROUND_TIMEOUT_S)))
            if isinstance(answer, str):
                return answer
            pause = _BACKOFF.pause(attempts)
            if errors.is_final(answer) or deadline.left() <= pause:
                if isinstance(answer, BrokerError):
                    raise answer
                raise errors.connecting(answer, self._address, attempts) from answer
            logger.info("Kafka at %s: %s; trying again", self._address, errors.describe(answer))
            await asyncio.sleep(pause)

    async def _ask_all(self, timeout: float) -> str | BaseException:
        """Return the first server that accepts the connection, or why the last one did not."""
        asked = {
            asyncio.create_task(self._ask(server, timeout), name=f"pyfly kafka bootstrap {server}")
            for server in self._servers
        }
        pending = asked
        cause: BaseException | None = None
        try:
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    answer = task.result()
                    if isinstance(answer, str) or errors.is_final(answer):
                        return answer
                    cause = answer
        finally:
            for task in asked:
                task.cancel()
            await asyncio.wait(asked)
        return cause or OSError("no host to ask")

    async def _ask(self, server: str, timeout: float) -> str | BaseException:
        """Ask one host; return its name, or why it does not accept the connection."""
        host, _, port = server.rpartition(":")
        host = host.strip("[]")
        try:
            # The broker answers this only after authentication.
            await ask(server, self._connection, MetadataRequest([]), timeout)
        except (OSError, KafkaError) as error:
            drop_secret_frames(error)
            return await probe_security(host, int(port), self._connection, error) or error
        return server


async def ask(server: str, connection: Connection, request: Any, timeout: float) -> Any:
    """Return what a broker answers to one request, on a connection of its own.

    Args:
        server: ``host:port``.
        connection: The arguments of the connection.
        request: The request.
        timeout: Seconds for all of it.

    Raises:
        OSError, KafkaError: No answer, or no connection.

    """
    host, _, port = server.rpartition(":")
    async with asyncio.timeout(timeout):
        conn: AIOKafkaConnection = await create_conn(
            host.strip("[]"),
            int(port),
            request_timeout_ms=round(timeout * 1000),
            **connection.arguments(),
        )
        try:
            return await conn.send(request)
        finally:
            await close_connection(conn)


class Connection:
    """The arguments that all of aiokafka's clients and connections have in common.

    Args:
        settings: The ``kafka:`` section.

    Attributes:
        protocol: ``PLAINTEXT``, ``SSL``, ``SASL_PLAINTEXT`` or ``SASL_SSL``.

    Raises:
        ConfigurationError: A file of ``kafka.tls`` that cannot be used.

    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._ssl_context = None
        self.protocol = "SSL" if settings.tls.enabled else "PLAINTEXT"
        if settings.tls.enabled:
            try:
                self._ssl_context = settings.tls.ssl_context()
            except OSError as error:
                tls = settings.tls
                files = ", ".join(str(f) for f in (tls.ca_file, tls.cert_file, tls.key_file) if f)
                raise ConfigurationError(f"kafka.tls: cannot use {files}: {error}") from error
        if settings.sasl.mechanism is not None:
            self.protocol = "SASL_SSL" if settings.tls.enabled else "SASL_PLAINTEXT"

    def arguments(self) -> dict[str, Any]:
        """Return the arguments, to be passed on at once: the password is among them.

        A variable that holds them would show it to whatever prints the local variables of a
        traceback.
        """
        sasl = self._settings.sasl
        return {
            "client_id": self._settings.client_id,
            "security_protocol": self.protocol,
            **({"ssl_context": self._ssl_context} if self._ssl_context else {}),
            **(
                {
                    "sasl_mechanism": sasl.mechanism,
                    "sasl_plain_username": sasl.username,
                    "sasl_plain_password": sasl.password and sasl.password.get_secret_value(),
                }
                if sasl.mechanism
                else {}
            ),
        }


async def probe_security(
    host: str, port: int, connection: Connection, error: BaseException
) -> BaseException | None:
    """Return what a failed attempt to connect comes from, when the settings are the reason.

    Kafka closes the connection without a word when TLS or SASL is on one side only, and a client
    that only tries again never learns why. Each probe speaks the other way; an answer is the proof.

    Args:
        host: The host that was asked.
        port: Its port.
        connection: Who connected, and how.
        error: What the attempt raised.

    """
    if (failed := _tls_error(error)) is not None and _is_tls_refusal(failed):
        return failed
    if isinstance(error, IllegalSaslStateError):
        reason: str | None = "does not ask who connects on this port: remove kafka.sasl.*"
    elif isinstance(error, UnsupportedSaslMechanismError):
        reason = "does not offer this way to identify oneself: set another kafka.sasl.mechanism"
    elif _hung_up(error):
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                reason = await _probe(host, port, connection)
        except (OSError, KafkaError):
            return None  # no answer this way either: it is not the settings
    else:
        return None
    if reason is None:
        return None
    refusal = AuthenticationError(f"Kafka at {host}:{port} {reason}")
    refusal.__cause__ = error
    return refusal


async def _probe(host: str, port: int, connection: Connection) -> str | None:
    """Return what the broker does and the settings do not, or the reverse."""
    protocol = connection.protocol
    if protocol.endswith("SSL"):
        if await _answers_in_plain(host, port):
            return (
                "does not use TLS, the settings do: set kafka.tls.enabled: false, or"
                " kafka.bootstrap-servers to its TLS port"
            )
    elif await _speaks_tls(host, port):
        return "uses TLS, the settings do not: set kafka.tls.enabled: true"
    if not protocol.startswith("SASL") and (offered := await _sasl_of(host, port, connection)):
        return (
            f"wants to know who connects: set kafka.sasl.mechanism to {' or '.join(offered)},"
            " and kafka.sasl.username and .password"
        )
    return None


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """Return the TLS error that an error is, or that it comes from."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _is_tls_refusal(error: ssl.SSLError) -> bool:
    """Tell whether one side has refused the other's certificate, cipher or version."""
    return isinstance(error, ssl.SSLCertVerificationError) or "ALERT" in (error.reason or "")


def _hung_up(error: BaseException) -> bool:
    return isinstance(error, KafkaConnectionError | ConnectionResetError | ssl.SSLError | EOFError)


async def _answers_in_plain(host: str, port: int) -> bool:
    try:
        await close_connection(await create_conn(host, port, security_protocol="PLAINTEXT"))
    except (OSError, KafkaError):
        return False
    return True


async def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        _, writer = await asyncio.open_connection(host, port, ssl=context)
    except OSError as error:
        return isinstance(error, ssl.SSLError) and _is_tls_refusal(error)
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def _sasl_of(host: str, port: int, connection: Connection) -> list[str]:
    """Return the SASL mechanisms that a broker offers."""
    conn = await create_conn(host, port, **connection.arguments())
    try:
        answer = await conn.send(SaslHandShakeRequest("PLAIN"))
    finally:
        await close_connection(conn)
    return list(answer.enabled_mechanisms)
