"""The in-memory broker: the same delivery as on a real broker, within one process."""

from __future__ import annotations

import asyncio
import types
from collections import deque
from collections.abc import Awaitable, Generator, Iterable
from contextvars import Context, ContextVar
from dataclasses import dataclass
from typing import Any, Self

from pyfly_messaging.delivery.lanes import (
    Batch,
    Interrupted,
    KeyedLanes,
    SingleLane,
    lanes_for,
)
from pyfly_messaging.delivery.lifecycle import Lifecycle
from pyfly_messaging.delivery.registry import Registry
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.delivery.settlement import Retry
from pyfly_messaging.delivery.subscription import Subscription
from pyfly_messaging.errors import BatchPublishError, NotStartedError, PublishError
from pyfly_messaging.health import ConsumerHealth, Health
from pyfly_messaging.message import Message, check_message
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.ports import MessageHandler
from pyfly_messaging.settings import MemorySettings

_DEAD_LETTERS_KEPT = 10_000
_STOPPED = (
    "the broker was stopped before every handler had settled the message; it is kept and delivered"
    " after the next start"
)
# A handler that catches its cancellation and goes on is cancelled again. Seconds.
_CANCEL_AGAIN_AFTER = 1.0


class InMemoryMessageBroker:
    """A broker for development, tests and single processes; nothing outlives the process.

    ``publish`` returns when every handler has settled the message, so a test needs no waiting. A
    publish made inside a handler is queued, and the outermost publish waits for all that it set
    off. When the broker is stopped, messages that are not settled are kept and delivered after the
    next start.

    Args:
        raise_errors: ``publish`` raises what spent a message (after its retries), for tests.
        skip_retry_delays: Retries follow at once, for tests.
        timeouts: The deadlines of publish, start and stop, in seconds.
        policy: The policy of subscriptions that come without one.

    Attributes:
        dead_letters: The newest 10,000 dead letters.

    """

    def __init__(
        self,
        *,
        raise_errors: bool = False,
        skip_retry_delays: bool = False,
        timeouts: Timeouts | None = None,
        policy: ListenerPolicy | None = None,
    ) -> None:
        self.dead_letters: deque[Message] = deque(maxlen=_DEAD_LETTERS_KEPT)
        self._raise_errors = raise_errors
        self._skip_retry_delays = skip_retry_delays
        self._timeouts = timeouts or Timeouts()
        self._policy = policy or ListenerPolicy()
        self._registry = Registry(self._bury, on_spent=_note)
        self._lifecycle = Lifecycle(self._open, self._close)
        self._consumers: dict[str, tuple[_Consumer, ...]] = {}
        self._waits: set[_Wait] = set()
        self._accepting = False  # what is published
        self._delivering = False

    @classmethod
    def from_settings(
        cls,
        settings: MemorySettings,
        *,
        timeouts: Timeouts | None = None,
        policy: ListenerPolicy | None = None,
    ) -> Self:
        """Return a broker for the ``memory:`` section of the configuration."""
        return cls(
            raise_errors=settings.raise_errors,
            skip_retry_delays=settings.skip_retry_delays,
            timeouts=timeouts,
            policy=policy,
        )

    async def publish(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Deliver a message; return when every handler has settled it.

        Raises:
            NotStartedError: Before ``start()`` or after ``stop()``.
            PublishError: Not settled within the publish timeout, or the broker was stopped first;
                either way the message is kept.
            TypeError: ``value`` or ``key`` is not bytes, or a header is not text.
            ValueError: The topic is not a name that every broker takes.

        """
        if not self._accepting:
            raise NotStartedError
        consumers = self._consumers.get(topic)
        # A topic that somebody listens to was checked when they subscribed.
        if consumers is None or type(value) is not bytes or key is not None or headers:
            check_message(topic, value, key, headers)
            if consumers is None:
                return
        if headers:
            message = Message(topic, value, key, headers)
        else:
            message = _new(Message)
            _set_topic(message, topic)
            _set_value(message, value)
            _set_key(message, key)
            _set_headers(message, {})
        outer = _publication.get(None)
        if outer is not None:
            outer = outer.going_on()
            if outer is not None and (inside := outer.of(self)) is not None:
                for consumer in consumers:
                    consumer.submit(message, inside)
                return
        # Here and not in an __init__, because that would be one more call for each message.
        publication = _Publication()
        publication.broker, publication.outer, publication.message = self, outer, message
        publication.holders, publication.pending = 1, 0
        publication.errors, publication.wait = (), None
        try:
            if len(consumers) > 1:
                for consumer in consumers[1:]:
                    consumer.submit(message, publication)
            visit = consumers[0].begin(publication)
            if visit is not None or publication.pending:
                await self._finish(publication, visit)
        finally:
            publication.holders -= 1
        if self._raise_errors and (error := publication.error()) is not None:
            raise error

    @property
    def default_policy(self) -> ListenerPolicy:
        """The policy of a subscription that comes without one."""
        return self._policy

    async def publish_many(self, messages: Iterable[Message]) -> None:
        """Deliver messages in their order; return when every handler has settled them.

        Raises:
            NotStartedError: Before ``start()`` or after ``stop()``.
            BatchPublishError: Some were not settled in time; it names them.
            TypeError: A value or key that is not bytes, or a header that is not text.
            ValueError: A topic that is not a name that every broker takes.

        """
        if not self._accepting:
            raise NotStartedError
        batch = tuple(messages)
        for message in batch:
            check_message(message.topic, message.value, message.key, message.headers)
        outcomes = await asyncio.gather(
            *(self.publish(m.topic, m.value, key=m.key, headers=m.headers) for m in batch),
            return_exceptions=True,
        )
        failed = [(n, error) for n, error in enumerate(outcomes) if error is not None]
        if failed:
            raise BatchPublishError(failed, len(batch)) from failed[0][1]

    def health(self) -> Health:
        """Return the state of the broker and of each of its consumers."""
        return Health(
            started=self._accepting,
            publishing=self._accepting,
            consumers=tuple(consumer.health() for consumer in self._all()),
        )

    async def subscribe(
        self,
        topic: str,
        handler: MessageHandler,
        group: str | None = None,
        *,
        policy: ListenerPolicy | None = None,
        name: str | None = None,
    ) -> None:
        """Register a handler, before or after ``start()``.

        Args:
            topic: The topic.
            handler: An async callable.
            group: Handlers of one group share the messages; without one each gets them all.
            policy: What happens around the handler; the broker's default if None.
            name: What logs call the listener; by default the handler's qualified name.

        Raises:
            TypeError: The handler is not an async callable.
            ValueError: An impossible topic or group, or the handler listens here already.

        """
        policy = policy or self._policy
        if self._skip_retry_delays:
            policy = policy.replace(retry_delay=0.0)
        subscription = Subscription.of(topic, handler, group, policy=policy, name=name)
        route, new = self._registry.add(subscription)
        if new:
            consumer = _Consumer(route)
            if self._delivering:
                consumer.start()
            self._consumers[topic] = (*self._consumers.get(topic, ()), consumer)

    async def start(self) -> None:
        """Begin to deliver; messages kept by the last stop come first."""
        await self._lifecycle.start()

    async def stop(self) -> None:
        """Let running handlers finish within the shutdown timeout, then cancel them."""
        await self._lifecycle.stop()

    async def _open(self) -> None:
        for consumer in self._all():
            consumer.start()
        self._accepting = self._delivering = True

    async def _close(self) -> None:
        self._delivering = False
        timeout, caller = self._timeouts.shutdown, asyncio.current_task()
        await asyncio.gather(*(consumer.stop(timeout, caller) for consumer in self._all()))
        self._accepting = False  # not before: handlers that were finishing may publish
        for wait in self._waits:
            wait.give_up(_STOPPED)

    def _all(self) -> list[_Consumer]:
        return [consumer for consumers in self._consumers.values() for consumer in consumers]

    async def _finish(self, publication: _Publication, visit: _Visit | None) -> None:
        """Wait, but not for ever, for what a publish has set off."""
        publication.wait = wait = _Wait(visit, self._timeouts.publish)
        self._waits.add(wait)
        try:
            if visit is not None:
                publication.pending += 1  # others that are settled first do not end the wait
                await visit
                publication.pending -= 1
                wait.visit = None
            if publication.pending:
                await wait
        finally:
            self._waits.discard(wait)
            wait.timer.cancel()

    async def _bury(self, letter: Message, error: BaseException) -> None:
        self.dead_letters.append(letter)
        for consumer in self._consumers.get(letter.topic, ()):
            consumer.submit(letter, _publication.get())


# A frozen dataclass sets each field by its name through object.__setattr__: a third of what a
# publish to an idle listener would cost. Setting the slots themselves takes half of that time.
_new = object.__new__
_set_topic, _set_value, _set_key, _set_headers = (
    getattr(Message, name).__set__ for name in ("topic", "value", "key", "headers")
)


class _Publication:
    """What a publish has set off.

    Attributes:
        broker: Where it was published.
        outer: The publication whose handler publishes here, on another broker.
        message: What was published.
        holders: How many are at it: the publish, until it returns, and attempts in workers.
        pending: Deliveries that are not settled, but for one that is visited.
        errors: What spent messages.
        wait: How the publish waits, once it has to.

    """

    __slots__ = ("broker", "errors", "holders", "message", "outer", "pending", "wait")

    broker: InMemoryMessageBroker
    outer: _Publication | None
    message: Message
    holders: int
    pending: int
    errors: tuple[BaseException, ...]
    wait: _Wait | None

    def going_on(self) -> _Publication | None:
        """Return the innermost publication around here that is not over.

        Those that are over do not get into a new chain, or the tasks that handlers leave behind,
        and that publish in their turn, would make it longer and longer.
        """
        found: _Publication | None = self
        while found is not None and not found.holders:
            found = found.outer
        return found

    def of(self, broker: InMemoryMessageBroker) -> _Publication | None:
        """Return the innermost publication of ``broker`` around here that is not over."""
        found = self.going_on()
        while found is not None and found.broker is not broker:
            found = None if found.outer is None else found.outer.going_on()
        return found

    def settle(self) -> None:
        """Count a delivery as settled."""
        self.pending -= 1
        if not self.pending and self.wait is not None:
            self.wait.end()

    def error(self) -> BaseException | None:
        """Return what spent messages: the exception, a group of several, or None."""
        if len(self.errors) > 1:
            return BaseExceptionGroup("several messages were spent", self.errors)
        return self.errors[0] if self.errors else None


_publication: ContextVar[_Publication] = ContextVar("pyfly publication")
"""The publish that set off the handler that runs; it waits for what the handler publishes."""


def _note(error: BaseException) -> None:
    publication = _publication.get()
    publication.errors = (*publication.errors, error)


class _Wait:
    """A publish that waits until everything that it set off is settled, but not for ever.

    Args:
        visit: The handler that runs in the publisher's task, for as long as it does.
        limit: Seconds; the publish then raises, and its messages go on without it.

    """

    def __init__(self, visit: _Visit | None, limit: float) -> None:
        self.visit = visit
        self.refusal: str | None = None
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self.timer = self._loop.call_later(limit, self._expire, limit)

    def __await__(self) -> Generator[Any, Any, None]:
        yield from self._over
        if self.refusal is not None:
            raise PublishError(self.refusal)

    def end(self) -> None:
        """Go on: everything is settled."""
        if not self._over.done():
            self._over.set_result(None)

    def give_up(self, reason: str) -> None:
        """Wait no longer for what is not settled."""
        self.refusal = reason
        self.end()

    def _expire(self, limit: float) -> None:
        self.give_up(
            f"not settled by every handler within {limit:g} s (publish-timeout); it is kept and"
            " goes on"
        )
        if self.visit is not None:
            self.visit.interrupt()
            self.timer = self._loop.call_later(_CANCEL_AGAIN_AFTER, self._expire, limit)


_OVER = object()
"""What a handler is said to wait for when it does not run any more."""


class _Consumer:
    """The lanes of one (topic, group), and what they had not settled at the last stop."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lanes: SingleLane | KeyedLanes | None = None
        self._lane: SingleLane | None = None  # the lanes, if they are one that can be visited
        self._backlog: list[tuple[Message, _Publication]] = []
        self._attempts = self._serve()
        self._retry: Retry | None = None  # what `_attempts` is at, or has left to do

    def start(self) -> None:
        """Deliver from now on, the backlog first."""
        self._loop = asyncio.get_running_loop()
        self._lanes = lanes_for(self.route.name, self.route.concurrency)
        self._lane = self._lanes if isinstance(self._lanes, SingleLane) else None
        backlog, self._backlog = self._backlog, []
        for message, publication in backlog:
            self._lanes.submit(self._batch(message, publication))

    def health(self) -> ConsumerHealth:
        """Return how it is."""
        lanes = self._lanes
        return ConsumerHealth(
            name=self.route.name,
            topic=self.route.topic,
            group=self.route.group,
            state="stopped" if lanes is None else "running",
            in_flight=len(self._backlog) if lanes is None else lanes.in_flight,
        )

    async def stop(self, timeout: float, caller: asyncio.Task[Any] | None) -> None:
        """Drain; keep what is not settled."""
        if self._lanes is not None:
            self._backlog = await self._lanes.drain(timeout, caller=caller)
            self._lanes = self._lane = None

    def submit(self, message: Message, publication: _Publication) -> None:
        """Queue a message."""
        publication.pending += 1
        if self._lanes is None:
            self._backlog.append((message, publication))
        else:
            self._lanes.submit(self._batch(message, publication))

    def begin(self, publication: _Publication) -> _Visit | None:
        """Run the handler here and now if the lane is idle; otherwise queue the message.

        Returns:
            What the publisher awaits if its handler waits for something; None if it need not.

        """
        lane = self._lane
        if lane is None or lane.in_flight or lane.closed:
            self.submit(publication.message, publication)
            return None
        lane.in_flight, lane.visited = 1, True
        # Without the loop, finding the task would cost a tenth of a publish.
        task = asyncio.current_task(self._loop)
        if task is None:
            lane.leave()
            raise RuntimeError("publish() needs a task of the event loop that start() ran on")
        outside = task.cancelling()
        context = lane.context.copy()
        try:
            awaited = context.run(self._attempts.send, publication)
        except asyncio.CancelledError as error:  # the handler's own: nobody else has had a turn
            self.interrupted(lane, publication, error)
            awaited = _OVER
        except BaseException as error:
            self.interrupted(lane, publication, error)
            lane.leave()
            raise
        by_handler = task.cancelling() - outside
        if awaited is not _OVER or by_handler:
            lane.guest = visit = _Visit(
                consumer=self,
                lane=lane,
                publication=publication,
                context=context,
                task=task,
                left=task.get_loop().create_future(),
                awaited=awaited,
                outside=outside,
                by_handler=by_handler,
            )
            return visit
        if self._retry is not None:
            self.ended(lane, publication)
        if lane.in_flight == 1:  # nothing has come: this is `leave` without a call
            lane.in_flight, lane.visited = 0, False
        else:
            lane.leave()
        return None

    def go_on(self, context: Context, error: BaseException | None) -> object:
        """Let the handler of a visit go on; return what it waits for next, or `_OVER`."""
        if error is None:
            return context.run(self._attempts.send, None)
        return context.run(self._attempts.throw, error)

    def ended(self, lane: SingleLane, publication: _Publication) -> None:
        """Leave what a visit has left to do to the workers."""
        retry, self._retry = self._retry, None
        if retry is not None:
            self._hand_over(lane, publication, _RetryWithin(publication, retry))

    def interrupted(
        self, lane: SingleLane, publication: _Publication, failure: BaseException | None
    ) -> None:
        """Leave a message to the workers whose attempt did not come to its end.

        Args:
            failure: What counts as a failed attempt; None if the handler could do nothing for it.

        """
        self._attempts = self._serve()  # an exception has ended the one before
        step: Retry | None = None
        if self._retry is not None:
            step, self._retry = _RetryWithin(publication, self._retry), None
        if failure is not None:
            run = _Within(publication, self.route)
            step = Interrupted(run, publication.message, step, failure)
        self._hand_over(lane, publication, step)

    def _hand_over(self, lane: SingleLane, publication: _Publication, step: Retry | None) -> None:
        if lane is self._lane:
            publication.pending += 1
            lane.put_back(self._batch(publication.message, publication), step)
        else:  # the handler has stopped the broker, or outlasted a stop
            self.submit(publication.message, publication)

    def _batch(self, message: Message, publication: _Publication) -> Batch[_Publication]:
        run = _Within(publication, self.route)
        return Batch(run, (message,), (publication,), _Publication.settle)

    def _serve(self) -> Generator[Any, Any, None]:
        attempts = self._attempt_each()
        next(attempts)
        return attempts

    @types.coroutine
    def _attempt_each(self) -> Generator[Any, Any, None]:
        """Attempt what is sent in, one publication after the other.

        Yields what the handler waits for, as a coroutine does, and `_OVER` after each message. So
        the sender knows whether the handler waits at all, for a third of the price of a coroutine
        for each message whose end is an exception to catch.
        """
        while True:
            publication = yield _OVER
            lane = self._lane
            _publication.set(publication)
            retry = yield from self.route.attempt(publication.message)
            while retry is not None and retry.delay <= 0 and lane is not None and not lane.closed:
                self._retry = retry
                retry = yield from retry()
            self._retry = retry


@dataclass(slots=True, kw_only=True, eq=False)
class _Visit:
    """A handler that waits for something, in the task and on the stack of its publisher.

    The publisher awaits it. The task is not the handler's: what the handler cancels of it is taken
    back and is a failed attempt; what others cancel is the publisher's.

    Attributes:
        context: The handler's context variables, apart from the publisher's.
        left: Done when the handler has left the lane.
        awaited: What the handler waits for, or `_OVER`.
        outside: How often the task had been cancelled before.
        by_handler: How often the handler has cancelled it.
        by_us: How often the broker has.

    """

    consumer: _Consumer
    lane: SingleLane
    publication: _Publication
    context: Context
    task: asyncio.Task[Any]
    left: asyncio.Future[None]
    awaited: object
    outside: int
    by_handler: int
    by_us: int = 0

    def interrupt(self) -> None:
        """Cancel the handler."""
        self.by_us += 1
        self.task.cancel()

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            while self.awaited is not _OVER:
                yield from self._step()
        except BaseException as error:  # noqa: BLE001 - raised again if it is the publisher's
            self._interrupted(error)
        else:
            self._take_back()
            self.consumer.ended(self.lane, self.publication)
        finally:
            self.lane.leave()
        if self.by_handler:
            yield from self._absorb()

    def _step(self) -> Generator[Any, Any, None]:
        """Wait for what the handler waits for, and let it go on until it waits again."""
        thrown: BaseException | None = None
        try:
            yield self.awaited
        except BaseException as error:  # noqa: BLE001 - it is the handler's to catch
            thrown = error
        before = self.task.cancelling()
        try:
            self.awaited = self.consumer.go_on(self.context, thrown)
        finally:
            self.by_handler += max(0, self.task.cancelling() - before)

    def _interrupted(self, error: BaseException) -> None:
        """Raise what is the publisher's; the message is left to the workers."""
        cancelled = isinstance(error, asyncio.CancelledError)
        by_others = self._take_back()
        failed = not cancelled or not (by_others or self.by_us)
        self.consumer.interrupted(self.lane, self.publication, error if failed else None)
        if by_others or not cancelled:
            raise error
        if self.by_us:
            wait = self.publication.wait
            raise PublishError((wait and wait.refusal) or _STOPPED) from None

    def _take_back(self) -> bool:
        """Take back what is not the publisher's; tell whether others have cancelled the task."""
        mine = min(self.by_us + self.by_handler, self.task.cancelling() - self.outside)
        for _ in range(mine):
            self.task.uncancel()
        return self.task.cancelling() > self.outside

    def _absorb(self) -> Generator[Any, Any, None]:
        """Meet the handler's cancellation if it has not been delivered yet."""
        try:
            yield
        except asyncio.CancelledError:
            if self.task.cancelling() > self.outside:
                raise


class _Within:
    """Runs a route in the context of the publication that set it off."""

    __slots__ = ("_publication", "_route")

    def __init__(self, publication: _Publication, route: Route) -> None:
        self._publication = publication
        self._route = route

    async def attempt(self, message: Message) -> Retry | None:
        return await _within(self._publication, self._route.attempt(message))

    async def failed(self, message: Message, error: BaseException) -> Retry | None:
        return await _within(self._publication, self._route.failed(message, error))


class _RetryWithin:
    """A later attempt in the context of the publication that set it off."""

    __slots__ = ("_publication", "_retry", "delay")

    def __init__(self, publication: _Publication, retry: Retry) -> None:
        self.delay = retry.delay
        self._publication = publication
        self._retry = retry

    async def __call__(self) -> Retry | None:
        return await _within(self._publication, self._retry())

    async def failed(self, error: BaseException) -> Retry | None:
        return await _within(self._publication, self._retry.failed(error))


async def _within(publication: _Publication, step: Awaitable[Retry | None]) -> Retry | None:
    _publication.set(publication)
    publication.holders += 1
    try:
        retry = await step
    finally:
        publication.holders -= 1
    return None if retry is None else _RetryWithin(publication, retry)
