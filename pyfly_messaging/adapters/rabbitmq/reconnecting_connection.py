"""A connection that is made when it is needed, and made again when it was lost."""

from __future__ import annotations

import asyncio

from pyfly_messaging.adapters.rabbitmq import errors
from pyfly_messaging.adapters.rabbitmq.connection import Connection, Connector
from pyfly_messaging.delivery.backoff import Backoff
from pyfly_messaging.errors import BrokerError, NotStartedError
from pyfly_messaging.logs import get_logger

logger = get_logger("pyfly_messaging.rabbitmq")

# Between two attempts to connect.
_BACKOFF = Backoff(first=0.1, longest=5.0)
# For what is left of a lost connection to end. Seconds.
_CLOSE_TIMEOUT_S = 5.0


class ReconnectingConnection:
    """One connection that is made when it is first needed, and made again whenever it is lost.

    Once there was a connection it is tried for as long as it takes, whatever the broker answers: it
    may refuse for a while, during an upgrade or a change of passwords.

    Args:
        connector: How to connect.
        purpose: What logs and RabbitMQ's overview call it.

    Attributes:
        attempts: How often it was tried in vain since the last success.
        failure: Why, the last time.

    """

    def __init__(self, connector: Connector, purpose: str) -> None:
        self.attempts = 0
        self.failure: BrokerError | None = None
        self._connector = connector
        self._purpose = purpose
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._closed = True

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
            AuthenticationError: The broker refused, and there never was a connection.
            BrokerUnavailableError: The same, and another attempt would not help.
            NotStartedError: It was closed.

        """
        if (current := self.current) is not None:
            return current
        if self._closed:
            raise NotStartedError
        connecting = self._connecting or self._begin()
        await asyncio.wait((connecting,))
        if connecting.cancelled():
            raise NotStartedError
        return connecting.result()

    async def close(self, timeout: float) -> None:
        """Give up connecting, and close what is open within ``timeout`` seconds."""
        self._closed = True
        connection, self._connection = self._connection, None
        if (connecting := self._connecting) is not None:
            connecting.cancel()
            await asyncio.wait((connecting,))
            if not connecting.cancelled() and connecting.exception() is None:
                connection = connecting.result()  # it came at the same moment
        if connection is not None:
            await connection.close(timeout)

    def _begin(self) -> asyncio.Task[Connection]:
        self._connecting = asyncio.create_task(
            self._connect(), name=f"pyfly rabbitmq connect {self._purpose}"
        )
        self._connecting.add_done_callback(self._connected)
        return self._connecting

    async def _connect(self) -> Connection:
        lost = self._connection
        if lost is not None:
            await lost.close(_CLOSE_TIMEOUT_S)
        while True:
            try:
                connection = await self._connector.open(self._purpose)
            except BrokerError as error:
                self.attempts += 1
                self.failure = error
                if lost is None and errors.is_final(error):
                    raise
                pause = _BACKOFF.pause(self.attempts)
                logger.warning(
                    "RabbitMQ at %s: no connection for %s at attempt %d, next in %.1f s: %s",
                    self._connector.address,
                    self._purpose,
                    self.attempts,
                    pause,
                    errors.describe(error.__cause__ or error),
                )
            else:
                connection.on_close(self._lost)
                return connection
            await asyncio.sleep(pause)

    def _connected(self, connecting: asyncio.Task[Connection]) -> None:
        self._connecting = None
        if connecting.cancelled() or connecting.exception() is not None or self._closed:
            return
        if self.attempts or self._connection is not None:
            logger.info("RabbitMQ at %s: connected (%s)", self._connector.address, self._purpose)
        self._connection = connecting.result()
        self.attempts, self.failure = 0, None

    def _lost(self, _: BaseException | None) -> None:
        """Connect again."""
        if not self._closed and self._connecting is None:
            self._begin()
