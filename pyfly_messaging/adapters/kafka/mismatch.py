"""Why a broker hangs up while a client connects: TLS or SASL on one side only.

Kafka closes the connection without a word, and a client that only tries again never learns why.
Each question here is asked in the other way of speaking; an answer is the proof.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl

from aiokafka.conn import create_conn
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.admin import SaslHandShakeRequest

from pyfly_messaging.adapters.kafka.closing import hang_up
from pyfly_messaging.adapters.kafka.connection import Connection
from pyfly_messaging.errors import AuthenticationError

_TIMEOUT = 2.0


async def find_mismatch(
    host: str, port: int, connection: Connection, error: BaseException
) -> BaseException | None:
    """Return what a failed attempt to connect comes from, when the settings are the reason.

    Args:
        host: The host that was asked.
        port: Its port.
        connection: Who connected, and how.
        error: What the attempt raised.

    """
    if (failed := _tls_error(error)) is not None and _is_verdict(failed):
        return failed
    if isinstance(error, IllegalSaslStateError):
        reason: str | None = "does not ask who connects on this port: remove kafka.sasl.*"
    elif isinstance(error, UnsupportedSaslMechanismError):
        reason = "does not offer this way to identify oneself: set another kafka.sasl.mechanism"
    elif _hung_up(error):
        try:
            async with asyncio.timeout(_TIMEOUT):
                reason = await _ask_otherwise(host, port, connection)
        except (OSError, KafkaError):
            return None  # no answer this way either: it is not the settings
    else:
        return None
    if reason is None:
        return None
    mismatch = AuthenticationError(f"Kafka at {host}:{port} {reason}")
    mismatch.__cause__ = error
    return mismatch


async def _ask_otherwise(host: str, port: int, connection: Connection) -> str | None:
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


def _is_verdict(error: ssl.SSLError) -> bool:
    """Tell whether one side has refused the other's certificate, cipher or version."""
    return isinstance(error, ssl.SSLCertVerificationError) or "ALERT" in (error.reason or "")


def _hung_up(error: BaseException) -> bool:
    return isinstance(error, KafkaConnectionError | ConnectionResetError | ssl.SSLError | EOFError)


async def _answers_in_plain(host: str, port: int) -> bool:
    try:
        await hang_up(await create_conn(host, port, security_protocol="PLAINTEXT"))
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
        return isinstance(error, ssl.SSLError) and _is_verdict(error)
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
        await hang_up(conn)
    return list(answer.enabled_mechanisms)
