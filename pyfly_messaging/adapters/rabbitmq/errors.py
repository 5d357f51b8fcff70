"""The exceptions of aio-pika, aiormq and pamqp as ours: the one place that maps them.

Three functions, for the three things that can fail: `connecting`, `declaring` and `publishing`.
Exceptions that a mistake of ours raises as well are not among `CLIENT_ERRORS`.
`KINDS` names every exception class of the clients once; a test fails when a new release brings one
that is not in it.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto

import aio_pika.exceptions as pika
import aiormq.exceptions as rmq
import pamqp.exceptions as wire

from pyfly_messaging.errors import (
    AuthenticationError,
    BrokerError,
    BrokerUnavailableError,
    MessagingError,
    NotStartedError,
    PublishError,
    TopologyError,
    UnroutableError,
)
from pyfly_messaging.logs import text_of


class Kind(Enum):
    """What an exception of a client says."""

    LOST = auto()  # no connection or channel any more, or not yet: another attempt may work
    REFUSED = auto()  # credentials, or what they allow
    TOPOLOGY = auto()  # what exists differs from what was asked for
    RETURNED = auto()  # a message that no queue takes
    NACKED = auto()  # a message that the broker did not take
    UNUSABLE = auto()  # the two sides do not understand each other


KINDS: dict[type[BaseException], Kind] = {
    OSError: Kind.LOST,
    EOFError: Kind.LOST,
    TimeoutError: Kind.LOST,
    StopAsyncIteration: Kind.LOST,  # aiormq's frame reader at the end of the stream
    asyncio.CancelledError: Kind.LOST,  # aiormq ends what waits for a broken connection with it
    asyncio.QueueEmpty: Kind.LOST,
    rmq.AMQPError: Kind.LOST,
    rmq.AMQPConnectionError: Kind.LOST,
    rmq.ConnectionClosed: Kind.LOST,
    rmq.ConnectionSyntaxError: Kind.UNUSABLE,
    rmq.ConnectionFrameError: Kind.UNUSABLE,
    rmq.ConnectionCommandInvalid: Kind.UNUSABLE,
    rmq.ConnectionChannelError: Kind.LOST,
    rmq.ConnectionUnexpectedFrame: Kind.UNUSABLE,
    rmq.ConnectionResourceError: Kind.LOST,
    rmq.ConnectionNotAllowed: Kind.REFUSED,
    rmq.ConnectionNotImplemented: Kind.UNUSABLE,
    rmq.ConnectionInternalError: Kind.LOST,
    rmq.AuthenticationError: Kind.REFUSED,
    rmq.ProbableAuthenticationError: Kind.REFUSED,
    rmq.IncompatibleProtocolError: Kind.LOST,  # also what a server says that is about to end
    rmq.ProtocolSyntaxError: Kind.LOST,
    rmq.InvalidFrameError: Kind.LOST,
    rmq.MethodNotImplemented: Kind.UNUSABLE,
    rmq.AMQPChannelError: Kind.LOST,
    rmq.ChannelInvalidStateError: Kind.LOST,
    rmq.ChannelClosed: Kind.LOST,
    rmq.ChannelAccessRefused: Kind.REFUSED,
    rmq.ChannelNotFoundEntity: Kind.TOPOLOGY,
    rmq.ChannelLockedResource: Kind.TOPOLOGY,
    rmq.ChannelPreconditionFailed: Kind.TOPOLOGY,
    rmq.DuplicateConsumerTag: Kind.LOST,
    rmq.DeliveryError: Kind.NACKED,
    rmq.PublishError: Kind.RETURNED,
    pika.MessageProcessError: Kind.LOST,
    pika.QueueEmpty: Kind.LOST,
    wire.PAMQPException: Kind.UNUSABLE,
    ssl.SSLCertVerificationError: Kind.UNUSABLE,
}

CLIENT_ERRORS = tuple(KINDS)
"""What any call of the client may raise: errors of its own, of the network and of its end."""

NO_FRAME = (ValueError, ArithmeticError, struct.error)
"""What pamqp raises besides for bytes that are no frame, and for values that no frame can carry.

Python raises these for mistakes of ours too. So they are caught around single calls of the client
that encode or decode, and nowhere else.
"""

# RabbitMQ's reply codes for credentials that it refuses, and for a virtual host that is not there
# or not allowed.
_REFUSALS = ((403,), (530,))
# Two applications with exchanges of their own, and one queue.
_OF_ANOTHER = re.compile(
    r"arg 'x-dead-letter-exchange' for queue .* received (?:the value )?'([^']+)\.dlx'.*"
    r" current is (?:the value )?'([^']+)\.dlx'"
)
# A durable classic queue whose node is down says NOT_FOUND; it comes back with the node.
_COMES_BACK = "is down or inaccessible"


def kind_of(error: BaseException) -> Kind:
    """Return what an exception of the client says."""
    if isinstance(error, rmq.ConnectionClosed) and error.args[:1] in _REFUSALS:
        return Kind.REFUSED
    if isinstance(error, rmq.ChannelNotFoundEntity) and _COMES_BACK in str(error):
        return Kind.LOST
    if isinstance(error.__cause__, ssl.SSLCertVerificationError):
        return Kind.UNUSABLE
    return next((KINDS[cls] for cls in type(error).__mro__ if cls in KINDS), Kind.LOST)


def connecting(error: BaseException, address: str, attempts: int = 1) -> BrokerError:
    """Return what an error while connecting means."""
    match kind_of(error):
        case Kind.REFUSED:
            return AuthenticationError(
                f"RabbitMQ at {address} refuses this client: {describe(error)};"
                " check the user, the password and the virtual host of rabbitmq.*, and what the"
                " user may do there"
            )
        case _:
            return unavailable(describe(error), address, attempts)


def is_final(error: BrokerError) -> bool:
    """Tell whether another attempt would meet the same refusal."""
    if not isinstance(error, BrokerUnavailableError):
        return True
    return error.__cause__ is not None and kind_of(error.__cause__) is Kind.UNUSABLE


def unavailable(reason: str, address: str, attempts: int) -> BrokerUnavailableError:
    """Return the error of a broker that cannot be reached."""
    times = f"after {attempts} attempts" if attempts > 1 else "at the first attempt"
    return BrokerUnavailableError(
        f"no connection to RabbitMQ at {address} {times}: {reason};"
        " check rabbitmq.url (or host and port), and that the broker runs",
        address=address,
        attempts=attempts,
    )


def declaring(error: BaseException, what: str, address: str) -> BrokerError:
    """Return what an error while declaring, binding or consuming means.

    RabbitMQ's text names both sides of a difference: "inequivalent arg 'x-queue-type' for queue …:
    received 'quorum' but current is 'classic'".
    """
    match kind_of(error):
        case Kind.REFUSED:
            return AuthenticationError(
                f"RabbitMQ at {address} does not allow {what}: {describe(error)};"
                " give the user the permissions configure, write and read for it"
            )
        case Kind.TOPOLOGY | Kind.UNUSABLE if (both := _OF_ANOTHER.search(str(error))) is not None:
            ours, theirs = both.groups()
            return TopologyError(
                f"RabbitMQ at {address} refuses {what}: it belongs to the exchange"
                f" {theirs!r}, and this application uses"
                f" {ours!r} (rabbitmq.exchange-name): queues are named after"
                " groups and topics, not after exchanges; use one exchange, or a virtual host for"
                " each, or other names of groups and topics"
            )
        case Kind.TOPOLOGY | Kind.UNUSABLE:
            return TopologyError(
                f"RabbitMQ at {address} refuses {what}: {describe(error)};"
                " change the settings to what exists, or delete it (its messages with it) so that"
                " it is declared anew"
            )
        case _:
            return unavailable(f"{what}: {describe(error)}", address, 1)


def publishing(error: BaseException, topic: str) -> PublishError:
    """Return what an error while publishing means."""
    match kind_of(error):
        case Kind.RETURNED:
            return UnroutableError(
                f"no queue takes messages for topic {topic!r}: no listener has declared one;"
                " start one first, or set rabbitmq.unroutable: drop"
            )
        case Kind.NACKED:
            return PublishError(f"RabbitMQ did not take the message for topic {topic!r}")
        case _:
            return PublishError(f"publish to {topic!r} failed: {describe(error)}")


def is_too_large(error: PublishError) -> bool:
    """Tell whether RabbitMQ refused a message for its size, as it will every time.

    It says "message size 17 is larger than configured max size 16" (its max_message_size).
    """
    refusal = error.__cause__
    return isinstance(refusal, rmq.ChannelPreconditionFailed) and "message size" in str(refusal)


def not_published(topic: str, error: BrokerError) -> PublishError:
    """Return the error of a publish for which there is no connection."""
    if isinstance(error, NotStartedError):
        return PublishError(f"publish to {topic!r}: the broker was stopped before it was confirmed")
    return PublishError(f"publish to {topic!r} failed: {error}")


def describe(error: BaseException) -> str:
    """Return an exception of the client as one line. None of their texts carries a password."""
    if isinstance(error, asyncio.CancelledError):
        return "the connection was lost"
    text = text_of(error.args[-1]) if error.args else ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextmanager
def mapped_call(what: str, address: str) -> Iterator[None]:
    """Turn an error of one call of the client inside into ours: of nothing but that call.

    A name that no frame can carry is refused by the client itself, and will be each time.
    """
    with mapped_declaring(what, address):
        try:
            yield
        except NO_FRAME as error:
            raise TopologyError(
                f"the client of RabbitMQ at {address} refuses {what}: {describe(error)};"
                " change its name"
            ) from error


@contextmanager
def mapped_declaring(what: str, address: str) -> Iterator[None]:
    """Turn an error of the client inside into ours."""
    try:
        yield
    except MessagingError:
        raise
    except CLIENT_ERRORS as error:
        reraise_if_cancelled(error)
        raise declaring(error, what, address) from error


def reraise_if_cancelled(error: BaseException) -> None:
    """Let the cancellation of the running task pass.

    What waits for a connection that aiormq gave up ends in a CancelledError too, without anybody
    having cancelled the task that waits.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise error
