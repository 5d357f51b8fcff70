"""Where every module of the package gets its logger."""

from __future__ import annotations

import logging

from pyfly_messaging.logs.record import make_safe
from pyfly_messaging.logs.repetition import quieten

# On these the same warning is not repeated: it can come for every message. What the adapters say of
# their consumers is not among it, because several listeners may have the same name. Failures of
# handlers are summed up for each listener.
_REPETITIVE = frozenset(
    {
        "pyfly_messaging.delivery",
        "pyfly_messaging.kafka.messages",
        "pyfly_messaging.rabbitmq.messages",
    }
)


def get_logger(name: str) -> logging.Logger:
    """Return the logger of this name, with records that are safe to print.

    Filters of a logger do not see what is logged on the loggers below it. So every logger of ours
    has to come from here; a test holds the modules to it.
    """
    logger = logging.getLogger(name)
    make_safe(logger)
    if name in _REPETITIVE:
        quieten((name,))
    return logger
