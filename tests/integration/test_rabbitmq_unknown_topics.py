"""Messages of a group that one of its processes does not know."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from pyfly_messaging import Message
from pyfly_messaging.delivery.backoff import Backoff
from tests.brokers import RabbitCluster
from tests.integration.rabbit import (
    QUICK,
    Inbox,
    Rabbit,
    caught_logs,
    eventually,
    rabbit_at,
)

pytestmark = pytest.mark.rabbitmq


@pytest.fixture
async def rabbit(rabbitmq: RabbitCluster) -> AsyncIterator[Rabbit]:
    async with rabbit_at(rabbitmq.url) as rabbit:
        yield rabbit


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hand back after pauses that a test can wait for."""
    backoff = Backoff(first=0.05, longest=0.4)
    monkeypatch.setattr("pyfly_messaging.adapters.rabbitmq.unknown_topics.BACKOFF", backoff)


async def test_an_unknown_topic_is_handed_to_a_process_that_knows_it(rabbit: Rabbit) -> None:
    """A message of a group whose topic one process does not know reaches the one that does."""
    group, known, fresh = rabbit.name("group"), rabbit.name("known"), rabbit.name("fresh")
    old, new = rabbit.adapter(), rabbit.adapter()
    one, two, three = Inbox(), Inbox(), Inbox()
    await old.subscribe(known, one, group)
    await old.start()
    await new.subscribe(known, two, group)
    await new.subscribe(fresh, three, group)
    await new.start()
    for number in range(6):
        await new.publish(fresh, str(number).encode())
        await new.publish(known, str(number).encode())
    await three.has({str(number).encode() for number in range(6)})
    await eventually(lambda: len(one.messages) + len(two.messages) >= 6)


@pytest.mark.usefixtures("quick")
async def test_a_topic_that_nobody_knows_is_dead_lettered(rabbit: Rabbit) -> None:
    """A message that no process of the group knows is dead-lettered; others are not held up."""
    group, known, gone = rabbit.name("group"), rabbit.name("known"), rabbit.name("gone")
    inbox = Inbox()
    before = rabbit.adapter()
    await before.subscribe(gone, Inbox(), group)
    await before.start()
    await before.stop()
    broker = rabbit.adapter()
    await broker.subscribe(known, inbox, group)
    await broker.start()
    await broker.publish(gone, b"stray", key=b"key", headers={"a": "b"})
    await broker.publish(known, b"value")
    await inbox.take(1, timeout=5)
    letter = await rabbit.take(f"pyfly.{gone}.dlt")
    assert letter.body == b"stray"
    assert letter.header.properties.headers["x-pyfly-original-topic"] == gone
    await broker.stop()
    assert await rabbit.count(group) == 0


@pytest.mark.usefixtures("quick")
async def test_a_stray_that_cannot_be_dead_lettered_stays(rabbit: Rabbit) -> None:
    """A message that nobody knows waits in its queue until its dead letter is confirmed."""
    group, gone = rabbit.name("group"), rabbit.name("gone")
    before = rabbit.adapter()
    await before.subscribe(gone, Inbox(), group, policy=QUICK.replace(dead_letter=False))
    await before.start()
    await before.stop()
    await rabbit.publish(gone, b"stray")
    async with rabbit.channel() as channel:
        await channel.queue_declare(f"pyfly.{gone}.dlt")  # which is another than ours
    broker = rabbit.adapter()
    await broker.subscribe(rabbit.name("known"), Inbox(), group)
    with caught_logs("pyfly_messaging.rabbitmq") as log:
        await broker.start()
        await eventually(lambda: log.text.count("tried again") >= 2)
    await rabbit.delete(f"pyfly.{gone}.dlt")
    assert (await rabbit.take(f"pyfly.{gone}.dlt")).body == b"stray"
    await broker.stop()
    assert await rabbit.count(group) == 0


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
async def test_strays_wait_for_a_busy_process_that_knows_them(
    rabbit: Rabbit, queue_type: str
) -> None:
    """What another process of the group listens to is not dead-lettered, however busy that is."""
    group, known, fresh = rabbit.name("group"), rabbit.name("known"), rabbit.name("fresh")
    handled: list[bytes] = []

    async def slow(message: Message) -> None:
        await asyncio.sleep(0.06)
        handled.append(message.value)

    new = rabbit.adapter(queue_type=queue_type, prefetch=10)
    await new.subscribe(known, Inbox(), group)
    await new.subscribe(fresh, slow, group)
    await new.start()
    old = rabbit.adapter(queue_type=queue_type, prefetch=10)
    await old.subscribe(known, Inbox(), group)
    await old.start()
    with caught_logs("pyfly_messaging.rabbitmq") as log:
        await new.publish_many(Message(fresh, str(n).encode()) for n in range(60))
        await eventually(lambda: len(handled) == 60)
    assert {*handled} == {str(n).encode() for n in range(60)}
    assert log.text.count("\n") == 1, "one line for the topic"
    assert await rabbit.count(f"pyfly.{fresh}.dlt") == 0


@pytest.mark.usefixtures("quick")
async def test_strays_do_not_stay_for_ever_among_processes_that_do_not_know_them(
    rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes that hand a message to each other dead-letter it in the end."""
    monkeypatch.setattr("pyfly_messaging.adapters.rabbitmq.unknown_topics.MAX_REQUEUES", 8)
    group, known, gone = rabbit.name("group"), rabbit.name("known"), rabbit.name("gone")
    before = rabbit.adapter()
    await before.subscribe(gone, Inbox(), group)
    await before.start()
    await before.stop()
    for _ in range(2):
        broker = rabbit.adapter()
        await broker.subscribe(known, Inbox(), group)
        await broker.start()
    await rabbit.publish(gone, b"stray", message_id="1")
    letter = await rabbit.take(f"pyfly.{gone}.dlt")
    assert letter.header.properties.headers["x-pyfly-attempts"] == "8"
