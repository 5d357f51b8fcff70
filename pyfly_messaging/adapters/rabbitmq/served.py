"""The topics of one queue: their routes, and the lanes that their messages run in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pyfly_messaging.delivery.lanes import Batch, Lanes, lanes_for

if TYPE_CHECKING:
    from pyfly_messaging.delivery.routing import Route
    from pyfly_messaging.message import Message


class Served:
    """One topic: its lanes, and those that come after them.

    Lanes are for one channel and one concurrency. When either ends, the handlers that run in them
    finish before the next lanes begin, and what arrives meanwhile waits: so the order holds, no
    more handlers run than there may, and none twice at once for a message that is delivered again.
    Other topics of the queue go on.

    Args:
        route: The handlers.
        on_idle: Called when nothing of the topic is in work.
        patience: Seconds for a handler whose channel has ended; after them it is cancelled.

    """

    def __init__(self, route: Route, on_idle: Callable[[], None], patience: float) -> None:
        self.route = route
        self._on_idle = on_idle
        self._patience = patience
        self._lanes = self._made()
        self._before: Lanes | None = None  # whose handlers still run
        self._again = False  # whether what they do not settle goes on in the next lanes
        self._change: asyncio.Task[None] | None = None
        self._waiting: list[Batch[int]] = []
        self._settle: Callable[[int], None] | None = None

    @property
    def in_flight(self) -> int:
        """Messages that arrived and are not settled; those that come again are not among them."""
        before = self._before.in_flight if self._before is not None and self._again else 0
        return before + self._lanes.in_flight + sum(len(b.messages) for b in self._waiting)

    def submit(
        self, messages: Sequence[Message], tags: Sequence[int], settle: Callable[[int], None]
    ) -> None:
        """Take messages that arrived together."""
        self._settle = settle
        batch = Batch(self.route, messages, tags, settle)
        if self._change is None:
            self._lanes.submit(batch)
        else:
            self._waiting.append(batch)

    def widen(self) -> None:
        """Have room for as many handlers as the route wants now, once those that run are done."""
        if self._lanes.closed or self.route.concurrency <= self._concurrency:
            return
        if self._change is None:
            self._replace(again=True)
        else:
            self._lanes = self._made()

    def abandon(self) -> None:
        """Forget what is not settled: it comes again on another channel."""
        self._waiting.clear()
        if not self._lanes.closed and (self._change is None or self._again):
            self._replace(again=False)

    def close(self) -> None:
        """Begin nothing more."""
        self._lanes.close()
        self._waiting.clear()
        if self._change is not None:
            self._change.cancel()

    async def drain(self, timeout: float, caller: asyncio.Task[Any] | None) -> None:
        """Close; let running handlers finish for ``timeout`` seconds, then cancel them."""
        self.close()
        lanes = [each for each in (self._before, self._lanes) if each is not None]
        await asyncio.gather(*(each.drain(timeout, caller=caller) for each in lanes))

    def _made(self) -> Lanes:
        self._concurrency = self.route.concurrency
        return lanes_for(self.route.name, self._concurrency, self._on_idle)

    def _replace(self, *, again: bool) -> None:
        if self._change is not None:
            self._change.cancel()
        else:
            before, self._lanes = self._lanes, self._made()
            before.close()
            if not before.in_flight:
                return
            self._before = before
        assert self._before is not None  # noqa: S101 - it is there while there is a change
        self._again = again
        self._change = asyncio.create_task(
            self._hand_over(self._before), name=f"pyfly listener {self.route.name} lanes"
        )

    async def _hand_over(self, before: Lanes) -> None:
        """Wait for the handlers of the lanes before, then begin in the next ones."""
        unsettled = await before.drain(None if self._again else self._patience)
        self._before = self._change = None
        waiting, self._waiting = self._waiting, []
        if self._again and unsettled and self._settle is not None:
            messages, tags = zip(*unsettled, strict=True)
            self._lanes.submit(Batch(self.route, messages, tags, self._settle))
        for batch in waiting:
            self._lanes.submit(batch)


class Topics:
    """What a queue is consumed for, from one start to the next stop.

    Args:
        on_idle: Called when nothing of any topic is in work.
        patience: Seconds for a handler whose channel has ended.
        source_of: Returns the topic whose dead letters a topic carries, if it does.

    Attributes:
        served: The topics, by name.
        dead_letters: The topics that carry dead letters, by whose they are.

    """

    def __init__(
        self,
        on_idle: Callable[[], None],
        patience: float,
        source_of: Callable[[str], str | None],
    ) -> None:
        self.served: dict[str, Served] = {}
        self.dead_letters: dict[str, str] = {}
        self._on_idle = on_idle
        self._patience = patience
        self._source_of = source_of

    @property
    def group(self) -> str | None:
        """The group that they have in common."""
        return next((served.route.group for served in self.served.values()), None)

    def in_flight(self, topic: str) -> int:
        """Return how many messages of a topic are in work."""
        served = self.served.get(topic)
        return 0 if served is None else served.in_flight

    def serve(self, route: Route) -> bool:
        """Have lanes for a route, as many as it wants now; tell whether it is a new one."""
        if (served := self.served.get(route.topic)) is not None:
            served.widen()
            return False
        self.served[route.topic] = Served(route, self.tell_idle, self._patience)
        if (source := self._source_of(route.topic)) is not None:
            self.dead_letters[source] = route.topic
        return True

    def forget(self, topic: str) -> None:
        """Take out a topic that could not be consumed, if it is there."""
        if (served := self.served.pop(topic, None)) is not None:
            served.close()

    def abandon(self) -> None:
        """Forget what is not settled: it comes again on another channel."""
        for served in self.served.values():
            served.abandon()

    def close(self) -> None:
        """Begin nothing more."""
        for served in self.served.values():
            served.close()

    async def drain(self, timeout: float, caller: asyncio.Task[Any] | None) -> None:
        """Let running handlers finish for ``timeout`` seconds, then cancel them."""
        await asyncio.gather(*(s.drain(timeout, caller) for s in tuple(self.served.values())))

    def tell_idle(self) -> None:
        """Call ``on_idle`` if nothing is in work."""
        if not any(served.in_flight for served in self.served.values()):
            self._on_idle()
