"""The tasks that handle the messages in lanes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Protocol, cast

from pyfly_messaging.delivery.handling import handling
from pyfly_messaging.logs import describe, get_logger

logger = get_logger("pyfly_messaging.delivery")

# The pause before a worker whose task was cancelled is replaced: long enough that nothing is
# started any more when it is the whole event loop that is being torn down. Seconds.
_REPLACE_AFTER = 0.05


class Workers:
    """Tasks that are hired when there is work, wait for more, and are replaced when cancelled.

    Args:
        lanes: Whose work they do.
        places: How many there are at most.

    Attributes:
        tasks: Those that there are.

    """

    def __init__(self, lanes: Work, places: int) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self._lanes = lanes
        self._places = places
        self._idle: deque[asyncio.Future[None]] = deque()

    def call(self) -> None:
        """Wake or hire a worker if there is work and a free place."""
        if self._lanes.closed or not self._lanes.has_work():
            return
        if self._idle:
            self._wake()
        elif len(self.tasks) < self._places:
            self._hire()

    def wake_all(self) -> None:
        """Wake all idle workers."""
        while self._idle:
            self._wake()

    async def sit_idle(self) -> None:
        """Wait, as one of the workers, until there is something to do."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._idle:  # this worker cannot be woken any more
                self._idle.remove(waiter)
            raise

    def _wake(self) -> None:
        waiter = self._idle.popleft()
        if not waiter.done():
            waiter.set_result(None)

    def _hire(self) -> None:
        task = asyncio.create_task(
            self._work(),
            name=f"pyfly listener {self._lanes.name}",
            context=self._lanes.context.copy(),
        )
        self.tasks.add(task)
        task.add_done_callback(self._leave)

    async def _work(self) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        handling.set(task)
        await self._lanes.work(task.cancelling)

    def _leave(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The traceback comes with what becomes of the message, once.
            logger.error("listener %s: its worker failed: %s", self._lanes.name, describe(error))
        if not self._lanes.closed:
            # The handler cancelled the task that ran it. Its message has become a failed attempt.
            task.get_loop().call_later(_REPLACE_AFTER, self.call)


class Work(Protocol):
    """What workers know of their lanes."""

    @property
    def name(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    @property
    def context(self) -> Context: ...

    def has_work(self) -> bool:
        """Tell whether there is something that a worker could begin."""
        ...

    async def work(self, cancelling: Callable[[], int]) -> None:
        """Do what there is to do."""
        ...
