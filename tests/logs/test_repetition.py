"""What a client library repeats is left out, and counted."""

import logging
from collections.abc import Iterator

import pytest

from pyfly_messaging.adapters.kafka import KafkaAdapter
from pyfly_messaging.adapters.rabbitmq import RabbitMQAdapter
from pyfly_messaging.logs import get_logger, quieten, repetition


@pytest.fixture
def logger(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """A logger of some client."""
    monkeypatch.setattr(repetition, "repetition", repetition._Repetition())
    logger = logging.getLogger("some.client")
    quieten(["some.client"])
    quieten(["some.client"])
    yield logger
    for each in tuple(logger.filters):
        logger.removeFilter(each)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set."""
    now = [100.0]
    monkeypatch.setattr(repetition, "monotonic", lambda: now[0])
    return now


def test_a_complaint_is_not_repeated_at_once(
    logger: logging.Logger, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """The same complaint passes once in ten seconds, and says how often it was left out."""
    for _ in range(50):
        logger.error("no connection to %s", "host")
    clock[0] += 9
    logger.error("no connection to %s", "host")
    clock[0] += 2
    logger.error("no connection to %s", "host")
    clock[0] += 11
    logger.error("no connection to %s", "host")
    assert caplog.messages == [
        "no connection to host",
        "no connection to host (and 50 times before)",
        "no connection to host",
    ]


def test_whatever_differs_passes(
    logger: logging.Logger, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """Other complaints pass, and what is no complaint always does."""
    with caplog.at_level(logging.INFO):
        for host in ("one", "other"):
            logger.warning("no connection to %s", host)
        for _ in range(2):
            logger.info("still there")
    assert caplog.messages == [
        "no connection to one",
        "no connection to other",
        "still there",
        "still there",
    ]


def test_what_passes_is_not_told(
    logger: logging.Logger, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """A complaint that mostly passes comes only when it lasts, whatever it is about."""
    quieten(["some.client"], [ConnectionResetError])
    for number in range(3):
        logger.error("no answer for %d: %s", number, ConnectionResetError())
        logger.error("no answer for %d: %s", number, ConnectionResetError)
    clock[0] += 11
    logger.error("no answer for %d: %r", 3, ConnectionResetError())
    logger.error("no answer for %d: %s", 3, ConnectionResetError())
    assert caplog.messages == []
    for number in range(3):
        clock[0] += 6
        logger.error("no answer for %d: %s", number, ConnectionResetError("at last"))
    assert caplog.messages == ["no answer for 1: at last", "no answer for 2: at last"]


def test_other_complaints_are_told_at_once(
    logger: logging.Logger, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """An error that does not pass comes at once."""
    quieten(["some.client"], [ConnectionResetError])
    logger.error("refused: %s", PermissionError("no"))
    assert caplog.messages == ["refused: no"]


def test_it_does_not_grow(
    logger: logging.Logger, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """Of very many different complaints the old ones are forgotten."""
    for number in range(1_000):
        logger.warning("no connection to %d", number)
    each = logger.filters[0]
    assert isinstance(each, repetition._Repetition)
    assert len(each._passed) <= 200
    assert len(caplog.messages) == 1_000


@pytest.mark.parametrize("name", ["delivery", "kafka.messages", "rabbitmq.messages"])
def test_what_can_come_for_every_message_comes_once(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The same warning of ours comes once in a while, safe as every line of ours."""
    ours = get_logger(f"pyfly_messaging.{name}")
    for _ in range(100):
        ours.warning("queue %s is not declared: %s", "orders", ValueError("one\ntwo"))
    assert caplog.messages == ["queue orders is not declared: one\\ntwo"]


@pytest.mark.parametrize("name", ["kafka", "rabbitmq"])
def test_listeners_of_one_name_have_a_line_each(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What is said of a consumer is said of each, although its name may be that of another."""
    for _ in range(3):
        get_logger(f"pyfly_messaging.{name}").warning("listener %s is not consumed", "hear")
    assert caplog.messages == ["listener hear is not consumed"] * 3


@pytest.mark.parametrize("name", ["aiokafka.conn", "aiormq.connection", "aiormq.channel"])
def test_loggers_of_clients_are_safe(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever makes an adapter has the loggers of its client made safe."""
    KafkaAdapter()
    RabbitMQAdapter()
    logging.getLogger(name).error("unexpected %r of %s", b"x" * 100_000, "\x1b[31m")
    (text,) = caplog.messages
    assert len(text) < 2_100
    assert "\x1b" not in text


def test_what_a_client_logs_is_safe(
    logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    """A client passes on what its broker says; that is escaped and cut as our own lines are."""
    logger.error("closed: %s", "\x1b[31m" + "x" * 1_000_000)
    (text,) = caplog.messages
    assert text.startswith("closed: \\x1b[31mxxx")
    assert len(text) < 2_100
