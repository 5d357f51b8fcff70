"""The tree of errors."""

from __future__ import annotations

import inspect

import pytest

from pyfly_messaging import errors
from pyfly_messaging.errors import (
    AuthenticationError,
    BatchPublishError,
    BrokerError,
    BrokerUnavailableError,
    ConfigurationError,
    ContainerError,
    MessagingError,
    MissingDependencyError,
    NotStartedError,
    PublishError,
    TopologyError,
    UnroutableError,
)

TREE = {
    MessagingError: Exception,
    ConfigurationError: MessagingError,
    MissingDependencyError: MessagingError,
    ContainerError: MessagingError,
    BrokerError: MessagingError,
    NotStartedError: BrokerError,
    BrokerUnavailableError: BrokerError,
    AuthenticationError: BrokerError,
    TopologyError: BrokerError,
    PublishError: BrokerError,
    UnroutableError: PublishError,
    BatchPublishError: PublishError,
}


def test_the_tree_is_as_drawn() -> None:
    """Every error of the module stands in its docstring, below the one it inherits from."""
    found = {
        cls: cls.__bases__[0]
        for _, cls in inspect.getmembers(errors, inspect.isclass)
        if cls.__module__ == errors.__name__
    }
    assert found == TREE
    drawing = inspect.getdoc(errors) or ""
    lines = [
        line for line in drawing.splitlines() if "──" in line or line.strip() == "MessagingError"
    ]
    parents: list[tuple[int, str]] = []
    drawn: dict[str, str] = {}
    for line in lines:
        name = (
            line.replace("├", " ").replace("└", " ").replace("─", " ").replace("│", " ").split()[0]
        )
        depth = line.index(name)
        parents = [parent for parent in parents if parent[0] < depth]
        drawn[name] = parents[-1][1] if parents else "Exception"
        parents.append((depth, name))
    assert drawn == {cls.__name__: base.__name__ for cls, base in TREE.items()}


def test_configuration_errors_carry_their_diagnostics() -> None:
    """The text of a configuration error is the whole report; the diagnostics are a tuple."""
    error = ConfigurationError("the report")
    assert str(error) == "the report"
    assert error.diagnostics == ()


def test_a_missing_dependency_says_how_to_install_it() -> None:
    """The text names who needs the package, and the extra that brings it."""
    error = MissingDependencyError("aiokafka", "kafka", wanted_by="provider: kafka")
    assert str(error) == (
        "provider: kafka needs the package 'aiokafka', which is not installed:"
        ' pip install "pyfly-messaging[kafka]"'
    )
    assert (error.package, error.extra) == ("aiokafka", "kafka")


def test_not_started_is_a_runtime_error() -> None:
    """A broker that does not run says so, as the RuntimeError of the specification."""
    with pytest.raises(RuntimeError, match="Broker is not running"):
        raise NotStartedError
    assert str(NotStartedError("Broker is not running: it was stopped")).endswith("was stopped")


def test_an_unavailable_broker_has_an_address() -> None:
    """Address and number of attempts are attributes."""
    error = BrokerUnavailableError("away", address="localhost:9092", attempts=3)
    assert (str(error), error.address, error.attempts) == ("away", "localhost:9092", 3)
    assert BrokerUnavailableError("away", address="localhost:9092").attempts == 1


def test_a_batch_names_what_failed() -> None:
    """A batch that was not confirmed as a whole names each message that was not, and why."""
    failed = [(2, PublishError("too late")), (5, PublishError("too big"))]
    error = BatchPublishError(failed, 7)
    assert error.failed == tuple(failed)
    assert str(error) == "2 of 7 messages were not confirmed, at first number 2: too late"
