"""A log that is formatted and kept from whoever reads it, for cases that would flood it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator


class Captured(logging.Handler):
    """Does to each record what a real handler would.

    Attributes:
        texts: The beginning of what each record was formatted to.
        size: Characters of all of them.
        tracebacks: Records with an exception.

    """

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.size = 0
        self.tracebacks = 0

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        self.texts.append(text[:_KEPT])
        self.size += len(text)
        self.tracebacks += bool(record.exc_info)


# Characters of each record.
_KEPT = 100_000


@contextlib.contextmanager
def quiet() -> Iterator[Captured]:
    """Keep the log from the handlers of the root logger."""
    root, captured = logging.getLogger(), Captured()
    captured.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    handlers, root.handlers = root.handlers, [captured]
    try:
        yield captured
    finally:
        root.handlers = handlers
