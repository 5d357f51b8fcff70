"""What a dead letter carries: the message, headers that say why, and less where it is too large."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime

from pyfly_messaging.logs import qualified_name, text_of
from pyfly_messaging.message import Message, derived

ORIGINAL_TOPIC = "x-pyfly-original-topic"
ORIGINAL_GROUP = "x-pyfly-original-group"
ATTEMPTS = "x-pyfly-attempts"
EXCEPTION = "x-pyfly-exception"
EXCEPTION_MESSAGE = "x-pyfly-exception-message"
DEAD_LETTERED_AT = "x-pyfly-dead-lettered-at"

OURS = frozenset(
    {ORIGINAL_TOPIC, ORIGINAL_GROUP, ATTEMPTS, EXCEPTION, EXCEPTION_MESSAGE, DEAD_LETTERED_AT}
)
"""The headers that every dead letter has (the group's only where there is a group)."""

ORIGINAL_PARTITION = "x-pyfly-original-partition"
ORIGINAL_OFFSET = "x-pyfly-original-offset"
ORIGINAL_SIZE = "x-pyfly-original-size"
OMITTED = "x-pyfly-omitted"
"""What a dead letter lacks that its message had: some of ``value``, ``key``, ``headers``."""

# A message that says so itself is forged, or was a dead letter before.
_OF_A_NOTE = frozenset({ORIGINAL_PARTITION, ORIGINAL_OFFSET, ORIGINAL_SIZE, OMITTED})

# Of one header of a note. Characters.
_LONGEST_TEXT = 1000

PublishDeadLetter = Callable[[Message, BaseException], Awaitable[None]]
"""Publish a dead letter (the exception is what spent it); return when the broker confirmed it."""


def dead_letter(
    message: Message,
    topic: str,
    *,
    group: str | None,
    attempts: int,
    error: BaseException,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Message:
    """Return ``message`` as it goes to ``topic``: value, key and headers as they were, and why.

    The exception's text is one line, escaped and cut as in the log: headers are shown in terminals
    and pages, too.

    Args:
        message: The spent message.
        topic: The dead-letter topic.
        group: The group whose handler gave up; without one the header is left out.
        attempts: How often it was tried.
        error: What the last attempt raised.
        now: The clock.

    """
    headers = {name: text for name, text in message.headers.items() if name not in _OF_A_NOTE}
    headers[ORIGINAL_TOPIC] = message.topic
    if group is None:
        headers.pop(ORIGINAL_GROUP, None)
    else:
        headers[ORIGINAL_GROUP] = group
    headers[ATTEMPTS] = str(attempts)
    headers[EXCEPTION] = qualified_name(type(error))
    headers[EXCEPTION_MESSAGE] = text_of(error)
    headers[DEAD_LETTERED_AT] = now().isoformat(timespec="milliseconds")
    return derived(message, topic, message.value, message.key, headers)


def reduced(letter: Message, where: Mapping[str, str]) -> Iterator[Message]:
    """Yield less and less of a dead letter, for a broker that refuses it as too large.

    First without the exception's text, then without any of our headers, and at last a note: our
    headers, what was omitted, its size and where it is, in a few KB, which every topic takes.

    Args:
        letter: The dead letter.
        where: Headers that say where the message is: ``ORIGINAL_PARTITION``, ``ORIGINAL_OFFSET``.

    """
    headers = letter.headers
    without_text = {name: text for name, text in headers.items() if name != EXCEPTION_MESSAGE}
    yield derived(letter, letter.topic, letter.value, letter.key, without_text)
    theirs = {name: text for name, text in headers.items() if name not in OURS}
    yield derived(letter, letter.topic, letter.value, letter.key, theirs)
    yield note(letter, where)


def note(letter: Message, where: Mapping[str, str]) -> Message:
    """Return what is left of a dead letter whose message cannot be kept: why, and where it is."""
    headers = {name: text[:_LONGEST_TEXT] for name, text in letter.headers.items() if name in OURS}
    had = {"value": letter.value, "key": letter.key, "headers": letter.headers.keys() - OURS}
    headers |= where
    headers[ORIGINAL_SIZE] = str(len(letter.value))
    headers[OMITTED] = ",".join(part for part, content in had.items() if content)
    return derived(letter, letter.topic, b"", None, headers)
