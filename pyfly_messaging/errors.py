"""The errors of the library, all below one root.

::

    MessagingError
    ├── ConfigurationError        .diagnostics; str() is the report
    ├── MissingDependencyError    names the extra to install and the setting that asked for it
    ├── ContainerError            a bean that is missing, ambiguous or needs itself: names the chain
    └── BrokerError
        ├── NotStartedError           also a RuntimeError
        ├── BrokerUnavailableError    redacted address, attempts, last cause
        ├── AuthenticationError
        ├── TopologyError             what exists against what was asked for
        └── PublishError
            ├── UnroutableError
            └── BatchPublishError     .failed: which of several messages, and why

Exceptions of a client library never leave an adapter: each adapter maps them in one place and
chains the original as ``__cause__``. Wrong arguments are ``TypeError`` and ``ValueError`` as
everywhere in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic


class MessagingError(Exception):
    """The root of all errors of this library."""


class ConfigurationError(MessagingError):
    """The configuration is wrong; nothing was connected.

    Attributes:
        diagnostics: Every problem found, in the order of the report.

    """

    def __init__(self, report: str, diagnostics: Sequence[Diagnostic] = ()) -> None:
        super().__init__(report)
        self.diagnostics: tuple[Diagnostic, ...] = tuple(diagnostics)


class MissingDependencyError(MessagingError):
    """A package that an extra installs is needed and not there.

    Attributes:
        package: The import name that was not found.
        extra: The extra of pyfly-messaging that brings it.

    """

    def __init__(self, package: str, extra: str, *, wanted_by: str) -> None:
        super().__init__(
            f"{wanted_by} needs the package {package!r}, which is not installed:"
            f' pip install "pyfly-messaging[{extra}]"'
        )
        self.package = package
        self.extra = extra


class ContainerError(MessagingError):
    """A bean cannot be made: its dependency is missing, ambiguous, or needs the bean itself."""


class BrokerError(MessagingError):
    """Something between this process and the broker failed."""


class NotStartedError(BrokerError, RuntimeError):
    """The broker is not running: before ``start()``, or after ``stop()``."""

    def __init__(self, message: str = "Broker is not running: call start() first") -> None:
        super().__init__(message)


class BrokerUnavailableError(BrokerError):
    """No connection within the deadline.

    Attributes:
        address: Where the broker was looked for, without credentials.
        attempts: How often a connection was tried.

    """

    def __init__(self, message: str, *, address: str, attempts: int = 1) -> None:
        super().__init__(message)
        self.address = address
        self.attempts = attempts


class AuthenticationError(BrokerError):
    """The broker refused the credentials, or what they are allowed to do."""


class TopologyError(BrokerError):
    """What the broker has differs from what the settings ask for."""


class PublishError(BrokerError):
    """A publish was not confirmed. Whether the broker took the message may be unknown."""


class UnroutableError(PublishError):
    """No queue takes the message (RabbitMQ, ``rabbitmq.unroutable: raise``)."""


class BatchPublishError(PublishError):
    """Some of several messages were not confirmed; the others were.

    Attributes:
        failed: Position in the batch (from 0) and error of each message that was not confirmed.

    """

    def __init__(self, failed: Sequence[tuple[int, BaseException]], size: int) -> None:
        first, error = failed[0]
        super().__init__(
            f"{len(failed)} of {size} messages were not confirmed, at first number {first}: {error}"
        )
        self.failed: tuple[tuple[int, BaseException], ...] = tuple(failed)
