"""What both kinds of lanes share: the bound on what is in flight, and the drain."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.ending import end_task
from pyfly_messaging.delivery.handling import is_waited_for
from pyfly_messaging.delivery.lanes.batch import Batch
from pyfly_messaging.delivery.lanes.workers import Workers
from pyfly_messaging.logs import get_logger
from pyfly_messaging.message import Message

logger = get_logger("pyfly_messaging.delivery")


class Lanes(ABC):
    """Messages in flight, and the workers that handle them.

    Args:
        name: What logs and task names call the listener.
        concurrency: Handlers at once.
        on_idle: Called when everything that was submitted is settled.

    Attributes:
        in_flight: Messages that were submitted and are not settled.
        closed: Whether nothing more is begun.
        context: The context variables that handlers see: those of the code that made the lanes, not
            of the code that submits.

    """

    def __init__(
        self, name: str, concurrency: int, on_idle: Callable[[], None] | None = None
    ) -> None:
        self.name = name
        self.in_flight = 0
        self.closed = False
        self.context = copy_context()
        self._on_idle = on_idle
        self._handed_back = False
        self._workers = Workers(self, concurrency)
        self._room = asyncio.Event()
        self._room_below = 0  # the highest number that `room` waits to fall below

    @abstractmethod
    def submit(self, batch: Batch[Any]) -> None:
        """Take a batch; its messages are in flight until they are settled. Never blocks."""

    async def room(self, below: int, timeout: float | None = None) -> bool:
        """Wait until fewer than ``below`` messages are in flight, or the lanes are closed.

        Returns:
            False when ``timeout`` (seconds) passed before.

        """
        try:
            async with asyncio.timeout(timeout):
                while self.in_flight >= below and not self.closed:
                    self._room_below = max(self._room_below, below)
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            return self.in_flight < below or self.closed
        return True

    async def drain(
        self,
        timeout: float | Deadline | None = None,
        *,
        caller: asyncio.Task[Any] | None = None,
    ) -> list[tuple[Message, Any]]:
        """Close; let running handlers finish; cancel those that still run after ``timeout``.

        What waits, for its turn or for another attempt, is not begun. When this has returned no
        handler runs, but for one that calls it itself, be it through other tasks. That one cannot
        be waited for: its message is handed back with the others, and settled no more.

        Args:
            timeout: For running handlers: seconds, a deadline, or None to wait as long as they
                take.
            caller: The task that wants the drain; the current one, unless that acts for another.

        Returns:
            The messages that are not settled, each with its token, in order.

        """
        self.close()
        running = self._running(caller or asyncio.current_task())
        if running:
            if isinstance(timeout, Deadline):
                running = await timeout.wait(running)
            else:
                _, running = await asyncio.wait(running, timeout=timeout)
        if await end_task(*running):
            logger.critical("listener %s: a handler ignores its cancellation", self.name)
        self._handed_back = True
        return list(self._unsettled())

    def close(self) -> None:
        """Begin nothing more."""
        self.closed = True
        self._room.set()
        self._workers.wake_all()

    def _running(self, caller: asyncio.Task[Any] | None) -> set[asyncio.Future[Any]]:
        return {task for task in self._workers.tasks if task is not caller and is_waited_for(task)}

    @abstractmethod
    def _unsettled(self) -> Iterator[tuple[Message, Any]]:
        """Yield what is in flight, in the order in which it came."""

    @abstractmethod
    def has_work(self) -> bool:
        """Tell whether there is something that a worker could begin."""

    @abstractmethod
    async def work(self, cancelling: Callable[[], int]) -> None:
        """Handle what there is until the lanes are closed, or the worker's task is cancelled.

        A handler can cancel the task and return before that has an effect; the next one must not
        pay for it.

        Args:
            cancelling: Tells how often the worker's task was cancelled.

        """

    def _leaves_flight(self) -> None:
        self.in_flight -= 1
        if self.in_flight < self._room_below:
            self._room_below = 0
            self._room.set()
        if not self.in_flight and self._on_idle is not None:
            self._on_idle()
