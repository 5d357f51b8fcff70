"""What may stand in our log, and how often: the one place that decides it.

Every module gets its logger here. Text of others (exceptions, headers, topics, what a broker says)
is escaped and cut, so that it cannot forge a line, steer a terminal or fill a disk.
"""

from __future__ import annotations

from pyfly_messaging.logs.loggers import get_logger
from pyfly_messaging.logs.repetition import quieten
from pyfly_messaging.logs.text import describe, one_line, qualified_name, raw_text_of, text_of

__all__ = [
    "describe",
    "get_logger",
    "one_line",
    "qualified_name",
    "quieten",
    "raw_text_of",
    "text_of",
]
