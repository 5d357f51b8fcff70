"""Messages that other clients publish to our queues."""

import random
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import aiormq
import pytest

from pyfly_messaging import Message
from pyfly_messaging.adapters.rabbitmq.codec import Delivery, decode
from pyfly_messaging.delivery.backoff import Backoff
from tests.brokers import RabbitCluster
from tests.integration.rabbit import Inbox, Rabbit, caught_logs, rabbit_at

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
BROKEN: dict[str, tuple[Raw, dict[str, str]]] = {
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


def nested(kind: bytes, depth: int) -> bytes:
    value = b"V"
    for _ in range(depth):
        value = kind + table(value if kind == b"A" else entry(b"a", value))
    return value


def text_of(value: bytes) -> str:
    """Return what becomes of a value that cannot be read."""
    return value[1:].hex()


DEEP = {
    "tables": nested(b"F", 600),
    "arrays": nested(b"A", 600),
    "arrays, 5,000 deep": nested(b"A", 5_000),  # 26,000 take RabbitMQ 4 seconds each
    "time": b"A" + table(b"T" + struct.pack(">Q", 2**62)),
}
BROKEN |= {
    f"nested {name}": (
        Raw(1 << 13, table(entry(b"n", value), entry(b"z", TEXT))),
        {"n": text_of(value), "z": "text"},
    )
    for name, value in DEEP.items()
}
BROKEN |= {
    "every text": (
        # But user_id and expiration, which RabbitMQ checks.
        Raw(0b1100_0110_1010_1000, b"\x02\xff\xfe" * 7),
        {},
    ),
    "message id": (Raw(1 << 7, b"\x01\xff"), {}),
    "values": (
        Raw(
            1 << 13,
            table(
                entry(b"decimal", b"D\xff" + struct.pack(">i", -1)),
                entry(b"bool", b"t\x07"),
                entry(b"", TEXT),
                entry(b"twice", TEXT),  # of which RabbitMQ 3 gives the last, RabbitMQ 4 the first
                entry(b"twice", TEXT),
            ),
        ),
        {
            "decimal": "-1E-255",
            "bool": "True",
            "": "text",
            "twice": "text",
        },
    ),
    "100,000 values": (
        Raw(1 << 13, table(entry(b"n", b"A" + table(b"V" * 100_000)))),
        {"n": f"[{', '.join(['null'] * 100_000)}]"},
    ),
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
    with caught_logs("") as log:
        async with rabbit.channel() as channel:
            for _ in range(20):
                await channel.basic_publish(
                    b"broken", exchange=rabbit.exchange, routing_key=topic, properties=properties
                )
        await broker.publish(topic, b"next", key=b"k", headers={"a": "b"})
        messages = await inbox.take(21)
    assert messages[:20] == [Message(topic, b"broken", None, headers)] * 20
    assert messages[20] == Message(topic, b"next", b"k", {"a": "b"})
    assert log.text.count("\n") <= 1, "no connection has ended"
    await broker.stop()
    assert await rabbit.count(rabbit.name("group")) == 0


def distorted(chance: random.Random) -> Raw:
    """Return properties with all there can be, and a few bytes of them changed."""
    entries = [
        entry(b"text", TEXT),
        entry(b"time", b"T" + struct.pack(">Q", 1)),
        entry(b"table", nested(b"F", 3)),
        entry(b"array", b"A" + table(b"d" + bytes(8), b"x" + table(b"\xff"), TEXT, b"u\x00\x01")),
    ]
    content = bytearray(b"\x04text" + table(*entries) + b"\x02\x02id" + struct.pack(">Q", 1))
    for _ in range(chance.randint(1, 3)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    return Raw(1 << 15 | 1 << 13 | 1 << 12 | 1 << 7 | 1 << 6, bytes(content))


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
async def test_whatever_rabbitmq_takes_is_handled(rabbit: Rabbit, queue_type: str) -> None:
    """Of properties with bytes changed anywhere, what RabbitMQ takes reaches the handler."""
    topic, inbox, chance = rabbit.name("orders"), Inbox(), random.Random(3)
    broker = rabbit.adapter(queue_type=queue_type)
    await broker.subscribe(topic, inbox, rabbit.name("group"))
    await broker.start()
    taken = set()
    with caught_logs("pyfly_messaging") as log:
        for number in range(150):
            value = str(number).encode()
            with suppress(aiormq.exceptions.AMQPError, OSError):  # RabbitMQ refuses some
                async with rabbit.channel() as channel:
                    await channel.basic_publish(
                        value,
                        exchange=rabbit.exchange,
                        routing_key=topic,
                        properties=distorted(chance),
                    )
                    taken.add(value)
        await inbox.has(taken)
    assert len(taken) > 20
    assert len(inbox.messages) == len(taken), "none came twice"
    assert log.text.count("\n") <= 1


class Bytes(str):
    """A routing key that the client itself would never send."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return super().encode("latin-1")


async def test_a_routing_key_that_is_no_text_is_an_unknown_topic(
    rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that another exchange brought with any routing key is dead-lettered."""
    backoff = Backoff(first=0.05, longest=0.1)
    monkeypatch.setattr("pyfly_messaging.adapters.rabbitmq.unknown_topics.BACKOFF", backoff)
    topic, group, inbox = rabbit.name("orders"), rabbit.name("group"), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(topic, inbox, group)
    await broker.start()
    fanout = rabbit.name("fanout")
    async with rabbit.channel() as channel:
        await channel.exchange_declare(fanout, exchange_type="fanout")
        await channel.queue_bind(group, fanout)
        await channel.basic_publish(
            b"value",
            exchange=fanout,
            routing_key=Bytes(f"\xff{rabbit.prefix}"),
            properties=aiormq.spec.Basic.Properties(delivery_mode=2),
        )
        await channel.exchange_delete(fanout)
    queue = f"pyfly._xff{rabbit.prefix}.dlt"
    letter = await rabbit.take(queue)
    await rabbit.delete(queue)
    assert letter.body == b"value"
    headers = letter.header.properties.headers
    assert headers["x-pyfly-original-topic"] == f"\\xff{rabbit.prefix}"
    await broker.publish(topic, b"next")
    assert await inbox.take(1) == [Message(topic, b"next")]


async def test_a_message_that_cannot_be_decoded_holds_up_no_other(
    rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be decoded twice is dead-lettered, whatever it raises; others are handled."""

    def decoding(delivery: Delivery, topic: str) -> Message:
        if delivery.body == b"poison":
            raise RecursionError("too deep")
        return decode(delivery, topic)

    monkeypatch.setattr("pyfly_messaging.adapters.rabbitmq.session.decode", decoding)
    topic, group, inbox = rabbit.name("orders"), rabbit.name("group"), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(topic, inbox, group)
    await broker.start()
    values = [b"1", b"poison", b"2", b"poison", b"3"]
    with caught_logs("pyfly_messaging.rabbitmq") as log:
        await broker.publish_many(Message(topic, value, headers={"a": "b"}) for value in values)
        letters = [await rabbit.take(f"pyfly.{topic}.dlt") for _ in range(2)]
        await inbox.take(3)
    assert inbox.values == [b"1", b"2", b"3"]
    for letter in letters:
        assert letter.body == b"poison"
        why = {"x-pyfly-exception": "RecursionError", "x-pyfly-original-group": group}
        assert letter.header.properties.headers.items() >= why.items()
    assert "not consumed" not in log.text
    await broker.stop()
    assert await rabbit.count(group) == 0
