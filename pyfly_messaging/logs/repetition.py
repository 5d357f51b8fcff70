"""Which warnings are left out because they come again and again, as while a broker is away.

aiokafka writes more than a hundred lines a second then, aiormq one for each attempt. The adapters
report an outage themselves, once; of the clients' lines, and of those of ours that can come for
every message, each comes once in a while. What a client complains about while it mends it itself,
within a moment, does not come at all.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from time import monotonic

from pyfly_messaging.logs.record import make_safe

# The same complaint is not repeated for so long, and one that mostly passes has to last as long.
# Seconds.
_PAUSE = 10.0
# Characters of a complaint by which it is known again.
_LONGEST = 2_000
# How many different complaints are known; beyond that all are forgotten.
_KNOWN = 200


class _Repetition(logging.Filter):
    """Lets a warning or error pass once in a while, with how often it was left out."""

    def __init__(self) -> None:
        super().__init__()
        self._left_out: dict[str, int] = {}
        self._passed: dict[str, float] = {}
        self._lasting: dict[str, tuple[float, float]] = {}  # since when, and when last
        self.passing: tuple[type[BaseException], ...] = ()

    def forget(self) -> None:
        """Take everything for new."""
        self._left_out.clear()
        self._passed.clear()
        self._lasting.clear()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        text = f"{record.name}: {record.getMessage()}"[:_LONGEST]
        now = monotonic()
        if self._is_brief(record, now):
            return False
        if now - self._passed.get(text, -_PAUSE) < _PAUSE:
            self._left_out[text] = self._left_out.get(text, 0) + 1
            return False
        if len(self._passed) >= _KNOWN:
            self._passed.clear()
            self._left_out.clear()
        self._passed[text] = now
        if times := self._left_out.pop(text, 0):
            record.msg, record.args = f"{record.getMessage()} (and {times} times before)", ()
        return True

    def _is_brief(self, record: logging.LogRecord, now: float) -> bool:
        """Tell whether a complaint mostly passes, and has not been made for long."""
        if not any(map(self._passes, record.args or ())):
            return False
        kind = f"{record.name}: {record.msg}"
        since, last = self._lasting.get(kind, (now, now))
        if now - last > _PAUSE:
            since = now
        self._lasting[kind] = since, now
        return now - since < _PAUSE

    def _passes(self, argument: object) -> bool:
        cls = argument if isinstance(argument, type) else type(argument)
        return issubclass(cls, self.passing)


repetition = _Repetition()


def quieten(loggers: Iterable[str], passing: Iterable[type[BaseException]] = ()) -> None:
    """Leave out, from now on, what these loggers repeat, and make their records safe.

    Args:
        loggers: Their names.
        passing: Errors that a client mends itself: a line that names one comes only when it has
            been repeated for a while.

    """
    repetition.passing = tuple({*repetition.passing, *passing})
    for name in loggers:
        logger = logging.getLogger(name)
        logger.addFilter(repetition)
        make_safe(logger)
