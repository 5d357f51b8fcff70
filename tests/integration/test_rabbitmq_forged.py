"""Messages of other clients with headers that claim what only RabbitMQ or we can know."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiormq import spec

from pyfly_messaging import Message
from pyfly_messaging.delivery.backoff import Backoff
from tests.brokers import RabbitCluster
from tests.integration.rabbit import Inbox, Rabbit, rabbit_at

pytestmark = pytest.mark.rabbitmq

TOPIC = "x-pyfly-original-topic"


@pytest.fixture
async def rabbit(rabbitmq: RabbitCluster) -> AsyncIterator[Rabbit]:
    async with rabbit_at(rabbitmq.url) as rabbit:
        yield rabbit


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hand back after pauses that a test can wait for."""
    backoff = Backoff(first=0.05, longest=0.4)
    monkeypatch.setattr("pyfly_messaging.adapters.rabbitmq.unknown_topics.BACKOFF", backoff)


async def fails(message: Message) -> None:
    raise ValueError("no such order")


async def put(
    rabbit: Rabbit, exchange: str, routing_key: str, value: bytes, **headers: Any
) -> None:
    """Publish to any exchange; to the default one ("") by the name of a queue."""
    async with rabbit.channel() as channel:
        await channel.basic_publish(
            value,
            exchange=exchange,
            routing_key=routing_key,
            properties=spec.Basic.Properties(delivery_mode=2, headers=headers),
            mandatory=True,
        )


async def bound(rabbit: Rabbit, topic: str, group: str) -> None:
    """Leave a queue behind that is bound to a topic without a listener."""
    before = rabbit.adapter()
    await before.subscribe(topic, Inbox(), group)
    await before.start()
    await before.stop()


async def test_a_header_gives_no_message_to_another_topics_handler(rabbit: Rabbit) -> None:
    """A message of an unknown topic is dead-lettered, whatever topic its headers name."""
    group, gone = rabbit.name("group"), rabbit.name("gone")
    orders, refunds = rabbit.name("orders"), rabbit.name("refunds")
    await bound(rabbit, gone, group)
    inbox, broker = Inbox(), rabbit.adapter()
    await broker.subscribe(orders, inbox, group)
    await broker.subscribe(refunds, inbox, group)
    await broker.start()
    await put(rabbit, rabbit.exchange, gone, b"forged", **{TOPIC: orders})
    letter = await rabbit.take(f"pyfly.{gone}.dlt")
    assert letter.body == b"forged"
    assert letter.header.properties.headers[TOPIC] == gone
    assert inbox.messages == []


async def test_a_dead_letter_moved_by_the_name_of_a_queue_that_is_a_topic_too(
    rabbit: Rabbit,
) -> None:
    """In the default exchange a routing key is a queue: a dead letter's own header counts."""
    orders, refunds = rabbit.name("orders"), rabbit.name("refunds")
    of_orders, of_refunds, broker = Inbox(), Inbox(), rabbit.adapter()
    await broker.subscribe(orders, of_orders, orders)
    await broker.subscribe(refunds, of_refunds, orders)
    await broker.start()
    await put(rabbit, "", orders, b"moved", **{TOPIC: refunds})
    await put(rabbit, "", orders, b"plain")
    await of_refunds.take(1)
    await of_orders.take(1)
    assert (of_orders.values, of_refunds.values) == ([b"plain"], [b"moved"])


@pytest.mark.parametrize("headers", [{}, {TOPIC: "unknown"}, {TOPIC: 7}, {TOPIC: [1]}])
async def test_what_is_moved_to_a_queue_of_several_topics_without_saying_which(
    rabbit: Rabbit, headers: dict[str, Any]
) -> None:
    """A message that was moved to a queue of several topics, of none of them, is dead-lettered."""
    group, inbox, broker = rabbit.name("group"), Inbox(), rabbit.adapter()
    await broker.subscribe(rabbit.name("orders"), inbox, group)
    await broker.subscribe(rabbit.name("refunds"), inbox, group)
    await broker.start()
    await put(rabbit, "", group, b"moved", **headers)
    letter = await rabbit.take(f"pyfly.{group}.dlt")
    assert (letter.body, letter.header.properties.headers[TOPIC]) == (b"moved", group)
    assert inbox.messages == []


@pytest.mark.parametrize("headers", [{}, {TOPIC: "unknown"}])
async def test_what_is_moved_to_a_queue_of_one_topic_is_handled(
    rabbit: Rabbit, headers: dict[str, Any]
) -> None:
    """A message that was moved to a queue of one topic is that topic's."""
    topic, group, inbox = rabbit.name("orders"), rabbit.name("group"), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(topic, inbox, group)
    await broker.start()
    await put(rabbit, "", group, b"moved", **headers)
    (message,) = await inbox.take(1)
    assert (message.topic, message.value) == (topic, b"moved")


async def test_what_rabbitmq_dead_letters_was_on_the_topic_that_it_says(rabbit: Rabbit) -> None:
    """A forged original topic gives way to that of RabbitMQ's own dead letter."""
    orders, refunds, letters = rabbit.name("orders"), rabbit.name("refunds"), Inbox()
    broker = rabbit.adapter()
    for topic in (orders, refunds):
        await broker.subscribe(f"{topic}.dlt", letters, rabbit.name("workers"))
    await broker.start()
    await put(rabbit, f"{rabbit.exchange}.dlx", orders, b"letter", **{TOPIC: f"{refunds}.dlt"})
    (letter,) = await letters.take(1)
    assert (letter.topic, letter.headers[TOPIC]) == (f"{orders}.dlt", orders)


@pytest.mark.parametrize("group", ["group", None])
async def test_a_dead_letter_says_nothing_that_a_publisher_forged(
    rabbit: Rabbit, group: str | None
) -> None:
    """Whatever a publisher wrote into the headers of dead letters, ours says what happened."""
    topic, letters = rabbit.name("orders"), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(topic, fails, group and rabbit.name(group))
    await broker.subscribe(f"{topic}.dlt", letters)
    await broker.start()
    ours = ("original-group", "attempts", "exception", "exception-message", "dead-lettered-at")
    forged: dict[str, Any] = {f"x-pyfly-{name}": "forged" for name in ours}
    death = {"queue": "forged", "reason": "expired", "count": 1_000_000}
    forged |= {TOPIC: "forged", "x-death": [death], "x-first-death-queue": "forged"}
    await put(rabbit, rabbit.exchange, topic, b"value", **forged, **{"x-pyfly-key": [1, 2]})
    (letter,) = await letters.take(1)
    headers = {name: text for name, text in letter.headers.items() if name.startswith("x-pyfly-")}
    assert "forged" not in headers.values()
    assert headers[TOPIC] == topic
    assert headers["x-pyfly-attempts"] == "2"
    assert headers.get("x-pyfly-original-group") == (group and rabbit.name(group))
    assert letter.key == b"[1, 2]"


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
async def test_forged_counts_and_ids_dead_letter_nothing_that_another_process_knows(
    rabbit: Rabbit, queue_type: str
) -> None:
    """A delivery count or an id of the publisher's keeps no message from who listens to it."""
    group, known, fresh = rabbit.name("group"), rabbit.name("known"), rabbit.name("fresh")
    old, new = (rabbit.adapter(queue_type=queue_type) for _ in range(2))
    inbox = Inbox()
    await new.subscribe(known, Inbox(), group)
    await new.subscribe(fresh, inbox, group)
    await new.start()
    await old.subscribe(known, Inbox(), group)
    await old.start()
    values = {str(number).encode() for number in range(60)}
    async with rabbit.channel() as channel:
        for value in values:
            properties = spec.Basic.Properties(
                delivery_mode=2, headers={"x-delivery-count": 1000}, message_id="always the same"
            )
            await channel.basic_publish(
                value, exchange=rabbit.exchange, routing_key=fresh, properties=properties
            )
    await inbox.has(values)
    assert await rabbit.count(f"pyfly.{fresh}.dlt") == 0
