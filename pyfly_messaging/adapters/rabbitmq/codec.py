"""Messages as AMQP carries them, and back.

* The topic is the routing key.
* The key, which AMQP has no place for, is the header ``x-pyfly-key``: text where it is UTF-8, so
  that people and other clients can read it, and binary where it is not. A header of that name that
  was published as such travels with an apostrophe behind its name.
* Headers are text (AMQP "longstr"). What other clients send is read like this: bytes that are UTF-8
  as text, other bytes as their hex; numbers, booleans and times as Python writes them; tables and
  lists as JSON; a header without a value as empty text.
* ``x-delivery-count``, a number that RabbitMQ adds on its own, is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiormq import spec

from pyfly_messaging.adapters.rabbitmq.deliveries import DELIVERY_COUNT
from pyfly_messaging.errors import PublishError
from pyfly_messaging.logs import get_logger
from pyfly_messaging.message import Message, set_origin

if TYPE_CHECKING:
    from pyfly_messaging.adapters.rabbitmq.deliveries import Delivery

logger = get_logger("pyfly_messaging.rabbitmq.messages")

KEY = "x-pyfly-key"
_ESCAPE = "'"
_OURS = (KEY, DELIVERY_COUNT)
_PERSISTENT = 2
# pamqp cuts longer names off without a word; AMQP 0-9-1 itself (4.2.5.5) allows no more either.
LONGEST_NAME = 128
# Headers that a log line names of those that were left out.
_NAMES_LOGGED = 5
# Each entry of a table: the length of the name, the type, the length of the value.
_ENTRY = 1 + 1 + 4


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
        if any(name.startswith(KEY) for name in table):
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
        if name.startswith(_OURS):
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


def fitting(headers: Mapping[str, str], key: bytes | None, room: int) -> Mapping[str, str]:
    """Return the headers of a dead letter, without those that would keep it from being published.

    Other clients can publish headers that leave no room for ours, or that are too long a name.
    Names are cut then, and the largest headers left out, which is logged.
    """
    left = room - _size_of_key(key)
    sizes = {name: _size(name, value) for name, value in headers.items()}
    if sum(sizes.values()) <= left and all(len(n.encode()) <= LONGEST_NAME for n in headers):
        return headers
    kept: dict[str, str] = {}
    left_out: list[str] = []
    for name in sorted(headers, key=sizes.__getitem__):
        left -= sizes[name]
        if left < 0:
            left_out.append(name)
        else:
            kept[name.encode()[:LONGEST_NAME].decode(errors="ignore")] = headers[name]
    if left_out:
        logger.warning(
            "RabbitMQ: dead letter without %d of its headers, for which there is no room: %s",
            len(left_out),
            ", ".join(f"{name:.128}" for name in left_out[:_NAMES_LOGGED]),
        )
    return kept


def _check(headers: Mapping[str, str], key: bytes | None, room: int) -> None:
    size = _size_of_key(key)
    for name, value in headers.items():
        if len(name.encode()) > LONGEST_NAME:
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
    return len(name.encode()) + len(value.encode()) + _ENTRY


def _size_of_key(key: bytes | None) -> int:
    return 0 if key is None else len(key) + len(KEY) + _ENTRY


def _escaped(name: str) -> str:
    return name + _ESCAPE if name.rstrip(_ESCAPE) == KEY else name


def _unescaped(name: str) -> str:
    return name[:-1] if name.rstrip(_ESCAPE) == KEY else name


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
            return json.dumps(value, default=_text, ensure_ascii=False)
        case _:
            return str(value)
