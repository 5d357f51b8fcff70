"""Wait until a broker answers and lets us in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from pyfly_messaging.adapters.kafka import errors
from pyfly_messaging.adapters.kafka.closing import hang_up
from pyfly_messaging.adapters.kafka.connection import Connection
from pyfly_messaging.adapters.kafka.mismatch import find_mismatch
from pyfly_messaging.adapters.kafka.redaction import drop_secret_frames
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.errors import BrokerError
from pyfly_messaging.logs import get_logger

logger = get_logger("pyfly_messaging.kafka")

# Between two rounds over all hosts, and the longest wait for the hosts of one round. Seconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_ROUND = 10.0


class Reach:
    """Asks all hosts at once, round after round, until one takes the connection.

    Args:
        servers: ``host:port`` of each.
        connection: Who connects, and how.

    """

    def __init__(self, servers: Sequence[str], connection: Connection) -> None:
        self._servers = tuple(servers)
        self._connection = connection
        self._address = ",".join(servers)

    async def __call__(self, deadline: Deadline) -> str:
        """Return the first server that lets us in.

        Raises:
            BrokerUnavailableError: None did by the deadline; with the last cause.
            AuthenticationError: At once, when one refuses us.

        """
        attempts, pause = 0, _FIRST_PAUSE
        while True:
            attempts += 1
            answer = await self._ask_all(max(0.1, deadline.left(at_most=_ROUND)))
            if isinstance(answer, str):
                return answer
            if errors.is_final(answer) or deadline.left() <= pause:
                if isinstance(answer, BrokerError):
                    raise answer
                raise errors.connecting(answer, self._address, attempts) from answer
            logger.info("Kafka at %s: %s; trying again", self._address, errors.describe(answer))
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _ask_all(self, timeout: float) -> str | BaseException:
        """Return the first server that lets us in, or else why the last one did not."""
        asked = {
            asyncio.create_task(self._ask(server, timeout), name=f"pyfly kafka reach {server}")
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
        """Ask one host; return its name, or why it does not let us in."""
        host, _, port = server.rpartition(":")
        host = host.strip("[]")
        try:
            # What only a client is told that the broker has let in.
            await ask(server, self._connection, MetadataRequest([]), timeout)
        except (OSError, KafkaError) as error:
            drop_secret_frames(error)
            return await find_mismatch(host, int(port), self._connection, error) or error
        return server


async def ask(server: str, connection: Connection, request: Any, timeout: float) -> Any:
    """Return what a broker answers to one request, on a connection of its own.

    Args:
        server: ``host:port``.
        connection: Who connects, and how.
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
            await hang_up(conn)
