"""Messages that other clients publish to our queues."""

import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import aiormq
import pytest

from pyfly_messaging import Message
from tests.brokers import RabbitCluster
from tests.integration.rabbit import Inbox, Rabbit, rabbit_at

pytestmark = pytest.mark.rabbitmq


@pytest.fixture
async def rabbit(rabbitmq: RabbitCluster) -> AsyncIterator[Rabbit]:
    async with rabbit_at(rabbitmq.url) as rabbit:
        yield rabbit


async def test_a_message_with_nothing_but_a_body(rabbit: Rabbit) -> None:
    """A message without headers and properties is a message without key and headers."""
    topic, inbox = rabbit.name("orders"), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(topic, inbox)
    await broker.start()
    async with rabbit.channel() as channel:
        await channel.basic_publish(
            b"value",
            exchange=rabbit.exchange,
            routing_key=topic,
            properties=aiormq.spec.Basic.Properties(),
        )
    assert await inbox.take(1) == [Message(topic, b"value")]


HEADERS: dict[str, tuple[Any, str]] = {
    "text": ("text", "text"),
    "empty": ("", ""),
    "none": (None, ""),
    "yes": (True, "True"),
    "number": (-7, "-7"),
    "float": (0.5, "0.5"),
    "decimal": (Decimal("1.50"), "1.50"),
    "utf-8": (bytearray("snow ☃".encode()), "snow ☃"),
    "binary": (bytearray(b"\x00\xff"), "00ff"),
    "time": (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02 00:00:00+00:00"),
    "list": ([1, "a", None], '[1, "a", null]'),
    "table": ({"a": {"b": bytearray(b"\xff")}}, '{"a": {"b": "ff"}}'),
    "x" * 128: ("long", "long"),
}


async def test_headers_that_are_no_text_become_text(rabbit: Rabbit) -> None:
    """Bytes that are no text arrive as hex, and every other type as it reads."""
    topic, inbox = rabbit.name("orders"), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(topic, inbox)
    await broker.start()
    await rabbit.publish(
        topic,
        b"",
        headers={name: value for name, (value, _) in HEADERS.items()},
        content_type="application/json",
        content_encoding="gzip",
        priority=9,
        correlation_id="7",
        expiration="60000",
        timestamp=datetime.now(UTC),
        message_type="order",
        app_id="app",
    )
    (message,) = await inbox.take(1)
    assert message.headers == {name: text for name, (_, text) in HEADERS.items()}


@pytest.mark.parametrize(("key", "arrives"), [("text", b"text"), (7, b"7"), (None, b"")])
async def test_a_key_of_another_client(rabbit: Rabbit, key: Any, arrives: bytes) -> None:
    """The header that carries the key may come from another client, of whatever type."""
    topic, inbox = rabbit.name("orders"), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(topic, inbox)
    await broker.start()
    await rabbit.publish(topic, b"", headers={"x-pyfly-key": key})
    assert await inbox.take(1) == [Message(topic, b"", arrives)]


class Raw(aiormq.spec.Basic.Properties):
    """Properties as bytes that the client itself would never send."""

    def __init__(self, flags: int, content: bytes) -> None:
        super().__init__(message_id="m")
        self._raw = struct.pack(">H", flags) + content

    def marshal(self) -> bytes:
        return self._raw


def table(*entries: bytes) -> bytes:
    content = b"".join(entries)
    return struct.pack(">I", len(content)) + content


def entry(name: bytes, value: bytes) -> bytes:
    return bytes((len(name),)) + name + value


TEXT = b"S" + struct.pack(">I", 4) + b"text"
BROKEN = {
    "timestamp": (Raw(1 << 6, struct.pack(">Q", 2**63)), {}),
    "header time": (
        Raw(
            1 << 13,
            table(
                entry(b"a", TEXT), entry(b"t", b"T" + struct.pack(">Q", 2**62)), entry(b"z", TEXT)
            ),
        ),
        {"a": "text", "t": str(2**62), "z": "text"},
    ),
    "header name": (
        Raw(1 << 15 | 1 << 13, b"\x02ab" + table(entry(b"\xff", TEXT), entry(b"z", TEXT))),
        {"\\xff": "text", "z": "text"},
    ),
    "nested name": (
        Raw(1 << 13, table(entry(b"a", b"F" + table(entry(b"\xff", TEXT))), entry(b"z", TEXT))),
        {"a": table(entry(b"\xff", TEXT)).hex(), "z": "text"},
    ),
    "content type": (Raw(1 << 15, b"\x02\xff\xfe"), {}),
}


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
@pytest.mark.parametrize("broken", BROKEN)
async def test_properties_that_end_the_clients_connection_are_survived(
    rabbit: Rabbit, broken: str, queue_type: str
) -> None:
    """A message that the client cannot read arrives nevertheless, without what is unreadable."""
    properties, headers = BROKEN[broken]
    topic, inbox = rabbit.name("orders"), Inbox()
    broker = rabbit.adapter(queue_type=queue_type)
    await broker.subscribe(topic, inbox, rabbit.name("group"))
    await broker.start()
    async with rabbit.channel() as channel:
        await channel.basic_publish(
            b"broken", exchange=rabbit.exchange, routing_key=topic, properties=properties
        )
    await broker.publish(topic, b"next", key=b"k", headers={"a": "b"})
    messages = await inbox.take(2)
    assert messages[0] == Message(topic, b"broken", None, headers)
    assert messages[1] == Message(topic, b"next", b"k", {"a": "b"})
    await broker.stop()
    assert await rabbit.count(rabbit.name("group")) == 0
