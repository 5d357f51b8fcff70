"""The base of a consumer that reads in a loop: when it reads, begins again, and ends."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from typing import Any

from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.ending import end_task
from pyfly_messaging.delivery.lanes import Batch, Lanes, lanes_for
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.delivery.uninterrupted import uninterrupted
from pyfly_messaging.errors import BrokerError, NotStartedError
from pyfly_messaging.health import ConsumerHealth, ConsumerState
from pyfly_messaging.logs import get_logger

logger = get_logger("pyfly_messaging.delivery")


class Reader(ABC):
    """Reads the messages of one route as room appears, until it is stopped.

    After an error it begins again, and `health` says why it is not running. An adapter adds how to
    begin, to read, to acknowledge and to end.

    Args:
        route: Where the messages go.
        in_flight: Messages that it holds, unsettled, at most.
        interval: Seconds between two reads that find nothing, and before it begins again.

    """

    def __init__(self, route: Route, *, in_flight: int, interval: float) -> None:
        self.route = route
        self._in_flight = in_flight
        self._interval = interval
        self._news = asyncio.Event()
        self._turn = asyncio.Lock()
        self._stops = 0
        self._error: str | None = None
        self._lanes: Lanes | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to read, unless it does already.

        Raises:
            BrokerError: From the first `_begin`.
            NotStartedError: It was stopped meanwhile.

        """
        stops = self._stops
        async with self._turn:
            if stops != self._stops:
                raise NotStartedError
            if self._task is None:
                self._news = asyncio.Event()  # the one before may be another event loop's
                try:
                    ours = await self._begin()
                except asyncio.CancelledError:  # it may have claimed something nevertheless
                    await uninterrupted(self._give_back())
                    raise
                name = f"pyfly read {self.route.name}"
                self._task = asyncio.create_task(self._run(ours), name=name)

    async def stop(self, deadline: Deadline, caller: asyncio.Task[Any] | None = None) -> None:
        """Begin no more handlers, read no more, drain, acknowledge, and end.

        Args:
            deadline: Until when running handlers may finish.
            caller: The task that wants the stop; see `Lanes.drain`.

        """
        self._stops += 1
        async with self._turn:
            try:
                if self._task is not None:
                    await self._stop(self._task, deadline, caller)
            finally:
                self._task = self._lanes = self._error = None
                self._turn = asyncio.Lock()  # one that was waited for serves no other event loop

    def wake(self) -> None:
        """Look for messages now."""
        self._news.set()

    def health(self) -> ConsumerHealth:
        """Return how it is now."""
        state: ConsumerState = "running" if self._error is None else "reconnecting"
        return ConsumerHealth(
            name=self.route.name,
            topic=self.route.topic,
            group=self.route.group,
            state="stopped" if self._task is None else state,
            in_flight=0 if self._lanes is None else self._lanes.in_flight,
            error=self._error,
        )

    @abstractmethod
    async def _begin(self) -> bool:
        """Connect, or claim what is read; tell whether it is ours now.

        It is called before the first read, and after an error or a lost claim. Then all that was
        handed to lanes before must not be acknowledged any more: a `Ledger` is made anew here.

        Returns:
            False while another instance has it; it is asked again after the interval.

        """

    @abstractmethod
    async def _read(self, room: int) -> Batch[Any] | None:
        """Return the next messages, ``room`` of them at most, or None if there are none."""

    @abstractmethod
    async def _acknowledge(self) -> bool:
        """Acknowledge what is settled since the last call, and renew the claim when it is due.

        It is called often: before every read, when everything is settled, and during the drain.

        Returns:
            False when another instance has what is read; then it is begun anew.

        """

    async def _end(self) -> None:  # noqa: B027 - not every adapter needs it
        """Give back what `_begin` has claimed; the last call. By default does nothing."""

    async def _run(self, ours: bool) -> None:
        while True:
            try:
                if ours:
                    self._error = None
                    await self._consume()
                    ours = False
                else:
                    await self._rest()
                    ours = await self._begin()
                    self._error = None
            except BrokerError as error:
                logger.warning("listener %s: trying again after: %s", self.route.name, error)
                self._error, ours = str(error), False
            except Exception as error:  # one that the adapter did not map must not end the reading
                logger.exception("listener %s: trying again", self.route.name)
                self._error, ours = repr(error), False
            if self._lanes is not None:  # what completes late is not acknowledged
                await self._lanes.drain(0)
                self._lanes = None

    async def _consume(self) -> None:
        """Feed lanes until what is read belongs to another instance."""
        self._lanes = lanes = lanes_for(self.route.name, self.route.concurrency, self.wake)
        while await self._acknowledge():
            room = self._in_flight - lanes.in_flight
            if room > 0 and (batch := await self._read(room)) is not None:
                lanes.submit(batch)
            else:
                await self._rest()

    async def _rest(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._interval):
                await self._news.wait()
        self._news.clear()

    async def _stop(
        self, task: asyncio.Task[None], deadline: Deadline, caller: asyncio.Task[Any] | None
    ) -> None:
        if self._lanes is not None:
            self._lanes.close()
        if await end_task(task):
            logger.critical("listener %s: its client ignores a cancellation", self.route.name)
        if self._lanes is not None:
            draining = asyncio.create_task(self._lanes.drain(deadline, caller=caller))
            while not draining.done():
                await asyncio.wait((draining,), timeout=self._interval)
                await self._acknowledge_if_possible()  # which keeps the claim, too
            await draining
        await self._give_back()

    async def _acknowledge_if_possible(self) -> None:
        try:
            await self._acknowledge()
        except BrokerError as error:  # what is settled comes again
            logger.warning("listener %s: not acknowledged: %s", self.route.name, error)

    async def _give_back(self) -> None:
        try:
            await self._end()
        except BrokerError as error:
            logger.warning("listener %s: not ended: %s", self.route.name, error)
