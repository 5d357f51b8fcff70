"""What aiokafka's loggers must not print: passwords, and what messages carry.

At DEBUG it logs every request and response in full: the SASL password among the first ones, then
the keys and values of what is published and consumed.
"""

from __future__ import annotations

import logging

_LOGGERS = ("aiokafka.conn", "aiokafka.producer.producer")
_WITHHELD = "(withheld)"


class _Redaction(logging.Filter):
    """Leaves of the arguments of a DEBUG record only those that carry no payload."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno <= logging.DEBUG and isinstance(record.args, tuple):
            record.args = tuple(_without_payload(argument) for argument in record.args)
        return True


def _without_payload(argument: object) -> object:
    """Return numbers, host names and partitions as they are, and of anything else its type."""
    if argument is None or isinstance(argument, int | str | tuple | BaseException):
        return argument
    if isinstance(argument, bytes | bytearray | memoryview):
        return _WITHHELD
    return f"{type(argument).__name__} {_WITHHELD}"


_redaction = _Redaction()


def redact_logs() -> None:
    """Keep aiokafka's loggers from printing secrets and payloads, from now on."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_redaction)
