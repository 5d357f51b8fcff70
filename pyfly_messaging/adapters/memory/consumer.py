"""The delivery to the handlers of one (topic, group)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pyfly_messaging.adapters.memory.inline import InlineLane
from pyfly_messaging.adapters.memory.publication import Publication
from pyfly_messaging.adapters.memory.within import batch_of
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.lanes import Lanes, lanes_for
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.health import ConsumerHealth
from pyfly_messaging.message import Message


class Consumer:
    """The lanes of one (topic, group), and what they had not settled at the last stop.

    Attributes:
        run: Handles a message of a publish in the given task: inline if that can be, otherwise
            queued as by `submit`.

    """

    def __init__(self, route: Route) -> None:
        self._route = route
        self._lanes: Lanes | None = None
        self._backlog: list[tuple[Message, Publication]] = []
        self.run: Callable[[Message, Publication, asyncio.Task[Any]], None] = self._queue

    def start(self) -> None:
        """Deliver from now on, the backlog first."""
        if self._route.concurrency == 1:
            lane = InlineLane(self._route)
            # Not a method that looks which it is: that call would cost 2 % of a publish.
            self._lanes, self.run = lane, lane.run
        else:
            self._lanes = lanes_for(self._route.name, self._route.concurrency)
        backlog, self._backlog = self._backlog, []
        for message, publication in backlog:
            self._lanes.submit(batch_of(message, publication, self._route))

    async def stop(self, deadline: Deadline, caller: asyncio.Task[Any] | None) -> None:
        """Drain; keep what is not settled."""
        if self._lanes is not None:
            self._backlog = await self._lanes.drain(deadline, caller=caller)
            self._lanes, self.run = None, self._queue

    def health(self) -> ConsumerHealth:
        """Return how it is."""
        lanes = self._lanes
        return ConsumerHealth(
            name=self._route.name,
            topic=self._route.topic,
            group=self._route.group,
            state="stopped" if lanes is None else "running",
            in_flight=len(self._backlog) if lanes is None else lanes.in_flight,
        )

    def submit(self, message: Message, publication: Publication) -> None:
        """Queue a message."""
        publication.pending += 1
        if self._lanes is None:
            self._backlog.append((message, publication))
        else:
            self._lanes.submit(batch_of(message, publication, self._route))

    def _queue(self, message: Message, publication: Publication, task: asyncio.Task[Any]) -> None:
        self.submit(message, publication)
