"""Dead letters of messages that RabbitMQ brought, and does not carry once more as they were."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiormq import spec

from pyfly_messaging import Message
from pyfly_messaging.delivery.backoff import Backoff
from pyfly_messaging.errors import PublishError
from tests.brokers import RabbitCluster
from tests.integration.rabbit import Inbox, Rabbit, caught_logs, eventually, rabbit_at
from tests.integration.test_rabbitmq_foreign import TEXT, Raw, entry, table

pytestmark = pytest.mark.rabbitmq

OMITTED = "x-pyfly-omitted"
HEADERS = 1 << 13
"""The property flag of a table of headers."""


@pytest.fixture
async def rabbit(rabbitmq: RabbitCluster) -> AsyncIterator[Rabbit]:
    async with rabbit_at(rabbitmq.url) as rabbit:
        yield rabbit


async def fails(message: Message) -> None:
    raise ValueError("no such order")


def headers(**content: Any) -> spec.Basic.Properties:
    return spec.Basic.Properties(delivery_mode=2, headers=content)


def raw(*entries: bytes) -> Raw:
    return Raw(HEADERS, table(*entries))


LONG = 130_900
"""Bytes that a publisher can send as one header, and that leave no room for ours."""

# What is published, and what the dead letter has of it: its key, some of its headers, how many
# there are, and what it lacks.
CONTENTS: dict[str, tuple[spec.Basic.Properties, bytes | None, dict[str, str], str | None]] = {
    "key": (headers(**{"x-pyfly-key": "k" * (LONG - 30), "a": "b"}), None, {"a": "b"}, "key"),
    "key and header": (
        headers(**{"x-pyfly-key": "k" * 65_000, "b": "v" * 65_700, "a": "b"}),
        b"k" * 65_000,
        {"a": "b"},
        "headers",
    ),
    "binary key": (headers(**{"x-pyfly-key": bytearray(b"\xff\x00")}), b"\xff\x00", {}, None),
    "header": (headers(huge="v" * LONG), None, {}, "headers"),
    "10,000 headers": (
        headers(**{f"{number:05}": "" for number in range(10_000)}),
        None,
        {f"{number:05}": "" for number in range(10_000)},
        None,
    ),
    "too many headers": (
        headers(**{f"{number:05}": "x" for number in range(10_890)}),
        None,
        {f"{number:05}": "x" for number in range(10_000)},
        "headers",
    ),
    "names": (
        raw(entry(b"n" * 128, TEXT), entry(b"m" * 129, TEXT), entry("ü".encode() * 127, TEXT)),
        None,
        {"n" * 128: "text", "m" * 128: "text", "ü" * 64: "text"},
        "headers",
    ),
    "no name": (raw(entry(b"", TEXT)), None, {"": "text"}, None),
    "a name twice": (raw(entry(b"a", TEXT), entry(b"a", TEXT)), None, {"a": "text"}, None),
    "routes": (
        headers(CC=["elsewhere", 'a"b'], BCC=["nowhere"]),
        None,
        {"CC'": '["elsewhere", "a\\"b"]'},
        None,
    ),
    "control characters": (
        headers(**{"\x1b[31mred\x07\n": "\x00\x1b]0;title\x07\r\n", "x-pyfly-key": "\x1b[0m"}),
        b"\x1b[0m",
        {"\x1b[31mred\x07\n": "\x00\x1b]0;title\x07\r\n"},
        None,
    ),
    "deaths": (
        headers(
            **{
                "x-death": [
                    {"queue": f"q{n}", "reason": "rejected", "routing-keys": ["a"], "count": n}
                    for n in range(1_500)
                ],
                "a": "b",
            }
        ),
        None,
        {"a": "b"},
        None,
    ),
}


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
@pytest.mark.parametrize("content", CONTENTS)
async def test_what_can_be_kept_of_a_message_is_dead_lettered(
    rabbit: Rabbit, content: str, queue_type: str
) -> None:
    """A message that cannot be published as it came is dead-lettered, with what it lacks named."""
    properties, key, kept, omitted = CONTENTS[content]
    topic, group = rabbit.name("orders"), rabbit.name("group")
    broker = rabbit.adapter(queue_type=queue_type)
    await broker.subscribe(topic, fails, group)
    await broker.start()
    with caught_logs("pyfly_messaging.rabbitmq") as log:
        async with rabbit.channel() as channel:
            await channel.basic_publish(
                b"value", exchange=rabbit.exchange, routing_key=topic, properties=properties
            )
        letter = await rabbit.take(f"pyfly.{topic}.dlt")
    found = letter.header.properties.headers
    assert letter.body == b"value"
    assert found.items() >= (kept | {"x-pyfly-original-topic": topic}).items()
    assert found["x-pyfly-exception-message"] == "no such order"
    assert _bytes(found.get("x-pyfly-key")) == key
    assert found.get(OMITTED) == omitted
    assert log.text.count("\n") == (omitted is not None)
    await broker.stop()
    assert await rabbit.count(group) == 0


def _bytes(key: Any) -> bytes | None:
    return key.encode() if isinstance(key, str) else key


async def test_what_cannot_be_kept_of_an_unknown_topic(
    rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that no handler listens to is dead-lettered as far as it can be kept, too."""
    backoff = Backoff(first=0.05, longest=0.1)
    monkeypatch.setattr("pyfly_messaging.adapters.rabbitmq.unknown_topics.BACKOFF", backoff)
    group, gone = rabbit.name("group"), rabbit.name("gone")
    before = rabbit.adapter()
    await before.subscribe(gone, Inbox(), group)
    await before.start()
    await before.stop()
    broker = rabbit.adapter()
    await broker.subscribe(rabbit.name("known"), Inbox(), group)
    await broker.start()
    key = {"x-pyfly-key": "k" * (LONG - 30)}
    await rabbit.publish(gone, b"value", headers={**key, "a": "b"})
    letter = await rabbit.take(f"pyfly.{gone}.dlt")
    assert letter.body == b"value"
    assert letter.header.properties.headers.items() >= {"a": "b", OMITTED: "key"}.items()


async def test_a_publish_of_what_rabbitmq_does_not_carry_is_refused(rabbit: Rabbit) -> None:
    """The user's own message is not cut: what cannot be carried raises, and other messages go."""
    topic, inbox = rabbit.name("orders"), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(topic, inbox)
    await broker.start()
    with pytest.raises(PublishError, match="the key has 131000 bytes; RabbitMQ carries at most"):
        await broker.publish(topic, b"", key=b"k" * 131_000)
    with pytest.raises(PublishError, match=r"the headers take .* RabbitMQ carries at most"):
        await broker.publish(topic, b"", headers={"a": "v" * 131_000})
    with pytest.raises(PublishError, match="names of at most 128"):
        await broker.publish(topic, b"", headers={"n" * 129: ""})
    routes = {"CC": "elsewhere", "BCC": "nowhere"}
    await broker.publish(topic, b"value", headers=routes)
    assert await inbox.take(1) == [Message(topic, b"value", None, routes)]


async def control(rabbitmq: RabbitCluster, *arguments: str) -> str:
    """Run `rabbitmqctl` while the event loop goes on."""
    if rabbitmq.origin == "PYFLY_TEST_RABBITMQ":
        pytest.skip("rabbitmqctl does not reach it")
    return (await asyncio.to_thread(rabbitmq.control, *arguments)).strip()


async def limit_messages(rabbitmq: RabbitCluster, size: str) -> str:
    """Have RabbitMQ take no larger message; return the limit of before."""
    return await control(
        rabbitmq,
        "eval",
        "{ok, Before} = application:get_env(rabbit, max_message_size),"
        f" application:set_env(rabbit, max_message_size, {size}),"
        # Where RabbitMQ 4 looks.
        " case persistent_term:get(max_message_size, none) of"
        f" none -> ok; _ -> persistent_term:put(max_message_size, {size}) end, Before.",
    )


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
async def test_a_value_that_rabbitmq_refuses_does_not_keep_a_message_for_ever(
    rabbit: Rabbit, rabbitmq: RabbitCluster, queue_type: str
) -> None:
    """When the largest message was made smaller, a dead letter has all but the value."""
    topic, group = rabbit.name("orders"), rabbit.name("group")
    before = rabbit.adapter(queue_type=queue_type)
    await before.subscribe(topic, Inbox(), group)
    await before.start()
    await before.stop()
    await rabbit.publish(topic, b"v" * 5000, headers={"x-pyfly-key": "key", "a": "b"})
    limit = await limit_messages(rabbitmq, "1000")
    try:
        broker = rabbit.adapter(queue_type=queue_type)
        await broker.subscribe(topic, fails, group)
        with caught_logs("pyfly_messaging.rabbitmq") as log:
            await broker.start()
            letter = await rabbit.take(f"pyfly.{topic}.dlt")
        assert letter.body == b""
        kept = {"x-pyfly-key": "key", "a": "b", "x-pyfly-original-topic": topic}
        why = {OMITTED: "value", "x-pyfly-original-size": "5000"}
        assert letter.header.properties.headers.items() >= (kept | why).items()
        assert "without the value of its message, of 5000 bytes" in log.text
        with pytest.raises(PublishError, match="message size"):
            await broker.publish(topic, b"v" * 5000)
        await broker.publish(topic, b"next")
        assert (await rabbit.take(f"pyfly.{topic}.dlt")).body == b"next"
        await broker.stop()
        assert await rabbit.count(group) == 0
    finally:
        await limit_messages(rabbitmq, limit)


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
async def test_a_full_dead_letter_queue_takes_nothing_away(
    rabbit: Rabbit, rabbitmq: RabbitCluster, queue_type: str
) -> None:
    """A dead letter that its queue has no room for is tried again, whole, until there is room."""
    topic, group, letters = rabbit.name("orders"), rabbit.name("group"), f"pyfly.{rabbit.prefix}"
    definition = '{"max-length-bytes": 1500, "overflow": "reject-publish"}'
    policy = ("--apply-to", "queues", rabbit.prefix, f"^{letters}-orders.dlt$", definition)
    await control(rabbitmq, "set_policy", *policy)
    try:
        broker = rabbit.adapter(queue_type=queue_type)
        await broker.subscribe(topic, fails, group)
        await broker.start()
        values = {bytes((number,)) * 1000 for number in range(5)}
        with caught_logs("pyfly_messaging.delivery") as log:
            for value in values:
                await broker.publish(topic, value, key=value)
            await eventually(lambda: log.text.count("not confirmed") >= 2)
        taken = [await rabbit.take(f"pyfly.{topic}.dlt") for _ in values]
        assert {letter.body for letter in taken} == values
        assert not any(OMITTED in letter.header.properties.headers for letter in taken)
        await broker.stop()
        assert await rabbit.count(group) == 0
    finally:
        await control(rabbitmq, "clear_policy", rabbit.prefix)
