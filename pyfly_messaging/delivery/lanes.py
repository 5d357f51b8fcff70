"""Lanes: in which order messages are handled, and how many at once.

Messages of one lane are handled one after the other, each settled before the next begins. With a
concurrency of 1 everything is one lane (`SingleLane`). With more, messages with the same key share
a lane and every message without a key has its own (`KeyedLanes`); a lane that waits for its next
attempt occupies no place.

Lanes serve one assignment: whoever feeds them drains them when it is over (a stop, a lost
partition, a cut connection) and makes new ones for the next. What they had not settled by then is
handed back.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextvars import copy_context
from typing import Any, Generic, Protocol, TypeVar, cast

from pyfly_messaging.delivery.settlement import Retry
from pyfly_messaging.message import Message

logger = logging.getLogger("pyfly_messaging.delivery")

T = TypeVar("T")

# A handler may catch its cancellation to clean up; one that goes on is cancelled again. Seconds.
_CANCEL_AGAIN_AFTER = 1.0
_CANCEL_AT_MOST = 10
# The pause before a worker whose task was cancelled is replaced: long enough that nothing is
# started any more when it is the whole event loop that is being torn down.
_REPLACE_AFTER = 0.05


class Attempt(Protocol):
    """What lanes run for each message: a `Route`, or something that leads to one."""

    @property
    def attempt(self) -> Callable[[Message], Awaitable[Retry | None]]:
        """Runs the handlers; None means settled."""
        ...

    async def failed(self, message: Message, error: BaseException) -> Retry | None:
        """Count a first attempt as failed that ended together with the task that ran it."""
        ...


class Batch(Generic[T]):
    """Messages that arrived together.

    Args:
        run: Where they go.
        messages: The messages, in order.
        tokens: For each message what ``settle`` is called with: an offset, a delivery tag.
        settle: Called once for each message, when it is settled.

    """

    __slots__ = ("messages", "run", "settle", "tokens")

    def __init__(
        self,
        run: Attempt,
        messages: Sequence[Message],
        tokens: Sequence[T],
        settle: Callable[[T], None],
    ) -> None:
        self.run = run
        self.messages = messages
        self.tokens = tokens
        self.settle = settle


class Lanes(ABC):
    """What both kinds of lanes share: workers, the bound on what is in flight, the drain.

    Args:
        name: What logs and task names call the listener.
        concurrency: Handlers at once.
        on_idle: Called when everything that was submitted is settled.

    Attributes:
        in_flight: Messages that were submitted and are not settled.
        closed: Whether nothing more is begun.
        context: The context variables that handlers see: those of whoever made the lanes, and not
            those of whoever submits.

    """

    def __init__(
        self, name: str, concurrency: int, on_idle: Callable[[], None] | None = None
    ) -> None:
        self.name = name
        self.in_flight = 0
        self.closed = False
        self.context = copy_context()
        self._concurrency = concurrency
        self._on_idle = on_idle
        self._handed_back = False
        self._workers: set[asyncio.Task[None]] = set()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._room = asyncio.Event()
        self._room_below = 0  # the highest number that `room` waits to fall below

    @abstractmethod
    def submit(self, batch: Batch[Any]) -> None:
        """Take a batch; its messages are in flight until they are settled. Never blocks."""

    @abstractmethod
    def _unsettled(self) -> Iterator[tuple[Message, Any]]:
        """Yield what is in flight, in the order in which it came."""

    @abstractmethod
    def _has_work(self) -> bool:
        """Tell whether there is something that a worker could begin."""

    @abstractmethod
    async def _work(self, cancelling: Callable[[], int]) -> None:
        """Handle what there is until the lanes are closed, or the worker's task is cancelled.

        A handler can cancel the task and return before that has an effect; the next one must not
        pay for it.

        Args:
            cancelling: Tells how often the worker's task was cancelled.

        """

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
        self, timeout: float | None = None, *, caller: asyncio.Task[Any] | None = None
    ) -> list[tuple[Message, Any]]:
        """Close; let running handlers finish; cancel those that still run after ``timeout``.

        What waits, for its turn or for another attempt, is not begun. When this has returned no
        handler runs, but for one that calls it itself. That one cannot be waited for: its message
        is handed back with the others, and settled no more.

        Args:
            timeout: Seconds for running handlers, or None to wait as long as they take.
            caller: The task that wants the drain; the current one, unless that acts for another.

        Returns:
            The messages that are not settled, each with its token, in order.

        """
        self.close()
        running = self._running(caller or asyncio.current_task())
        if running:
            _, running = await asyncio.wait(running, timeout=timeout)
        for _ in range(_CANCEL_AT_MOST):
            if not running:
                break
            for task in running:
                self._interrupt(task)
            _, running = await asyncio.wait(running, timeout=_CANCEL_AGAIN_AFTER)
        if running:
            logger.critical("listener %s: a handler ignores its cancellation", self.name)
        self._handed_back = True
        return list(self._unsettled())

    def close(self) -> None:
        """Begin nothing more."""
        self.closed = True
        self._room.set()
        while self._idle:
            self._wake()

    def _running(self, caller: asyncio.Task[Any] | None) -> set[asyncio.Future[Any]]:
        return {task for task in self._workers if task is not caller}

    def _interrupt(self, running: asyncio.Future[Any]) -> None:
        running.cancel()

    def _call_worker(self) -> None:
        """Have somebody do what there is to do, if there is a place for one more."""
        if self.closed or not self._has_work():
            return
        if self._idle:
            self._wake()
        elif len(self._workers) < self._concurrency:
            self._hire()

    def _hire(self) -> None:
        task = asyncio.create_task(
            self._begin_work(), name=f"pyfly listener {self.name}", context=self.context.copy()
        )
        self._workers.add(task)
        task.add_done_callback(self._leave)

    async def _begin_work(self) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        await self._work(task.cancelling)

    def _leave(self, task: asyncio.Task[None]) -> None:
        self._workers.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("listener %s: its worker failed", self.name, exc_info=error)
        if not self.closed:
            # The handler cancelled the task that ran it. Its message has become a failed attempt.
            task.get_loop().call_later(_REPLACE_AFTER, self._call_worker)

    async def _sit_idle(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._idle:  # nobody is there any more who could be woken
                self._idle.remove(waiter)
            raise

    def _wake(self) -> None:
        _set(self._idle.popleft())

    def _leaves_flight(self) -> None:
        self.in_flight -= 1
        if self.in_flight < self._room_below:
            self._room_below = 0
            self._room.set()
        if not self.in_flight and self._on_idle is not None:
            self._on_idle()


class Guest(Protocol):
    """Who runs a message in a `SingleLane` in its own task, and waits for something meanwhile.

    Attributes:
        task: Its task.
        left: Done when it has left the lane.

    """

    @property
    def task(self) -> asyncio.Task[Any]: ...
    @property
    def left(self) -> asyncio.Future[None]: ...

    def interrupt(self) -> None:
        """Cancel what it runs."""
        ...


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
        self.guest: Guest | None = None
        self.visited = False
        self._batches: deque[Batch[Any]] = deque()
        self._position = 0  # in the first batch
        self._retry: Retry | None = None  # what to go on with at that position
        self._pausing: asyncio.Future[None] | None = None

    def submit(self, batch: Batch[Any]) -> None:
        self._batches.append(batch)
        self.in_flight += len(batch.messages)
        self._call_worker()

    def leave(self) -> None:
        """Give a visited lane back."""
        self.visited = False
        if self.guest is not None:
            _set(self.guest.left)
            self.guest = None
        self._leaves_flight()
        if self._batches:
            self._call_worker()

    def put_back(self, batch: Batch[Any], retry: Retry | None) -> None:
        """Take over the message of a guest that has not settled it; before `leave`."""
        self._batches.appendleft(batch)
        self._retry = retry
        self.in_flight += 1

    async def pause(self, delay: float) -> bool:
        """Wait ``delay`` seconds before the next attempt; False when the lanes were closed."""
        if self.closed:
            return False
        if delay <= 0:
            return True
        loop = asyncio.get_running_loop()
        self._pausing = loop.create_future()
        timer = loop.call_later(delay, _set, self._pausing)
        try:
            await self._pausing
        finally:
            timer.cancel()
            self._pausing = None
        return not self.closed

    def close(self) -> None:
        super().close()
        if self._pausing is not None:
            _set(self._pausing)

    def _running(self, caller: asyncio.Task[Any] | None) -> set[asyncio.Future[Any]]:
        running = super()._running(caller)
        if self.guest is not None and self.guest.task is not caller:
            running.add(self.guest.left)
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

    def _has_work(self) -> bool:
        return bool(self._batches) and not self.visited

    async def _work(self, cancelling: Callable[[], int]) -> None:
        while not self.closed and not cancelling():
            if not self._has_work():
                await self._sit_idle()
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
                    if cancelling() or not await self.pause(retry.delay):
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


class _Delivery:
    """One message in keyed lanes."""

    __slots__ = ("batch", "message", "retry", "token")

    def __init__(self, batch: Batch[Any], message: Message, token: Any) -> None:
        self.batch = batch
        self.message = message
        self.token = token
        self.retry: Retry | None = None


_Lane = deque[_Delivery]


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
        self._call_worker()

    def _has_work(self) -> bool:
        return bool(self._ready)

    async def _work(self, cancelling: Callable[[], int]) -> None:
        while not self.closed and not cancelling():
            if self._ready:
                await self._advance(self._ready.popleft())
            else:
                await self._sit_idle()

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


class Interrupted:
    """The next step after an attempt ended together with the task that ran it."""

    __slots__ = ("_error", "_message", "_retry", "_run", "delay")

    def __init__(
        self, run: Attempt, message: Message, retry: Retry | None, error: BaseException
    ) -> None:
        self.delay = 0.0
        self._run = run
        self._message = message
        self._retry = retry
        self._error = error

    async def __call__(self) -> Retry | None:
        if self._retry is None:
            return await self._run.failed(self._message, self._error)
        return await self._retry.failed(self._error)

    async def failed(self, error: BaseException) -> Retry | None:
        return self


def lanes_for(
    name: str, concurrency: int, on_idle: Callable[[], None] | None = None
) -> SingleLane | KeyedLanes:
    """Return the lanes for a concurrency: a single one for 1, keyed ones for more."""
    if concurrency == 1:
        return SingleLane(name, on_idle)
    return KeyedLanes(name, concurrency, on_idle)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
