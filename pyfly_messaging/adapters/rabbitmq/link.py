"""A connection that is made when it is needed, and made again when it was lost."""

from __future__ import annotations

import asyncio
import logging
import random

from pyfly_messaging.adapters.rabbitmq import errors
from pyfly_messaging.adapters.rabbitmq.connection import Connection, Connector
from pyfly_messaging.errors import BrokerUnavailableError, NotStartedError

logger = logging.getLogger("pyfly_messaging.rabbitmq")

# Between two attempts to connect; the pause grows and varies by half of itself. Seconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
# For what is left of a lost connection to end. Seconds.
_FAREWELL = 5.0


class Link:
    """One connection that is made when it is needed, and made again when it was lost.

    Args:
        connector: How to connect.
        purpose: What logs and RabbitMQ's overview call it.

    Attributes:
        attempts: How often it was tried in vain since the last success.
        failure: Why, the last time.

    """

    def __init__(self, connector: Connector, purpose: str) -> None:
        self.attempts = 0
        self.failure: BrokerUnavailableError | None = None
        self._connector = connector
        self._purpose = purpose
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._closed = False
        self._careful = False

    @property
    def current(self) -> Connection | None:
        """The connection, if there is one now."""
        connection = self._connection
        return connection if connection is not None and connection.is_open else None

    def open(self) -> None:
        """Allow connections (again)."""
        self._closed = False
        self.attempts, self.failure = 0, None

    async def connection(self) -> Connection:
        """Return the connection; wait for as long as it takes to have one.

        Raises:
            AuthenticationError: The broker refused. The next call tries again.
            NotStartedError: The link was closed.

        """
        if (current := self.current) is not None:
            return current
        if self._closed:
            raise NotStartedError
        if self._connecting is None:
            self._connecting = asyncio.create_task(
                self._connect(), name=f"pyfly rabbitmq connect {self._purpose}"
            )
            self._connecting.add_done_callback(self._connected)
        connecting = self._connecting
        await asyncio.wait((connecting,))
        if connecting.cancelled():
            raise NotStartedError
        return connecting.result()

    async def close(self, timeout: float) -> None:
        """Give up connecting, and close what is open within ``timeout`` seconds."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait((self._connecting,))
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close(timeout)

    async def _connect(self) -> Connection:
        lost, pause = self._connection, _FIRST_PAUSE
        if lost is not None:
            await lost.close(_FAREWELL)
        while True:
            try:
                connection = await self._connector.open(self._purpose, careful=self._careful)
                connection.on_close(self._learn)
                return connection
            except BrokerUnavailableError as error:
                self.attempts += 1
                self.failure = error
                if errors.is_final(error):
                    raise
                varied = pause * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
                logger.warning(
                    "RabbitMQ at %s: no connection for %s at attempt %d, next in %.1f s: %s",
                    self._connector.address,
                    self._purpose,
                    self.attempts,
                    varied,
                    errors.describe(error.__cause__ or error),
                )
            await asyncio.sleep(varied)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _connected(self, connecting: asyncio.Task[Connection]) -> None:
        self._connecting = None
        if connecting.cancelled() or connecting.exception() is not None:
            return
        if self.attempts or self._connection is not None:
            logger.info("RabbitMQ at %s: connected (%s)", self._connector.address, self._purpose)
        self._connection = connecting.result()
        self.attempts, self.failure = 0, None

    def _learn(self, cause: BaseException | None) -> None:
        """Read more carefully after a connection died of a frame that the client cannot read."""
        if not self._careful and errors.is_unreadable(cause):
            self._careful = True
            logger.warning(
                "RabbitMQ at %s: the client cannot read the properties of a message (%s); from now"
                " on it goes without those that it cannot read",
                self._connector.address,
                errors.describe(cause),
            )
