"""Between a `Message` and what a Kafka record carries."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pyfly_messaging.message import (
    Message,
    new_message,
    set_headers,
    set_key,
    set_origin,
    set_topic,
    set_value,
)

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer
    from aiokafka.structs import ConsumerRecord


class Record(NamedTuple):
    """A message as it is given to a producer."""

    topic: str
    value: bytes
    key: bytes | None
    headers: list[tuple[str, bytes]] | None

    async def send(self, producer: AIOKafkaProducer) -> asyncio.Future[Any]:
        """Hand it over; return what is done when it is confirmed."""
        sent: asyncio.Future[Any] = await producer.send(
            self.topic, self.value, self.key, headers=self.headers
        )
        return sent


def encode(message: Message) -> Record:
    """Return a message as a record."""
    headers = encode_headers(message.headers) if message.headers else None
    return Record(message.topic, message.value, message.key, headers)


def encode_headers(headers: Mapping[str, str]) -> list[tuple[str, bytes]]:
    """Return headers as Kafka takes them: UTF-8 bytes by name.

    Raises:
        ValueError: A text that is not Unicode (a lone surrogate), which Kafka cannot carry.

    """
    return [(name, value.encode()) for name, value in headers.items()]


def decode(records: Iterable[ConsumerRecord[bytes, bytes]]) -> list[Message]:
    """Return what records of one partition carry.

    A tombstone (no value) arrives as an empty value. Of headers with the same name the last wins.
    """
    messages = []
    for record in records:
        message = new_message(Message)
        set_topic(message, record.topic)
        set_value(message, record.value if record.value is not None else b"")
        set_key(message, record.key)
        set_origin(message, record)
        set_headers(message, decode_headers(record.headers) if record.headers else {})
        messages.append(message)
    return messages


def decode_headers(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """Return headers as text; a value that is not UTF-8 as hex, one that is missing as empty."""
    return {name: _text(value) for name, value in headers}


def _text(value: bytes | None) -> str:
    if value is None:
        return ""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()
