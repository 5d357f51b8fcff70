"""What a client library complains about again and again while its broker is away.

aiokafka writes more than a hundred lines a second then, aiormq one for each attempt. The adapters
report an outage themselves, once; of the client's own lines each comes once in a while.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from time import monotonic

# The same complaint is not repeated for so long. Seconds.
_PAUSE = 10.0
# How many different complaints are known; beyond that all are forgotten.
_KNOWN = 200


class _Repetition(logging.Filter):
    """Lets a warning or error pass once in a while, with how often it was left out."""

    def __init__(self) -> None:
        super().__init__()
        self._left_out: dict[str, int] = {}
        self._passed: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        text = f"{record.name}: {record.getMessage()}"
        now = monotonic()
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


_repetition = _Repetition()


def quieten(loggers: Iterable[str]) -> None:
    """Leave out, from now on, what these loggers repeat."""
    for name in loggers:
        logging.getLogger(name).addFilter(_repetition)
