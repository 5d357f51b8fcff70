"""What every test may ask for: real brokers, found or installed on first use.

A test that asks for one is marked `kafka` or `rabbitmq`, so `-m "not kafka and not rabbitmq"` is
the fast run. Where a broker cannot be had the test is skipped with the reason; in CI it fails.
"""

import os
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import TypeVar, Unpack

import pytest

from pyfly_messaging.logs import repetition
from tests.brokers import (
    KafkaCluster,
    KafkaFactory,
    KafkaOptions,
    NotAvailable,
    ProxyFactory,
    RabbitCluster,
    RabbitFactory,
    RabbitOptions,
    TcpProxy,
)
from tests.brokers.shared import Shared, shared_kafka, shared_rabbitmq

_MARKS = {
    "kafka": "kafka",
    "kafka_cluster": "kafka",
    "rabbitmq": "rabbitmq",
    "rabbit_cluster": "rabbitmq",
}

_KAFKA = pytest.StashKey[Shared[KafkaCluster]]()
_RABBITMQ = pytest.StashKey[Shared[RabbitCluster]]()

ResultT = TypeVar("ResultT")


@pytest.fixture(autouse=True)
def _log_is_new() -> None:
    """No warning of a test is left out because an earlier one had it."""
    repetition.repetition.forget()


@pytest.fixture(scope="session")
def no_broker_starts(request: pytest.FixtureRequest) -> None:
    """Wait for brokers that are starting: a test might take one for something left behind."""
    request.config.stash[_KAFKA].settled()
    request.config.stash[_RABBITMQ].settled()


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest, no_broker_starts: None) -> KafkaCluster:
    """The run's one Kafka node, shared by all tests: use names of your own, and do not kill it."""
    return _or_skip(request.config.stash[_KAFKA].get)


@pytest.fixture(scope="session")
def rabbitmq(request: pytest.FixtureRequest, no_broker_starts: None) -> RabbitCluster:
    """The run's one RabbitMQ node, shared by all tests: use names of your own; do not kill it."""
    return _or_skip(request.config.stash[_RABBITMQ].get)


@pytest.fixture
def kafka_cluster() -> Iterator[KafkaFactory]:
    """A function that starts a private Kafka of 1 or 3 nodes, which a test may kill."""
    with ExitStack() as stack:

        def start(nodes: int = 1, **options: Unpack[KafkaOptions]) -> KafkaCluster:
            options.setdefault("brief", True)
            cluster = KafkaCluster(nodes, **options)
            return _or_skip(lambda: stack.enter_context(cluster))

        yield start


@pytest.fixture
def rabbit_cluster() -> Iterator[RabbitFactory]:
    """A function that starts a private RabbitMQ of 1 or 3 nodes, which a test may kill."""
    with ExitStack() as stack:

        def start(nodes: int = 1, **options: Unpack[RabbitOptions]) -> RabbitCluster:
            cluster = RabbitCluster(nodes, **options)
            return _or_skip(lambda: stack.enter_context(cluster))

        yield start


@pytest.fixture
async def tcp_proxy() -> AsyncIterator[ProxyFactory]:
    """A coroutine function that starts a proxy, by which a test may cut a connection."""
    async with AsyncExitStack() as stack:

        async def start(target: str | None = None) -> TcpProxy:
            return await stack.enter_async_context(TcpProxy(target))

        yield start


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_KAFKA] = shared_kafka()
    config.stash[_RABBITMQ] = shared_rabbitmq()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by the brokers that it asks for, before `-m` chooses by the marks."""
    for item in items:
        for name in getattr(item, "fixturenames", ()):
            if mark := _MARKS.get(name):
                item.add_marker(mark)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the shared brokers that the chosen tests will ask for, both at once."""
    if session.config.option.collectonly:
        return
    for item in session.items:
        asked = getattr(item, "fixturenames", ())
        if "kafka" in asked or (item.get_closest_marker("kafka") and "kafka_cluster" not in asked):
            session.config.stash[_KAFKA].begin()
        if "rabbitmq" in asked or (
            item.get_closest_marker("rabbitmq") and "rabbit_cluster" not in asked
        ):
            session.config.stash[_RABBITMQ].begin()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count the skip of a broker test as a failure in CI: skips are for laptops."""
    report = yield
    needs_broker = any(item.iter_markers("kafka")) or any(item.iter_markers("rabbitmq"))
    if report.skipped and needs_broker and _in_ci() and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"a broker test may not be skipped in CI: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter: "pytest.TerminalReporter") -> None:
    """Say which brokers were really used."""
    stash = terminalreporter.config.stash
    used = [each for each in (stash[_KAFKA].description, stash[_RABBITMQ].description) if each]
    if used:
        terminalreporter.write_line(f"brokers: {', '.join(used)}")


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_KAFKA].stop()
    config.stash[_RABBITMQ].stop()


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def _or_skip(start: Callable[[], ResultT]) -> ResultT:
    try:
        return start()
    except NotAvailable as missing:
        if _in_ci():
            pytest.fail(f"{missing}; in CI the brokers are not optional", pytrace=False)
        pytest.skip(str(missing))
