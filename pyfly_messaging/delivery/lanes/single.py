"""One lane for everything: a concurrency of 1."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from pyfly_messaging.delivery.handling import handling, is_waited_for
from pyfly_messaging.delivery.lanes.batch import Batch
from pyfly_messaging.delivery.lanes.guest import Guest
from pyfly_messaging.delivery.lanes.interrupted import Interrupted
from pyfly_messaging.delivery.lanes.lanes import Lanes
from pyfly_messaging.delivery.settlement import Retry
from pyfly_messaging.message import Message


class SingleLane(Lanes):
    """One message at a time, in the order in which they came.

    Whoever has a single message can visit the idle lane and run the message himself, in his own
    task: while nothing is ``in_flight`` and the lane is not ``closed``, he sets ``in_flight`` to 1
    and ``visited``, and calls `leave` afterwards. What is submitted meanwhile waits.

    Attributes:
        visited: Whether somebody does.
        guest: Who it is, once he has to wait for something and others run, who may `drain`.

    """

    def __init__(self, name: str, on_idle: Callable[[], None] | None = None) -> None:
        super().__init__(name, 1, on_idle)
        self.context.run(handling.set, self)  # for visits; a worker names itself
        self.guest: Guest | None = None
        self.visited = False
        self._batches: deque[Batch[Any]] = deque()
        self._position = 0  # in the first batch
        self._retry: Retry | None = None  # what to go on with at that position
        self._pausing: asyncio.Future[None] | None = None

    def submit(self, batch: Batch[Any]) -> None:
        self._batches.append(batch)
        self.in_flight += len(batch.messages)
        self._workers.call()

    def put_back(self, batch: Batch[Any], retry: Retry | None) -> None:
        """Take over the message of a guest that has not settled it; before `leave`."""
        self._batches.appendleft(batch)
        self._retry = retry
        self.in_flight += 1

    def leave(self) -> None:
        """Give a visited lane back."""
        self.visited = False
        if self.guest is not None:
            _finish(self.guest.left)
            self.guest = None
        self._leaves_flight()
        if self._batches:
            self._workers.call()

    def close(self) -> None:
        super().close()
        if self._pausing is not None:
            _finish(self._pausing)

    def _running(self, caller: asyncio.Task[Any] | None) -> set[asyncio.Future[Any]]:
        running = super()._running(caller)
        guest = self.guest
        if guest is not None and guest.task is not caller and is_waited_for(self):
            running.add(guest.left)
        return running

    def _interrupt(self, running: asyncio.Future[Any]) -> None:
        if self.guest is not None and running is self.guest.left:
            self.guest.interrupt()
        else:
            running.cancel()

    def _unsettled(self) -> Iterator[tuple[Message, Any]]:
        position = self._position
        for batch in self._batches:
            yield from zip(batch.messages[position:], batch.tokens[position:], strict=True)
            position = 0

    def has_work(self) -> bool:
        return bool(self._batches) and not self.visited

    async def work(self, cancelling: Callable[[], int]) -> None:
        while not self.closed and not cancelling():
            if not self.has_work():
                await self._workers.sit_idle()
            elif await self._run(self._batches[0], cancelling):
                self._batches.popleft()
                self._position = 0

    async def _run(self, batch: Batch[Any], cancelling: Callable[[], int]) -> bool:
        """Handle a batch from where it stands; False when that has to end on the way."""
        attempt, settle, messages, tokens = (
            batch.run.attempt,
            batch.settle,
            batch.messages,
            batch.tokens,
        )
        retry, self._retry = self._retry, None
        try:
            for position in range(self._position, len(messages)):
                self._position = position
                if self.closed or cancelling():
                    return False
                if retry is None:
                    retry = await attempt(messages[position])
                while retry is not None:
                    self._retry = retry  # for whoever goes on if this worker does not
                    if cancelling() or not await self._pause(retry.delay):
                        return False
                    self._retry = None
                    retry = await retry()
                if self._handed_back:
                    return False
                settle(tokens[position])
                self._leaves_flight()
        except BaseException as error:
            if self._retry is None:
                self._retry = Interrupted(batch.run, messages[self._position], retry, error)
            raise
        return True

    async def _pause(self, delay: float) -> bool:
        """Wait ``delay`` seconds before the next attempt; False when the lanes were closed."""
        if self.closed:
            return False
        if delay <= 0:
            return True
        loop = asyncio.get_running_loop()
        self._pausing = loop.create_future()
        timer = loop.call_later(delay, _finish, self._pausing)
        try:
            await self._pausing
        finally:
            timer.cancel()
            self._pausing = None
        return not self.closed


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
