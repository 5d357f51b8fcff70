"""From which handler a call comes: a stop that a handler asks for does not wait for it.

A handler may stop its broker through other tasks: ``asyncio.gather``, a ``TaskGroup``. They copy
the handler's context, and with it the worker that runs the handler. It is set once for each worker,
not for each message. So a task that a handler has left behind, and that stops the broker
later, does not wait for what the same worker handles by then.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

handling: ContextVar[object] = ContextVar("pyfly handling", default=None)
"""The task of the worker that runs a handler here."""

# Whose handlers wait for a stop now; one that waits for two is there twice.
_stopping: list[object] = []


def within_handler() -> bool:
    """Tell whether a handler runs here, or has begun the task that runs here."""
    return handling.get() is not None


@contextmanager
def stopping() -> Iterator[None]:
    """Note, if a handler runs here, that it waits for a stop."""
    own = handling.get()
    if own is None:
        yield
        return
    _stopping.append(own)
    try:
        yield
    finally:
        _stopping.remove(own)


def is_waited_for(worker: object) -> bool:
    """Tell whether a stop that is wanted here waits for the handler that a worker runs.

    It does not wait for the handler that wants it. Nor, if a handler wants it, for one that waits
    for a stop itself: handlers of two brokers that stop each other's would wait for ever.
    """
    own = handling.get()
    return own is None or (worker is not own and worker not in _stopping)
