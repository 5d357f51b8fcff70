"""A log that is formatted and thrown away, for a case whose errors nobody could read."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator


class _Formats(logging.Handler):
    """Does to each record what a real handler would, and keeps nothing."""

    def emit(self, record: logging.LogRecord) -> None:
        self.format(record)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the log from the handlers of the root logger."""
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, [_Formats()]
    try:
        yield
    finally:
        root.handlers = handlers
