"""The filter that makes log records safe before any handler sees them."""

from __future__ import annotations

import logging
from typing import cast

from pyfly_messaging.logs.stand_in import stand_in_for
from pyfly_messaging.logs.text import one_line, qualified_name, text_of
from pyfly_messaging.logs.trace import trace_of

ARGUMENT_LIMIT = 1_000
"""Characters, or bytes, of one argument of a message."""


class _SafeRecords(logging.Filter):
    """Escapes and cuts the message of a record, and prepares its traceback.

    A record whose message is safe as it is keeps its template and its arguments, by which tools
    group records. Formatters of the standard library print ``exc_text`` where it is set. For those
    that make their own text ``exc_info`` has the exception itself, or a harmless stand-in.

    So nothing that is done with a record runs code of the exception, and what a log handler raises
    is nobody's but its own: a ``KeyboardInterrupt`` there is the user's, and ends the program.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            if isinstance(record.args, tuple):
                record.args = tuple(map(_bounded, record.args))
            message = record.getMessage()
            keeps = _is_plain(record.args)
        except BaseException as broken:  # noqa: BLE001 - arguments are values of others
            message = f"{record.msg} (no arguments: {qualified_name(type(broken))})"
            keeps = False
        safe = one_line(message)
        if safe != message or not keeps:
            record.msg, record.args = safe, ()
        if record.exc_info and (error := record.exc_info[1]) is not None:
            record.exc_text = record.exc_text or trace_of(error)
            harmless = stand_in_for(error, record.exc_text)
            if harmless is not error:
                record.exc_info = type(harmless), harmless, harmless.__traceback__
        return True


def make_safe(logger: logging.Logger) -> None:
    """Have the records of a logger made safe. Those of loggers below it are not."""
    logger.addFilter(_safe_records)


def _bounded(argument: object) -> object:
    """Return an argument so that it gives a bounded text."""
    cls = type(argument)
    if issubclass(cls, str):
        # One of ordinary length stays as it is: the whole message is escaped afterwards.
        text = cast("str", argument)
        long = str.__len__(text) > ARGUMENT_LIMIT or cls is not str
        return one_line(text, ARGUMENT_LIMIT) if long else text
    if issubclass(cls, BaseException):
        return text_of(argument, ARGUMENT_LIMIT)
    return cast("bytes", argument)[:ARGUMENT_LIMIT] if cls is bytes else argument


def _is_plain(arguments: object) -> bool:
    """Tell whether arguments give the same text each time they are formatted."""
    return isinstance(arguments, tuple) and all(
        type(one) in (str, int, float, bool) for one in arguments
    )


_safe_records = _SafeRecords()
