"""One lane for everything: a concurrency of 1."""

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


class SingleLane(Lanes):
    """One message at a time, in the order in which they came."""

    def __init__(self, name: str, on_idle: Callable[[], None] | None = None) -> None:
        super().__init__(name, 1, on_idle)
        self._batches: deque[Batch[Any]] = deque()
        self._position = 0  # in the first batch
        self._retry: Retry | None = None  # what to go on with at that position
        self._pausing: asyncio.Future[None] | None = None

    def submit(self, batch: Batch[Any]) -> None:
        self._batches.append(batch)
        self.in_flight += len(batch.messages)
        self._workers.call()

    def put_first(self, batch: Batch[Any], retry: Retry | None) -> None:
        """Take a message that is in flight already, before all others.

        Args:
            batch: With this one message.
            retry: The step to begin with; None for the first attempt.

        """
        self._batches.appendleft(batch)
        self._position, self._retry = 0, retry
        self._workers.call()

    def retry_first(self, retry: Retry | None) -> None:
        """Say which step comes next for the message that `put_first` has taken."""
        self._retry = retry

    def settle_first(self) -> None:
        """Settle the message that `put_first` has taken, unless it was handed back."""
        if not self._handed_back:
            (token,) = (batch := self._batches.popleft()).tokens
            batch.settle(token)
            self._leaves_flight()

    def close(self) -> None:
        super().close()
        if self._pausing is not None:
            _finish(self._pausing)

    def _unsettled(self) -> Iterator[tuple[Message, Any]]:
        position = self._position
        for batch in self._batches:
            yield from zip(batch.messages[position:], batch.tokens[position:], strict=True)
            position = 0

    def has_work(self) -> bool:
        return bool(self._batches)

    async def work(self, cancelling: Callable[[], int]) -> None:
        while not self.closed and not cancelling():
            if not self.has_work():
                await self.wait_for_work()
            elif await self._run(self._batches[0], cancelling):
                self._batches.popleft()
                self._position = 0

    async def wait_for_work(self) -> None:
        """Wait, as the worker, until there is something to do."""
        await self._workers.sit_idle()

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
                    self._retry = retry  # for the next worker, if this one ends here
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
