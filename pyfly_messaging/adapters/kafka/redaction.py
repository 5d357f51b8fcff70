"""What aiokafka must not print or hand on: passwords, and what messages carry.

At DEBUG its loggers print every request and response in full: the SASL password among the first
ones, then the keys and values of what is published and consumed. And the frames of its connection
hold the password, for whatever prints the local variables of a traceback.
"""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Iterator
from types import TracebackType

from pyfly_messaging.adapters.kafka.internals import is_secret

_LOGGERS = ("aiokafka.conn", "aiokafka.producer.producer")
# Loggers that print tracebacks with frames of aiokafka.
_TRACEBACKS = (
    "aiokafka",
    "aiokafka.conn",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.group_coordinator",
    "aiokafka.producer.sender",
    "aiokafka.producer.transaction_manager",
    "pyfly_messaging.delivery",
    "pyfly_messaging.kafka",
)
_WITHHELD = "(withheld)"
_LONGEST_CHAIN = 1000  # exceptions
_CAUSE, _CONTEXT, _TRACEBACK, _MEMBERS = (
    inspect.getattr_static(cls, name)
    for cls, name in (
        (BaseException, "__cause__"),
        (BaseException, "__context__"),
        (BaseException, "__traceback__"),
        (BaseExceptionGroup, "exceptions"),
    )
)


class _Redaction(logging.Filter):
    """Leaves of the arguments of a DEBUG record only those that carry no payload."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno <= logging.DEBUG and isinstance(record.args, tuple):
            record.args = tuple(_without_payload(argument) for argument in record.args)
        return True


class _FrameRedaction(logging.Filter):
    """Drops the frames that hold the password from the traceback of a record."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and (error := record.exc_info[1]) is not None:
            drop_secret_frames(error)
            record.exc_info = (type(error), error, _TRACEBACK.__get__(error))
        return True


def _without_payload(argument: object) -> object:
    """Return numbers, host names and partitions as they are, and of anything else its type."""
    if argument is None or isinstance(argument, int | str | tuple | BaseException):
        return argument
    if isinstance(argument, bytes | bytearray | memoryview):
        return _WITHHELD
    return f"{type(argument).__name__} {_WITHHELD}"


_redaction, _frame_redaction = _Redaction(), _FrameRedaction()


def redact_logs() -> None:
    """Keep loggers from printing secrets and payloads, from now on."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_redaction)
    for name in _TRACEBACKS:
        logging.getLogger(name).addFilter(_frame_redaction)


def drop_secret_frames(error: BaseException) -> None:
    """Drop the frames that hold the password from an exception, its causes and its contexts."""
    for each in _chain(error):
        frames = list(_tracebacks(_TRACEBACK.__get__(each)))
        if not any(is_secret(tb.tb_frame) for tb in frames):
            continue
        traceback: TracebackType | None = None
        for tb in reversed(frames):
            if not is_secret(tb.tb_frame):
                traceback = TracebackType(traceback, tb.tb_frame, tb.tb_lasti, tb.tb_lineno)
        _TRACEBACK.__set__(each, traceback)


class SecretsWithheld:
    """Drops those frames from whatever leaves a block."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Drop the frames."""
        if error is not None:
            drop_secret_frames(error)


def _tracebacks(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, its causes, contexts and members, at most so many.

    A caller's own exceptions may be among them, of any length and with attributes that raise, so
    these are read as Python itself reads them.
    """
    found, seen = deque((error,)), {id(error)}
    while found and len(seen) < _LONGEST_CHAIN:
        each = found.popleft()
        yield each
        links = [_CAUSE.__get__(each), _CONTEXT.__get__(each)]
        if isinstance(each, BaseExceptionGroup):
            links += _MEMBERS.__get__(each)[:_LONGEST_CHAIN]
        for link in links:
            if link is not None and id(link) not in seen:
                seen.add(id(link))
                found.append(link)
