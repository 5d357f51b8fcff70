"""Messages as AMQP carries them, and back.

* The topic is the routing key.
* The key, which AMQP has no place for, is the header ``x-pyfly-key``: text where it is UTF-8, so
  that people and other clients can read it, and binary where it is not. A header of that name that
  was published as such travels with an apostrophe behind its name, and so do ``CC`` and ``BCC``,
  which RabbitMQ takes as more routing keys.
* Headers are text (AMQP "longstr"). What other clients send is read like this: bytes that are UTF-8
  as text, other bytes as their hex; numbers, booleans and times as Python writes them; tables and
  lists as JSON; a header without a value as empty text.
* ``x-delivery-count``, a number that RabbitMQ adds on its own, is left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiormq import spec

from pyfly_messaging.delivery.dead_letter import OMITTED, ORIGINAL_SIZE, OURS
from pyfly_messaging.errors import PublishError
from pyfly_messaging.logs import get_logger
from pyfly_messaging.message import Message, derived, set_origin

logger = get_logger("pyfly_messaging.rabbitmq.messages")

DELIVERY_COUNT = "x-delivery-count"
"""A header that quorum queues add to what they deliver again."""

KEY = "x-pyfly-key"
_ESCAPE = "'"
# Names that mean something to RabbitMQ or to us: it routes by CC and BCC, and takes no text there.
_TAKEN = (KEY, "CC", "BCC")
_SPECIAL = (*_TAKEN, DELIVERY_COUNT)
_PERSISTENT = 2
# pamqp cuts longer names off without a word; AMQP 0-9-1 itself (4.2.5.5) allows no more either.
LONGEST_NAME = 128
# Each entry of a table: the length of the name, the type, the length of the value.
_ENTRY = 1 + 1 + 4
# The headers of dead letters, and the longest text of the one that says what is missing.
_OURS = OURS | {OMITTED, ORIGINAL_SIZE}
_EVERYTHING = "value,key,headers"
# Headers that a log names.
_LISTED = 5


@dataclass(slots=True)
class Delivery:
    """A message as it arrived.

    Attributes:
        tag: What it is acknowledged by.
        routing_key: What it was published with.
        exchange: Where it was published to last; empty for RabbitMQ's default exchange, whose
            routing keys are names of queues.
        headers: Its headers, of any type that AMQP knows.
        body: Its payload.
        id: What its publisher told it from others by, if it did.
        redelivered: Whether RabbitMQ has delivered it before.

    """

    tag: int
    routing_key: str
    exchange: str
    headers: dict[str, Any] | None
    body: bytes
    id: str | None = None
    redelivered: bool = False

    @property
    def failures(self) -> int:
        """How often a quorum queue delivered it in vain before, to any process.

        A publisher can write that header too. A quorum queue overwrites it at each redelivery; a
        classic queue never does, so do not ask for its deliveries.
        """
        count = (self.headers or {}).get(DELIVERY_COUNT)
        return count if self.redelivered and isinstance(count, int) else 0


def encode(
    key: bytes | None, headers: Mapping[str, str] | None, message_id: str, room: int
) -> spec.Basic.Properties:
    """Return the properties of a persistent message.

    Args:
        key: The key of the message.
        headers: Its headers.
        message_id: Tells it from others on its channel.
        room: Bytes that the headers may take, which AMQP carries in one frame.

    Raises:
        PublishError: Headers that RabbitMQ cannot carry unchanged.
        ValueError: A header that is not encodable as UTF-8.

    """
    table: dict[str, Any] | None = None
    if headers:
        _check(headers, key, room)
        table = dict(headers)
        if any(name.startswith(_TAKEN) for name in table):
            table = {_escaped(name): value for name, value in table.items()}
    if key is not None:
        table = table or {}
        try:
            table[KEY] = key.decode()
        except UnicodeDecodeError:
            table[KEY] = bytearray(key)
        if _size_of_key(key) > room:
            raise PublishError(f"the key has {len(key)} bytes; RabbitMQ carries at most {room}")
    return spec.Basic.Properties(headers=table, delivery_mode=_PERSISTENT, message_id=message_id)


def decode(delivery: Delivery, topic: str) -> Message:
    """Return a delivery as the message that was published."""
    table = delivery.headers
    if not table:
        return _received(delivery, Message(topic, delivery.body))
    key = None
    headers = {}
    for name, value in table.items():
        if name.startswith(_SPECIAL):
            if name == KEY:
                key = _binary(value)
                continue
            if name == DELIVERY_COUNT and isinstance(value, int):
                continue
            name = _unescaped(name)
        headers[name] = value if isinstance(value, str) else _text(value)
    return _received(delivery, Message(topic, delivery.body, key, headers))


def _received(delivery: Delivery, message: Message) -> Message:
    set_origin(message, delivery)
    return message


def fitting(letter: Message, room: int) -> Message:
    """Return a dead letter with as much of its key and headers as RabbitMQ carries.

    Other clients can publish headers that leave no room for ours, or whose names are too long.
    First come our headers, then the key, then the others, from the smallest on; long names are cut.
    What is not kept as it was is logged, and ``x-pyfly-omitted`` says so.

    Args:
        letter: The dead letter.
        room: Bytes that its headers may take, the key among them.

    """
    headers, key = letter.headers, letter.key
    size = _size_of_key(key) + sum(_size(name, value) for name, value in headers.items())
    if size <= room and all(_cut(name) == name for name in headers):
        return letter
    ours, left = _smallest(headers.keys() & _OURS, headers, room - _size(OMITTED, _EVERYTHING))
    kept_key = key if _size_of_key(key) <= left else None
    theirs, _ = _smallest(headers.keys() - _OURS, headers, left - _size_of_key(kept_key))
    kept = ours | theirs
    lost = sorted(headers.keys() - kept.keys())
    logger.warning(
        "RabbitMQ: dead letter to %s without %s of its message: no room in a frame",
        letter.topic,
        " and ".join(
            filter(None, ("" if kept_key == key else "the key", _listed(lost) if lost else ""))
        ),
    )
    reduced = derived(letter, letter.topic, letter.value, kept_key, kept)
    return _without(reduced, key=kept_key != key, headers=bool(lost))


def without_value(letter: Message) -> Message:
    """Return a dead letter without its value, for when RabbitMQ refuses that as too large."""
    headers = letter.headers | {ORIGINAL_SIZE: str(len(letter.value))}
    return _without(derived(letter, letter.topic, b"", letter.key, headers), value=True)


def _smallest(
    names: Iterable[str], headers: Mapping[str, str], room: int
) -> tuple[dict[str, str], int]:
    """Return the headers that fit, from the smallest on, and how much room they leave."""
    kept: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (_size(name, headers[name]), name)):
        short, size = _cut(name), _size(name, headers[name])
        if size <= room and short not in kept:
            kept[short] = headers[name]
            room -= size
    return kept, room


def _without(letter: Message, **omitted: bool) -> Message:
    """Note what a dead letter lacks, beside what it lacked before."""
    before = letter.headers.get(OMITTED, "").split(",")
    parts = [p for p in _EVERYTHING.split(",") if omitted.get(p) or p in before]
    if parts:
        letter.headers[OMITTED] = ",".join(parts)
    return letter


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"the headers {', '.join(f'{name!a:.80}' for name in names[:_LISTED])}{more}"


def _check(headers: Mapping[str, str], key: bytes | None, room: int) -> None:
    size = _size_of_key(key)
    for name, value in headers.items():
        if _cut(name) != name:
            raise PublishError(
                f"the header name {name!r:.80} has {len(name.encode())} bytes; RabbitMQ carries"
                f" names of at most {LONGEST_NAME}"
            )
        size += _size(name, value)
    if size > room:
        raise PublishError(
            f"the headers take {size} bytes; RabbitMQ carries at most {room} with one message"
        )


def _size(name: str, value: str) -> int:
    return len(_escaped(name).encode()) + len(value.encode()) + _ENTRY


def _size_of_key(key: bytes | None) -> int:
    return 0 if key is None else len(key) + len(KEY) + _ENTRY


def _cut(name: str) -> str:
    """Return a header name that is no longer than RabbitMQ carries it."""
    longest = LONGEST_NAME - (len(_escaped(name)) - len(name))
    return name.encode()[:longest].decode(errors="ignore")


def _escaped(name: str) -> str:
    return name + _ESCAPE if name.rstrip(_ESCAPE) in _TAKEN else name


def _unescaped(name: str) -> str:
    return name[:-1] if name.endswith(_ESCAPE) and name.rstrip(_ESCAPE) in _TAKEN else name


def _binary(value: object) -> bytes:
    """Return a key, whoever wrote it."""
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    return (value if isinstance(value, str) else _text(value)).encode()


def _text(value: object) -> str:
    """Return a header value of another client as text."""
    match value:
        case None:
            return ""
        case bytes() | bytearray():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return value.hex()
        case dict() | list():
            return _json(value)
        case _:
            return str(value)


def _json(value: object) -> str:
    try:
        return json.dumps(value, default=_text, ensure_ascii=False, allow_nan=False)
    except ValueError:  # JSON has no such numbers
        return json.dumps(_finite(value), default=_text, ensure_ascii=False)


def _finite(value: object) -> object:
    """Return a value with each number that is not finite as text."""
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case dict():
            return {name: _finite(each) for name, each in value.items()}
        case list():
            return [_finite(each) for each in value]
        case _:
            return value
