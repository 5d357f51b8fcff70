"""The topics of one queue: their routes, and the lanes that their messages run in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pyfly_messaging.delivery.lanes import Batch, Lanes, lanes_for

if TYPE_CHECKING:
    from pyfly_messaging.delivery.deadline import Deadline
    from pyfly_messaging.delivery.routing import Route
    from pyfly_messaging.message import Message


class TopicLanes:
    """One route: its lanes, and those that come after them.

    Lanes are for one channel and one concurrency. When either ends, the handlers that run in them
    finish before the next lanes begin, and what arrives meanwhile waits: so the order holds, no
    more handlers run than there may, and none twice at once for a message that is delivered again.
    Other routes of the queue go on.

    Args:
        route: The handlers.
        on_idle: Called when nothing of the route is in work.
        grace_period: Seconds for a handler whose channel has ended; after them it is cancelled.

    """

    def __init__(self, route: Route, on_idle: Callable[[], None], grace_period: float) -> None:
        self.route = route
        self._on_idle = on_idle
        self._grace_period = grace_period
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

    async def drain(self, deadline: Deadline, caller: asyncio.Task[Any] | None) -> None:
        """Close; let running handlers finish until the deadline, then cancel them."""
        self.close()
        lanes = [each for each in (self._before, self._lanes) if each is not None]
        await asyncio.gather(*(each.drain(deadline, caller=caller) for each in lanes))

    async def give_up(self) -> list[int]:
        """Close, and cancel running handlers; return the tags of what is not settled."""
        waiting = [tag for batch in self._waiting for tag in batch.tokens]
        before, again = self._before, self._again
        self.close()
        of_before = [] if before is None else await before.drain(0)
        unsettled = await self._lanes.drain(0)
        if again:  # else they were another channel's
            unsettled = of_before + unsettled
        return [tag for _, tag in unsettled] + waiting

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
        unsettled = await before.drain(None if self._again else self._grace_period)
        self._before = self._change = None
        waiting, self._waiting = self._waiting, []
        if self._again and unsettled and self._settle is not None:
            messages, tags = zip(*unsettled, strict=True)
            self._lanes.submit(Batch(self.route, messages, tags, self._settle))
        for batch in waiting:
            self._lanes.submit(batch)


class _Shares:
    """Counts who has settled the messages that several listeners get; the last one settles them.

    Args:
        settle: Settles a message.

    """

    def __init__(self, settle: Callable[[int], None]) -> None:
        self._settle = settle
        self._left: dict[int, int] = {}

    def expect(self, tags: Sequence[int], listeners: int) -> None:
        """Take messages that so many listeners get."""
        self._left |= dict.fromkeys(tags, listeners)

    def __contains__(self, tag: int) -> bool:
        return tag in self._left

    def settle(self, tag: int) -> None:
        """Note that one of the listeners has settled a message."""
        self._left[tag] -= 1
        if not self._left[tag]:
            del self._left[tag]
            self._settle(tag)


class Topics:
    """What a queue is consumed for, from one start to the next stop.

    A topic has one route; without a group it has one for each handler, which all get its messages.

    Args:
        grace_period: Seconds for a handler whose channel has ended.
        source_of: Returns the topic whose dead letters a topic carries, if it does.

    Attributes:
        lanes: Those of each topic, one for each of its routes.
        on_idle: Called when nothing of any topic is in work; what acknowledges sets it.

    """

    def __init__(
        self,
        grace_period: float,
        source_of: Callable[[str], str | None],
    ) -> None:
        self.lanes: dict[str, list[TopicLanes]] = {}
        self.on_idle: Callable[[], None] | None = None
        self._grace_period = grace_period
        self._source_of = source_of
        self._shares: dict[str, _Shares] = {}  # of the topics with several routes

    @property
    def group(self) -> str | None:
        """The group that they have in common."""
        return next((lanes.route.group for lanes in self._all()), None)

    def in_flight(self, route: Route) -> int:
        """Return how many messages of a route are in work."""
        lanes = self._lanes_of(route)
        return 0 if lanes is None else lanes.in_flight

    def add(self, route: Route) -> None:
        """Have lanes for a route, as many as it wants now."""
        if (lanes := self._lanes_of(route)) is not None:
            lanes.widen()
            return
        lanes = TopicLanes(route, self.tell_idle, self._grace_period)
        self.lanes.setdefault(route.topic, []).append(lanes)

    def of_dead_letters(self, source: str) -> str | None:
        """Return the topic that carries the dead letters of another one, if it is consumed."""
        return next((topic for topic in self.lanes if self._source_of(topic) == source), None)

    def submit(
        self,
        topic: str,
        messages: Sequence[Message],
        tags: Sequence[int],
        settle: Callable[[int], None],
    ) -> None:
        """Take messages of a topic that arrived together on one channel."""
        first, *others = self.lanes[topic]
        if others:
            shares = self._shares.get(topic)
            if shares is None:
                shares = self._shares[topic] = _Shares(settle)
            shares.expect(tags, 1 + len(others))
            settle = shares.settle
        for lanes in others:
            lanes.submit([message.with_own_headers() for message in messages], tags, settle)
        first.submit(messages, tags, settle)

    async def forget(self, route: Route) -> list[int]:
        """Take out a route that could not be consumed, if it is there.

        Requeue:
            The tags of what only it had in work.

        """
        if (lanes := self._lanes_of(route)) is None:
            return []
        self.lanes[route.topic].remove(lanes)
        if not self.lanes[route.topic]:
            del self.lanes[route.topic]
        shares = self._shares.get(route.topic)
        mine = []
        for tag in await lanes.give_up():
            if shares is not None and tag in shares:
                shares.settle(tag)
            else:
                mine.append(tag)
        return mine

    def abandon(self) -> None:
        """Forget what is not settled: it comes again on another channel."""
        self._shares.clear()
        for lanes in self._all():
            lanes.abandon()

    def close(self) -> None:
        """Begin nothing more."""
        for lanes in self._all():
            lanes.close()

    async def drain(self, deadline: Deadline, caller: asyncio.Task[Any] | None) -> None:
        """Let running handlers finish until the deadline, then cancel them."""
        await asyncio.gather(*(lanes.drain(deadline, caller) for lanes in self._all()))

    def tell_idle(self) -> None:
        """Call ``on_idle`` if nothing is in work."""
        if self.on_idle is not None and not any(lanes.in_flight for lanes in self._all()):
            self.on_idle()

    def _lanes_of(self, route: Route) -> TopicLanes | None:
        of_topic = self.lanes.get(route.topic, ())
        return next((lanes for lanes in of_topic if lanes.route is route), None)

    def _all(self) -> list[TopicLanes]:
        return [lanes for of_topic in self.lanes.values() for lanes in of_topic]
