"""The client's connection, with what it lacks: it writes no faster than the network takes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiormq

if TYPE_CHECKING:
    from aiormq import spec
    from yarl import URL

    from pyfly_messaging.adapters.rabbitmq.transports import Transports

from pyfly_messaging.logs import get_logger

logger = get_logger("pyfly_messaging.rabbitmq")


class Outbox(asyncio.Queue[Any]):
    """What the client is about to write, while the network takes it.

    aiormq 7.2 writes on without waiting for the network: into memory, without end. And what waits
    for room here does not notice the end of the connection.
    """

    def __init__(self, transports: Transports, size: int) -> None:
        super().__init__(size)
        self._transports = transports
        self._ended = False

    async def put(self, item: Any) -> None:
        await super().put(item)
        if self._ended:
            self.end()

    async def get(self) -> Any:
        if self._transports.is_congested:
            await self._transports.drained()
        return await super().get()

    def end(self) -> None:
        """Let go whoever waits for room, from now on: nothing is written any more."""
        self._ended = True
        while not self.empty():
            self.get_nowait()


class Client(aiormq.Connection):
    """The client's connection, which also says whether RabbitMQ takes nothing at the moment.

    aiormq 7.2 notes that it is blocked, and keeps that to itself. If a later release has no such
    methods any more, it never seems blocked, and publishes end at their timeout.

    Attributes:
        blocked: Why RabbitMQ takes nothing, or None.
        unblocked: Set while it takes what comes.

    """

    def __init__(self, url: URL, transports: Transports, **kwargs: Any) -> None:
        super().__init__(url, transport_factory=transports, **kwargs)
        self.write_queue = outbox = Outbox(transports, self.FRAME_BUFFER_SIZE)
        self.blocked: str | None = None
        self.unblocked = asyncio.Event()
        self.unblocked.set()
        self._closing.add_done_callback(lambda _: self.unblocked.set())
        self._closing.add_done_callback(lambda _: outbox.end())

    async def _Connection__handle_connection_blocked(  # noqa: N802 - the client's method
        self, frame: spec.Connection.Blocked
    ) -> None:
        self.blocked = frame.reason or "it does not say why"
        self.unblocked.clear()
        logger.warning("RabbitMQ takes no messages, publishing waits: %s", self.blocked)

    async def _Connection__handle_connection_unblocked(  # noqa: N802 - the client's method
        self, frame: spec.Connection.Unblocked
    ) -> None:
        self.blocked = None
        self.unblocked.set()
        logger.info("RabbitMQ takes messages again")

    def heard_of_since(self, moment: float) -> bool:
        """Tell whether anything came from the broker since a moment of the loop's clock."""
        return bool(getattr(self, "_Connection__last_frame_time", moment) > moment)
