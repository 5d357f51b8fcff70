"""The clients' exceptions are mapped, all of them, in one place."""

import asyncio
import ssl
import struct
from collections.abc import Iterator
from types import ModuleType
from unittest.mock import patch

import aio_pika.exceptions
import aiormq.exceptions
import pamqp.exceptions
import pytest
from aiormq import spec
from yarl import URL

from pyfly_messaging.adapters.rabbitmq import errors
from pyfly_messaging.adapters.rabbitmq.errors import KINDS, Kind
from pyfly_messaging.adapters.rabbitmq.internals import Client, Transports
from pyfly_messaging.errors import (
    AuthenticationError,
    BrokerError,
    BrokerUnavailableError,
    NotStartedError,
    PublishError,
    TopologyError,
    UnroutableError,
)

ADDRESS = "amqp://guest:******@localhost/"


def classes(*modules: ModuleType) -> Iterator[type[BaseException]]:
    for module in modules:
        for thing in vars(module).values():
            if isinstance(thing, type) and issubclass(thing, BaseException):
                yield thing


def test_every_exception_of_the_clients_is_mapped() -> None:
    """No class of exceptions of aio-pika and aiormq is missing from the table."""
    known = set(classes(aio_pika.exceptions, aiormq.exceptions))
    assert known - set(KINDS) == set()


def test_what_the_wire_format_raises_is_mapped() -> None:
    """Every exception of pamqp is caught, by itself or by its base."""
    for cls in classes(pamqp.exceptions):
        assert issubclass(cls, errors.CLIENT_ERRORS)


def test_text_of_a_client_is_escaped_and_cut() -> None:
    """What the broker says arrives in errors, health and log as one short line."""
    error = aiormq.exceptions.ChannelClosed(404, "\x1b[31mno queue\nERROR" + "x" * 1_000_000)
    text = errors.describe(error)
    assert text.startswith("ChannelClosed: \\x1b[31mno queue\\nERRORxxx")
    assert len(text) < 1_100


@pytest.mark.parametrize("cls", KINDS)
def test_whatever_a_client_raises_becomes_one_of_ours(cls: type[BaseException]) -> None:
    """Each exception becomes an error of ours wherever it is raised, even without arguments."""
    error = cls.__new__(cls)
    assert isinstance(errors.connecting(error, ADDRESS), BrokerError)
    assert isinstance(errors.declaring(error, "the queue 'q'", ADDRESS), BrokerError)
    assert isinstance(errors.publishing(error, "orders"), PublishError)
    assert "\n" not in errors.describe(error)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(111, "Connect call failed"), BrokerUnavailableError),
        (aiormq.exceptions.ProbableAuthenticationError("ACCESS_REFUSED"), AuthenticationError),
        (aiormq.exceptions.ConnectionClosed(530, "vhost x not found"), AuthenticationError),
        (aiormq.exceptions.ConnectionClosed(403, "ACCESS_REFUSED"), AuthenticationError),
        (aiormq.exceptions.ConnectionClosed(320, "shutdown"), BrokerUnavailableError),
        (aiormq.exceptions.IncompatibleProtocolError("?"), BrokerUnavailableError),
    ],
)
def test_what_goes_wrong_while_connecting(
    error: BaseException, expected: type[BrokerError]
) -> None:
    """A refusal is told from a broker that is not there, and both say what to check."""
    mapped = errors.connecting(error, ADDRESS, 3)
    assert type(mapped) is expected
    assert ADDRESS in str(mapped)
    assert "check" in str(mapped)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (aiormq.exceptions.ChannelPreconditionFailed("inequivalent arg"), TopologyError),
        (aiormq.exceptions.ChannelLockedResource("exclusive"), TopologyError),
        (aiormq.exceptions.ChannelNotFoundEntity("no exchange"), TopologyError),
        (
            aiormq.exceptions.ChannelNotFoundEntity("queue 'q' is down or inaccessible"),
            BrokerUnavailableError,
        ),
        (aiormq.exceptions.ChannelAccessRefused("no"), AuthenticationError),
        (aiormq.exceptions.AMQPConnectionError("lost"), BrokerUnavailableError),
        (TimeoutError(), BrokerUnavailableError),
        (asyncio.CancelledError(), BrokerUnavailableError),
    ],
)
def test_what_goes_wrong_while_declaring(error: BaseException, expected: type[BrokerError]) -> None:
    """A difference, a missing permission and a lost connection are told from each other."""
    mapped = errors.declaring(error, "the queue 'q'", ADDRESS)
    assert type(mapped) is expected
    assert "the queue 'q'" in str(mapped)


def test_what_goes_wrong_while_publishing() -> None:
    """A returned message is unroutable, a nack says that the broker did not take it."""
    returned = aiormq.exceptions.PublishError.__new__(aiormq.exceptions.PublishError)
    assert type(errors.publishing(returned, "orders")) is UnroutableError
    nack = aiormq.exceptions.DeliveryError(None, spec.Basic.Nack())
    assert "did not take" in str(errors.publishing(nack, "orders"))
    late = errors.not_published("orders", NotStartedError())
    assert "stopped" in str(late)


def test_a_certificate_that_is_refused_is_final() -> None:
    """A refused certificate is not tried again, an unreachable broker is."""
    refused = aiormq.exceptions.AMQPConnectionError("certificate verify failed")
    refused.__cause__ = ssl.SSLCertVerificationError()
    for cause, final in ((refused, True), (ConnectionRefusedError(), False)):
        error = errors.connecting(cause, ADDRESS)
        assert isinstance(error, BrokerUnavailableError)
        error.__cause__ = cause
        assert errors.is_final(error) is final


async def test_a_cancellation_is_told_from_a_lost_connection() -> None:
    """A CancelledError of the client's own is an error; that of the running task passes."""
    with pytest.raises(BrokerUnavailableError), errors.mapped_declaring("a channel", ADDRESS):
        raise asyncio.CancelledError

    async def waits() -> None:
        with errors.mapped_declaring("a channel", ADDRESS):
            await asyncio.Event().wait()

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled()


def test_our_own_errors_pass() -> None:
    """What is already an error of ours stays what it is."""
    with pytest.raises(NotStartedError), errors.mapped_declaring("a channel", ADDRESS):
        raise NotStartedError


def test_kinds_are_all_used() -> None:
    """Every kind stands for something that a client can say."""
    assert set(KINDS.values()) == set(Kind)


@pytest.mark.parametrize("cls", [RuntimeError, ValueError, ZeroDivisionError, KeyError, TypeError])
def test_a_mistake_of_ours_is_no_error_of_the_client(cls: type[Exception]) -> None:
    """What any code may raise passes as it is, and is not taken for a broker that is away."""
    assert not issubclass(cls, errors.CLIENT_ERRORS)
    with pytest.raises(cls), errors.mapped_declaring("the queue 'q'", ADDRESS):
        raise cls("a mistake")


@pytest.mark.parametrize("cls", [ValueError, OverflowError, struct.error])
def test_a_name_that_no_frame_can_carry_is_refused_for_good(cls: type[Exception]) -> None:
    """What the client refuses to encode is an error of the topology: no attempt follows."""
    with (
        pytest.raises(TopologyError, match="refuses the exchange 'a b'"),
        errors.mapped_call("the exchange 'a b'", ADDRESS),
    ):
        raise cls("Invalid value")


async def test_a_closed_connection_opens_no_channel() -> None:
    """Opening a channel on a connection that is closed is an error of the client, not of ours."""
    client = Client(URL("amqp://localhost/"), Transports(encrypted=False))
    with patch.object(Client, "is_closed", True), pytest.raises(errors.CLIENT_ERRORS):
        await client.channel()
