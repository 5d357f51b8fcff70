"""The one place that decides what becomes of a message: settled, tried again, or dead-lettered.

`Settlement.attempt` runs the handler. It answers None when the message is settled, that is when
the handler succeeded or the dead letter is confirmed, so that it may be acknowledged; or a `Retry`,
which says how long to wait and is called for the next attempt. Nobody waits here: whoever drives
(see ``lanes``) does, so a pause never holds up what may go on, and a stop cuts it short.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from pyfly_messaging.delivery.backoff import Backoff, Random
from pyfly_messaging.delivery.dead_letter import PublishDeadLetter, dead_letter
from pyfly_messaging.delivery.failure_log import FailureLog
from pyfly_messaging.delivery.limits import at_most, within
from pyfly_messaging.delivery.subscription import Subscription
from pyfly_messaging.logs import qualified_name
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy

# Not `error.__traceback__`, which can be code of others.
_traceback_of = BaseException.__dict__["__traceback__"].__get__

_NO_HEADERS: dict[str, str] = {}
# The least pause before a dead letter is published again: that goes on for as long as it takes,
# and without a retry_delay it would do so without any pause. Seconds.
_BURY_AGAIN_AFTER = 1.0


class Retry(Protocol):
    """A message that is not settled yet.

    Attributes:
        delay: Seconds to wait before the next attempt.

    """

    delay: float

    async def __call__(self) -> Retry | None:
        """Try again; None means that the message is settled."""
        ...

    async def failed(self, error: BaseException) -> Retry | None:
        """Count this attempt as failed: it ended together with the task that ran it."""
        ...


class Settlement:
    """Runs one subscription's handler for a message and decides what follows.

    Args:
        subscription: The handler and its policy.
        publish_dead_letter: How to publish a dead letter and have it confirmed.
        on_spent: Called with what spent a message, whether it is dead-lettered or dropped.
        draw: The source of jitter.
        now: The clock that dates dead letters.

    """

    __slots__ = (
        "_draw",
        "_failures",
        "_handler",
        "_keeps_to_its_own",
        "_now",
        "_on_spent",
        "_publish_dead_letter",
        "subscription",
    )

    def __init__(
        self,
        subscription: Subscription,
        publish_dead_letter: PublishDeadLetter,
        *,
        on_spent: Callable[[BaseException], None] | None = None,
        draw: Random = random.random,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.subscription = subscription
        self._publish_dead_letter = publish_dead_letter
        self._on_spent = on_spent
        self._draw = draw
        self._now = now
        self._failures = FailureLog(subscription.name)
        handler, timeout = subscription.handler, subscription.policy.timeout
        self._handler = handler if timeout is None else within(handler, timeout)
        self._keeps_to_its_own = False

    def keep_to_its_concurrency(self) -> None:
        """Run no more calls at once than the policy says, in lanes that allow more."""
        if not self._keeps_to_its_own:
            self._keeps_to_its_own = True
            self._handler = at_most(self._handler, self.subscription.policy.concurrency)

    def sum_up_failures(self) -> None:
        """Log what is not logged yet of a storm of failures; its timer ends with that."""
        self._failures.sum_up()

    def first(self, message: Message) -> Retry:
        """Return the first attempt as a step that is still to be made."""
        return _NextAttempt(self, message, 0, 0.0)

    async def attempt(self, message: Message, failures: int = 0) -> Retry | None:
        """Run the handler, after ``failures`` attempts that failed.

        Whatever a failed attempt did to the headers, the next one and the dead letter have them as
        they were.

        Raises:
            asyncio.CancelledError: The task that runs the handler was cancelled. That is no
                failure: the message is not settled and goes back to the broker.
            GeneratorExit: The coroutine is closed, as at the end of an event loop. The same holds.

        """
        headers = message.headers
        kept = headers.copy() if headers else _NO_HEADERS
        try:
            await self._handler(message)
        except BaseException as error:
            if headers != kept:
                headers.clear()
                headers.update(kept)
            # By its type: an instance can claim any class, or raise when it is asked.
            if issubclass(type(error), asyncio.CancelledError):
                _reraise_if_cancelled(error)
            elif issubclass(type(error), KeyboardInterrupt | SystemExit):
                raise
            elif issubclass(type(error), GeneratorExit) and not _is_of_a_frame_within(error):
                raise  # this coroutine is being closed, and cannot await anything any more
            return await self.failed(message, error, failures + 1)
        return None

    async def failed(
        self, message: Message, error: BaseException, attempts: int = 1
    ) -> Retry | None:
        """Decide what follows the failed attempt number ``attempts`` (from 1)."""
        policy = self.subscription.policy
        if attempts <= policy.retries and not is_fatal(policy, error):
            delay = Backoff.of(policy).pause(attempts, self._draw)
            self._failures.retried(message.topic, attempts, policy.retries + 1, delay, error)
            return _NextAttempt(self, message, attempts, delay)
        return await self._spent(message, error, attempts)

    async def _spent(self, message: Message, error: BaseException, attempts: int) -> Retry | None:
        if self._on_spent is not None:
            self._on_spent(error)
        topic = self.subscription.policy.dead_letter_topic_for(message.topic)
        if topic is None:
            self._failures.dropped(message.topic, attempts, error)
            return None
        letter = dead_letter(
            message,
            topic,
            group=self.subscription.group,
            attempts=attempts,
            error=error,
            now=self._now,
        )
        self._failures.dead_lettered(message.topic, topic, attempts, error)
        return await _DeadLetter(self, letter, error)()

    async def bury(self, letter: Message, error: BaseException, failures: int) -> Retry | None:
        """Publish a dead letter; a publish that fails is tried again for as long as it takes."""
        try:
            await self._publish_dead_letter(letter, error)
        except asyncio.CancelledError as refusal:
            _reraise_if_cancelled(refusal)
            return self._not_buried(letter, error, failures + 1, refusal)
        except Exception as refusal:  # noqa: BLE001 - where a delivery is settled
            return self._not_buried(letter, error, failures + 1, refusal)
        return None

    def _not_buried(
        self, letter: Message, error: BaseException, failures: int, refusal: BaseException
    ) -> Retry:
        pause = Backoff.of(self.subscription.policy).pause(failures, self._draw)
        delay = max(pause, _BURY_AGAIN_AFTER)
        self._failures.unconfirmed(letter.topic, delay, refusal)
        return _DeadLetter(self, letter, error, failures, delay)


class _NextAttempt:
    """The next attempt of a handler that failed."""

    __slots__ = ("_attempts", "_message", "_settlement", "delay")

    def __init__(
        self, settlement: Settlement, message: Message, attempts: int, delay: float
    ) -> None:
        self.delay = delay
        self._settlement = settlement
        self._message = message
        self._attempts = attempts

    async def __call__(self) -> Retry | None:
        return await self._settlement.attempt(self._message, self._attempts)

    async def failed(self, error: BaseException) -> Retry | None:
        return await self._settlement.failed(self._message, error, self._attempts + 1)


class _DeadLetter:
    """The next try to have a dead letter confirmed."""

    __slots__ = ("_error", "_failures", "_letter", "_settlement", "delay")

    def __init__(
        self,
        settlement: Settlement,
        letter: Message,
        error: BaseException,
        failures: int = 0,
        delay: float = 0.0,
    ) -> None:
        self.delay = delay
        self._settlement = settlement
        self._letter = letter
        self._error = error
        self._failures = failures

    async def __call__(self) -> Retry | None:
        return await self._settlement.bury(self._letter, self._error, self._failures)

    async def failed(self, error: BaseException) -> Retry | None:
        return self  # the letter is still not confirmed, whatever ended the task


def is_fatal(policy: ListenerPolicy, error: BaseException) -> bool:
    """Tell whether the policy says that no retry can mend this exception."""
    for fatal in policy.fatal_exceptions:
        if isinstance(fatal, str):
            if any(fatal == qualified_name(cls) for cls in type(error).__mro__):
                return True
        elif issubclass(type(error), fatal):
            return True
    return False


def _reraise_if_cancelled(error: BaseException) -> None:
    """Let a cancellation of the running task pass.

    A handler can also raise ``CancelledError`` on its own, most often by awaiting a future that
    somebody cancelled. Nobody cancelled the delivery then, and treating it as such would deliver
    the message for ever: it is a failed attempt like any other.
    """
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise error


def _is_of_a_frame_within(error: BaseException) -> bool:
    """Tell whether what was caught had come out of what the catching frame has called.

    Python closes a coroutine from the inside: the handler first, whose ``GeneratorExit`` ends there
    (`gen_close` in CPython's genobject.c); then it raises a new one in the frame that awaits the
    handler. So the traceback of that one is this single frame; one that the handler raised itself
    comes with the handler's.
    """
    traceback = _traceback_of(error)
    return traceback is not None and traceback.tb_next is not None
