"""A lane for each key, and several handlers at once: a concurrency of more than 1."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from pyfly_messaging.delivery.lanes.batch import Batch
from pyfly_messaging.delivery.lanes.interrupted import Interrupted
from pyfly_messaging.delivery.lanes.lanes import Lanes
from pyfly_messaging.delivery.settlement import Retry
from pyfly_messaging.message import Message


class KeyedLanes(Lanes):
    """Several messages at once; those with the same key one after the other.

    Args:
        name: What logs and task names call the listener.
        concurrency: Handlers at once.
        on_idle: Called when everything that was submitted is settled.

    """

    def __init__(
        self, name: str, concurrency: int, on_idle: Callable[[], None] | None = None
    ) -> None:
        super().__init__(name, concurrency, on_idle)
        self._deliveries: dict[_Delivery, None] = {}  # in flight, in order
        self._by_key: dict[bytes, _Lane] = {}
        self._ready: deque[_Lane] = deque()  # lanes whose first message can be handled now
        self._waiting: dict[int, asyncio.TimerHandle] = {}  # lanes between two attempts, by id

    def submit(self, batch: Batch[Any]) -> None:
        for message, token in zip(batch.messages, batch.tokens, strict=True):
            delivery = _Delivery(batch, message, token)
            self._deliveries[delivery] = None
            self.in_flight += 1
            lane = None if message.key is None else self._by_key.get(message.key)
            if lane is not None:
                lane.append(delivery)
                continue
            lane = deque((delivery,))
            if message.key is not None:
                self._by_key[message.key] = lane
            self._make_ready(lane)

    def close(self) -> None:
        super().close()
        for timer in self._waiting.values():
            timer.cancel()
        self._waiting.clear()

    def _unsettled(self) -> Iterator[tuple[Message, Any]]:
        return ((delivery.message, delivery.token) for delivery in self._deliveries)

    def _make_ready(self, lane: _Lane) -> None:
        self._waiting.pop(id(lane), None)
        self._ready.append(lane)
        self._workers.call()

    def has_work(self) -> bool:
        return bool(self._ready)

    async def work(self, cancelling: Callable[[], int]) -> None:
        while not self.closed and not cancelling():
            if self._ready:
                await self._advance(self._ready.popleft())
            else:
                await self._workers.sit_idle()

    async def _advance(self, lane: _Lane) -> None:
        """Run the next attempt of a lane's first message."""
        delivery = lane[0]
        run, message, retry = delivery.batch.run, delivery.message, delivery.retry
        try:
            outcome = await (run.attempt(message) if retry is None else retry())
            if self._handed_back:
                return
            if outcome is None:
                delivery.batch.settle(delivery.token)
        except BaseException as error:
            delivery.retry = Interrupted(run, message, retry, error)
            self._ready.append(lane)
            raise
        if outcome is None:
            self._pass(lane)
        else:
            self._wait(lane, outcome)

    def _wait(self, lane: _Lane, retry: Retry) -> None:
        """Let others have the place until a lane's next attempt."""
        lane[0].retry = retry
        if retry.delay <= 0:
            self._ready.append(lane)
        elif not self.closed:
            loop = asyncio.get_running_loop()
            self._waiting[id(lane)] = loop.call_later(retry.delay, self._make_ready, lane)

    def _pass(self, lane: _Lane) -> None:
        """Go on to a lane's next message, the first one being settled."""
        delivery = lane.popleft()
        del self._deliveries[delivery]
        self._leaves_flight()
        if lane:
            self._ready.append(lane)
        elif delivery.message.key is not None:
            del self._by_key[delivery.message.key]


class _Delivery:
    """One message in keyed lanes."""

    __slots__ = ("batch", "message", "retry", "token")

    def __init__(self, batch: Batch[Any], message: Message, token: Any) -> None:
        self.batch = batch
        self.message = message
        self.token = token
        self.retry: Retry | None = None


_Lane = deque[_Delivery]
