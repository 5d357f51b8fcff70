"""The base of adapters that read in a loop: a `Broker` with a `Reader` for each route."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from pyfly_messaging.delivery.broker import Broker
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.reader import Reader
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.health import ConsumerHealth
from pyfly_messaging.policy import ListenerPolicy, Timeouts


class ReadingBroker(Broker):
    """A broker with one `Reader` for each route.

    An adapter adds how to connect (`_open`), disconnect (`_disconnect`), send (`_send`), and which
    reader a route has (`_reader`).
    """

    def __init__(
        self,
        *,
        timeouts: Timeouts | None = None,
        policy: ListenerPolicy | None = None,
        on_spent: Callable[[BaseException], None] | None = None,
    ) -> None:
        super().__init__(timeouts=timeouts, policy=policy, on_spent=on_spent)
        self._readers: dict[Route, Reader] = {}

    @abstractmethod
    def _reader(self, route: Route) -> Reader:
        """Return a reader for a route, not started. It serves all later starts, too."""

    @abstractmethod
    async def _disconnect(self) -> None:
        """Close what `_open` has opened, however far it came; the readers have ended."""

    def _wake(self, topic: str) -> None:
        """Let the readers of a topic look for messages now."""
        for route, reader in self._readers.items():
            if route.topic == topic:
                reader.wake()

    async def _listen(self, route: Route, deadline: Deadline) -> None:
        if route not in self._readers:
            self._readers[route] = self._reader(route)
        await self._readers[route].start()

    async def _unlisten(self, route: Route) -> None:
        if (reader := self._readers.pop(route, None)) is not None:
            await reader.stop(Deadline(0))

    async def _close(self, deadline: Deadline, caller: asyncio.Task[Any] | None) -> None:
        stops = (reader.stop(deadline, caller) for reader in self._readers.values())
        try:
            await asyncio.gather(*stops)
        finally:
            await self._disconnect()

    def _health_of(self, route: Route) -> ConsumerHealth:
        reader = self._readers.get(route)
        return super()._health_of(route) if reader is None else reader.health()
