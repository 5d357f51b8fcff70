"""The log lines of one listener's failures: one each at first, and of a storm only the sum."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from contextvars import Context
from types import TracebackType

from pyfly_messaging.logs import describe, get_logger, qualified_name

# A logger of its own, because on that of delivery what is repeated is left out uncounted here.
logger = get_logger("pyfly_messaging.delivery.failures")

BURST_LINES = 10
"""Lines of each outcome within an interval; more is a storm, and summed up."""

STORM_LINES = 1
"""The same while a storm goes on: an example."""

INTERVAL_S = 10.0
"""Seconds between two sums. A storm ends with an interval of no more than `BURST_LINES` failures.
"""

TYPES_COUNTED = 20
"""Different exception types that are counted in one sum; more are counted together."""

TYPES_NAMED = 3
"""The most frequent of them, which the sum names."""

_RETRIED = "attempts failed and are repeated"
_DEAD_LETTERED = "messages go to dead letters"
_DROPPED = "messages are dropped"
_UNCONFIRMED = "dead letters are not confirmed and published again"
_OUTCOMES = (_RETRIED, _DEAD_LETTERED, _DROPPED, _UNCONFIRMED)

_traceback_of = BaseException.__dict__["__traceback__"].__get__


class FailureLog:
    """Writes what became of failed attempts: a line each, with a traceback for a message's last.

    In a storm the lines are written at DEBUG, but for a few, and their sum once in an interval. A
    timer of the event loop exists only while a storm lasts.

    Args:
        listener: What the lines call the listener.

    """

    __slots__ = ("_count", "_kinds", "_limit", "_lines", "_listener", "_loop", "_since", "_timer")

    def __init__(self, listener: str) -> None:
        self._listener = listener
        self._loop: asyncio.AbstractEventLoop | None = None  # that of the interval
        self._since = 0.0  # when the interval began
        self._lines: Counter[str] = Counter()  # written in it, of each outcome
        self._limit = BURST_LINES
        self._timer: asyncio.TimerHandle | None = None  # of a storm
        self._count: Counter[str] = Counter()  # what became of the failures of a storm
        self._kinds: Counter[str] = Counter()  # and of which type they were

    def retried(
        self, topic: str, attempt: int, attempts: int, delay: float, error: BaseException
    ) -> None:
        """Tell of an attempt after which there is another."""
        self._tell(
            _RETRIED,
            error,
            "listener %s: attempt %d of %d failed on topic %s, next in %.3g s: %s",
            (attempt, attempts, topic, delay),
        )

    def dead_lettered(self, topic: str, target: str, attempts: int, error: BaseException) -> None:
        """Tell of a message that is given up and kept."""
        self._tell(
            _DEAD_LETTERED,
            error,
            "listener %s: message on topic %s goes to %s after %d attempts",
            (topic, target, attempts),
            last=True,
        )

    def dropped(self, topic: str, attempts: int, error: BaseException) -> None:
        """Tell of a message that is given up and lost."""
        self._tell(
            _DROPPED,
            error,
            "listener %s: message on topic %s dropped after %d attempts (dead_letter is off)",
            (topic, attempts),
            last=True,
        )

    def unconfirmed(self, target: str, delay: float, refusal: BaseException) -> None:
        """Tell of a dead letter whose publish failed."""
        self._tell(
            _UNCONFIRMED,
            refusal,
            "listener %s: dead letter to %s not confirmed, the message stays"
            " unacknowledged, next try in %.3g s: %s",
            (target, delay),
        )

    def sum_up(self) -> None:
        """End a storm; write what is not written yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._write_sum()
            self._loop = None

    def _tell(
        self,
        outcome: str,
        error: BaseException,
        text: str,
        arguments: tuple[object, ...],
        *,
        last: bool = False,
    ) -> None:
        level = logging.ERROR if last else logging.WARNING
        if not self._has_room(outcome):
            self._add(outcome, error)
            level = logging.DEBUG
        if not logger.isEnabledFor(level):
            return
        if not last:
            arguments = (*arguments, describe(error))
        try:
            logger.log(
                level,
                text,
                self._listener,
                *arguments,
                exc_info=_exc_info(error) if last else None,
            )
        except Exception:  # noqa: BLE001 - where a delivery is settled
            return  # a broken filter or handler does not decide what becomes of a message

    def _has_room(self, outcome: str) -> bool:
        """Tell whether a failure gets a line of its own; begin a storm if not."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._loop is not loop:  # a broker may be started again on another
            self.sum_up()
        if self._timer is None and (self._loop is not loop or now - self._since >= INTERVAL_S):
            self._begin_interval(loop, BURST_LINES)
        if self._lines[outcome] < self._limit:
            self._lines[outcome] += 1
            return True
        if self._timer is None:
            self._set_timer(loop, self._since + INTERVAL_S - now)
        return False

    def _begin_interval(self, loop: asyncio.AbstractEventLoop, limit: int) -> None:
        self._loop, self._since, self._limit = loop, loop.time(), limit
        self._lines.clear()

    def _set_timer(self, loop: asyncio.AbstractEventLoop, delay: float) -> None:
        # Not in the context of the handler that happened to fail then.
        self._timer = loop.call_later(delay, self._end_interval, loop, context=Context())

    def _end_interval(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        goes_on = self._lines.total() + self._count.total() > BURST_LINES
        self._write_sum()
        self._begin_interval(loop, STORM_LINES if goes_on else BURST_LINES)
        if goes_on:
            self._set_timer(loop, INTERVAL_S)

    def _add(self, outcome: str, error: BaseException) -> None:
        self._count[outcome] += 1
        kind = qualified_name(type(error))
        if kind not in self._kinds and len(self._kinds) >= TYPES_COUNTED:
            kind = "other types"
        self._kinds[kind] += 1

    def _write_sum(self) -> None:
        count, self._count = self._count, Counter()
        kinds, self._kinds = self._kinds, Counter()
        if not count:
            return
        try:
            logger.log(
                logging.ERROR if count[_DEAD_LETTERED] + count[_DROPPED] else logging.WARNING,
                "listener %s: %d more failures within %g s (level DEBUG shows each): %s (%s)",
                self._listener,
                count.total(),
                INTERVAL_S,
                _listed({outcome: count[outcome] for outcome in _OUTCOMES}),
                _listed(dict(kinds.most_common(TYPES_NAMED)), kinds.total()),
            )
        except Exception:  # noqa: BLE001 - as above
            return


def _listed(count: Mapping[str, int], total: int = 0) -> str:
    """Return ``3 of this, 2 of that``, and how many of a total are missing in it."""
    parts = [f"{number} {what}" for what, number in count.items() if number]
    if (rest := total - sum(count.values())) > 0:
        parts.append(f"{rest} others")
    return ", ".join(parts)


def _exc_info(
    error: BaseException,
) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    # Not `error.__traceback__`, which can be code of others.
    return type(error), error, _traceback_of(error)
