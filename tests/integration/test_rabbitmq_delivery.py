"""What is published on RabbitMQ arrives where and as it should."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiormq
import pytest
from aiormq.channel import Channel

from pyfly_messaging import Message
from pyfly_messaging.adapters.rabbitmq.codec import Delivery, decode
from pyfly_messaging.errors import BatchPublishError, PublishError, UnroutableError
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from tests.brokers import RabbitCluster
from tests.integration.rabbit import (
    QUICK,
    Gate,
    Inbox,
    Rabbit,
    caught_logs,
    eventually,
    others,
    rabbit_at,
)

pytestmark = pytest.mark.rabbitmq


@pytest.fixture
async def rabbit(rabbitmq: RabbitCluster) -> AsyncIterator[Rabbit]:
    async with rabbit_at(rabbitmq.url) as rabbit:
        yield rabbit


@pytest.mark.parametrize("key", [None, b"", b"customer-42", b"\x00\xff\xfe", "gr\u00fcn".encode()])
async def test_a_key_arrives_byte_for_byte(rabbit: Rabbit, key: bytes | None) -> None:
    """A key arrives as it was published, also empty and also when it is no text."""
    topic, inbox = rabbit.name("keys"), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(topic, inbox)
    await broker.start()
    await broker.publish(topic, b"value", key=key)
    (message,) = await inbox.take(1)
    assert message == Message(topic, b"value", key)


@pytest.mark.parametrize("value", [b"", b"\x00", bytes(range(256)), b"x" * 300_000])
async def test_a_value_arrives_byte_for_byte(rabbit: Rabbit, value: bytes) -> None:
    """A value arrives as it was published: empty, binary, and larger than a frame."""
    topic, inbox = rabbit.name("values"), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(topic, inbox)
    await broker.start()
    await broker.publish(topic, value)
    (message,) = await inbox.take(1)
    assert message.value == value


async def test_headers_arrive_as_they_were(rabbit: Rabbit) -> None:
    """Headers arrive as published, even those that are named like the one that carries the key."""
    topic, inbox = rabbit.name("headers"), Inbox()
    headers = {"a": "", "ü": "snow ☃", "x-pyfly-key": "mine", "x-pyfly-key'": "too", "n" * 128: "v"}
    broker = rabbit.adapter()
    await broker.subscribe(topic, inbox)
    await broker.start()
    await broker.publish(topic, b"", key=b"key", headers=headers)
    await broker.publish(topic, b"", headers=headers)
    messages = await inbox.take(2)
    assert messages == [Message(topic, b"", b"key", headers), Message(topic, b"", None, headers)]


@pytest.mark.parametrize("headers", [{"n" * 129: "v"}, {"name": "v" * 131_072}])
async def test_headers_that_rabbitmq_cannot_carry_are_refused(
    rabbit: Rabbit, headers: dict[str, str]
) -> None:
    """Headers that would be cut, or would end the connection, are refused and do no harm."""
    topic, inbox = rabbit.name("headers"), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(topic, inbox)
    await broker.start()
    with pytest.raises(PublishError, match="RabbitMQ carries"):
        await broker.publish(topic, b"", headers=headers)
    await broker.publish(topic, b"next", headers={"name": "v" * 129_000})
    await inbox.take(1)


async def test_a_group_shares_its_messages(rabbit: Rabbit) -> None:
    """Each message goes to one handler of a group, be they in one process or in two."""
    topic, group = rabbit.name("orders"), rabbit.name("group")
    handlers = [Inbox() for _ in range(3)]
    first, second = rabbit.adapter(), rabbit.adapter()
    await first.subscribe(topic, handlers[0], group)
    await first.subscribe(topic, handlers[1], group)
    await second.subscribe(topic, handlers[2], group)
    await first.start()
    await second.start()
    published = {str(number).encode() for number in range(60)}
    await asyncio.gather(*(first.publish(topic, value) for value in published))
    await eventually(lambda: sum(len(handler.messages) for handler in handlers) >= 60)
    assert Counter(v for h in handlers for v in h.values) == Counter(published)
    assert all(handler.messages for handler in handlers)


async def test_different_groups_each_get_everything(rabbit: Rabbit) -> None:
    """Two groups on one topic each get every message."""
    topic, one, two = rabbit.name("orders"), Inbox(), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(topic, one, rabbit.name("one"))
    await broker.subscribe(topic, two, rabbit.name("two"))
    await broker.start()
    await broker.publish(topic, b"value")
    assert await one.take(1) == await two.take(1)


async def test_two_topics_in_one_group_are_kept_apart(rabbit: Rabbit) -> None:
    """A group's queue carries two topics, and a handler sees its own only."""
    group, created, cancelled = rabbit.name("group"), Inbox(), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(rabbit.name("created"), created, group)
    await broker.subscribe(rabbit.name("cancelled"), cancelled, group)
    await broker.start()
    assert {h.assigned for h in broker.health().consumers} == {(group,)}
    for number in range(10):
        stem = "created" if number % 2 else "cancelled"
        await broker.publish(rabbit.name(stem), str(number).encode())
    await created.take(5)
    await cancelled.take(5)
    assert created.values == [b"1", b"3", b"5", b"7", b"9"]
    assert cancelled.values == [b"0", b"2", b"4", b"6", b"8"]


async def test_a_queue_for_each_topic_of_a_group(rabbit: Rabbit) -> None:
    """With queue-naming group-topic each topic of a group has a queue of its own."""
    group, inbox = rabbit.name("group"), Inbox()
    broker = rabbit.adapter(queue_naming="group-topic")
    await broker.subscribe(rabbit.name("a"), inbox, group)
    await broker.subscribe(rabbit.name("b"), inbox, group)
    await broker.start()
    queues = {h.assigned for h in broker.health().consumers}
    assert queues == {(f"{group}.{rabbit.name('a')}",), (f"{group}.{rabbit.name('b')}",)}
    await broker.publish(rabbit.name("a"), b"a")
    await broker.publish(rabbit.name("b"), b"b")
    await inbox.has({b"a", b"b"})


async def test_every_handler_without_a_group_gets_every_message(rabbit: Rabbit) -> None:
    """Handlers without a group in one process each get every message of the shared queue."""
    topic, handlers = rabbit.name("news"), [Inbox() for _ in range(3)]
    broker = rabbit.adapter()
    for handler in handlers:
        await broker.subscribe(topic, handler)
    await broker.start()
    await broker.publish(topic, b"value")
    for handler in handlers:
        await handler.take(1)
    assert broker.health().consumers[0].assigned == (f"pyfly.{topic}",)


async def test_broadcast_shared_spreads_over_processes(rabbit: Rabbit) -> None:
    """With broadcast shared, the default, two processes share the messages without a group."""
    topic, one, two = rabbit.name("news"), Inbox(), Inbox()
    first, second = rabbit.adapter(), rabbit.adapter()
    await first.subscribe(topic, one)
    await second.subscribe(topic, two)
    await first.start()
    await second.start()
    for number in range(10):
        await first.publish(topic, str(number).encode())
    await eventually(lambda: len(one.messages) + len(two.messages) >= 10)
    assert Counter(one.values + two.values) == Counter(str(n).encode() for n in range(10))


async def test_broadcast_instance_reaches_every_process(rabbit: Rabbit) -> None:
    """With broadcast instance each process gets every message, in a queue that ends with it."""
    topic, one, two = rabbit.name("news"), Inbox(), Inbox()
    first = rabbit.adapter(broadcast="instance")
    second = rabbit.adapter(broadcast="instance")
    await first.subscribe(topic, one)
    await second.subscribe(topic, two)
    await first.start()
    await second.start()
    await first.publish(topic, b"value")
    assert await one.take(1) == await two.take(1)
    await second.stop()
    await first.publish(topic, b"next")
    await one.take(2)
    await first.stop()
    await second.start()
    await second.publish(topic, b"last")
    await two.take(2)
    assert two.values == [b"value", b"last"]


async def test_an_unroutable_message_raises(rabbit: Rabbit) -> None:
    """A message that no queue takes raises, and the next publish works."""
    topic, inbox = rabbit.name("orders"), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(topic, inbox)
    await broker.start()
    with pytest.raises(UnroutableError, match=rabbit.name("nobody")):
        await broker.publish(rabbit.name("nobody"), b"value")
    await broker.publish(topic, b"value")
    await inbox.take(1)


async def test_an_unroutable_message_can_be_dropped(rabbit: Rabbit) -> None:
    """With unroutable drop, a message that no queue takes is published in vain."""
    broker = rabbit.adapter(unroutable="drop")
    await broker.start()
    await broker.publish(rabbit.name("nobody"), b"value")


async def test_a_message_that_is_refused_fails_alone(rabbit: Rabbit) -> None:
    """RabbitMQ closes the channel for one message it refuses; only that one raises."""
    topic, inbox = rabbit.name("orders"), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(topic, inbox, policy=ListenerPolicy(concurrency=8))
    await broker.start()
    async with rabbit.channel() as channel:
        await channel.exchange_delete(rabbit.exchange)
        await channel.exchange_declare(rabbit.exchange, exchange_type="direct", durable=True)
        await channel.queue_bind(f"pyfly.{topic}", rabbit.exchange, routing_key=topic)
    published = [broker.publish(topic, str(n).encode()) for n in range(20)]
    # The default limit of RabbitMQ 3.10 is 128 MiB for one message.
    published.insert(10, broker.publish(topic, bytes(135 * 1024 * 1024)))
    outcomes = await asyncio.gather(*published, return_exceptions=True)
    assert [i for i, outcome in enumerate(outcomes) if outcome is not None] == [10]
    with pytest.raises(PublishError, match="message size"):
        raise outcomes[10]  # type: ignore[misc]
    await inbox.has({str(n).encode() for n in range(20)})


async def test_a_confirmed_message_is_confirmed_whatever_its_channel_does_then(
    rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that was sent alone raises nothing when its channel cannot be closed any more."""
    broker = rabbit.adapter(unroutable="drop")
    await broker.start()
    async with rabbit.channel() as channel:
        await channel.exchange_delete(rabbit.exchange)
    closed, closes = list[Channel](), Channel.close

    async def close(self: Channel, *args: Any, **kwargs: Any) -> None:
        await closes(self, *args, **kwargs)
        if self.publisher_confirms:
            closed.append(self)
            raise aiormq.exceptions.ConnectionClosed(320, "lost at this moment")

    with monkeypatch.context() as patch:
        patch.setattr(Channel, "close", close)
        await broker.publish(rabbit.name("nobody"), b"value")
    assert closed


async def test_publish_many_names_what_was_not_taken(rabbit: Rabbit) -> None:
    """Of several messages those that no queue takes are named, and the others arrive."""
    topic, nowhere, inbox = rabbit.name("orders"), rabbit.name("nobody"), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(topic, inbox)
    await broker.start()
    batch = [Message(topic, b"0"), Message(nowhere, b"1"), Message(topic, b"2", b"key")]
    with pytest.raises(BatchPublishError) as caught:
        await broker.publish_many(batch)
    ((position, error),) = caught.value.failed
    assert position == 1
    assert isinstance(error, UnroutableError)
    assert await inbox.take(2) == [batch[0], batch[2]]
    await broker.publish_many(Message(topic, str(n).encode()) for n in range(2500))
    await inbox.take(2502)


async def test_a_failing_message_is_retried_and_dead_lettered(rabbit: Rabbit) -> None:
    """A message whose retries are spent goes to the dead-letter topic with all that it had."""
    topic, group, letters = rabbit.name("orders"), rabbit.name("group"), Inbox()
    attempts: list[Message] = []

    async def fails(message: Message) -> None:
        attempts.append(message)
        raise ValueError("no such order")

    broker = rabbit.adapter()
    await broker.subscribe(topic, fails, group)
    await broker.subscribe(f"{topic}.dlt", letters)
    await broker.start()
    await broker.publish(topic, b"value", key=b"\xff", headers={"a": "b"})
    (letter,) = await letters.take(1)
    assert len(attempts) == 2
    assert (letter.topic, letter.value, letter.key) == (f"{topic}.dlt", b"value", b"\xff")
    assert (
        letter.headers.items()
        >= {
            "a": "b",
            "x-pyfly-original-topic": topic,
            "x-pyfly-original-group": group,
            "x-pyfly-attempts": "2",
            "x-pyfly-exception": "ValueError",
            "x-pyfly-exception-message": "no such order",
        }.items()
    )
    await broker.stop()
    assert await rabbit.count(group) == 0


async def test_a_dead_letter_waits_for_somebody_to_read_it(rabbit: Rabbit) -> None:
    """The queue of the dead-letter topic exists before anybody listens to it."""
    topic, group = rabbit.name("orders"), rabbit.name("group")

    async def fails(message: Message) -> None:
        raise ValueError

    broker = rabbit.adapter()
    await broker.subscribe(topic, fails, group)
    await broker.start()
    await broker.publish(topic, b"value")
    await rabbit.counts(f"pyfly.{topic}.dlt", 1)
    inbox = Inbox()
    await broker.subscribe(f"{topic}.dlt", inbox)
    await inbox.take(1)


async def test_without_a_confirmed_dead_letter_nothing_is_acknowledged(rabbit: Rabbit) -> None:
    """A message stays in its queue while its dead letter cannot be published."""
    topic, group = rabbit.name("orders"), rabbit.name("group")

    async def fails(message: Message) -> None:
        raise ValueError

    broker = rabbit.adapter(timeouts=Timeouts(publish=1.0, shutdown=5.0))
    await broker.subscribe(topic, fails, group)
    await broker.start()
    await rabbit.delete(f"pyfly.{topic}.dlt")
    async with rabbit.channel() as channel:
        await channel.queue_declare(f"pyfly.{topic}.dlt")  # which is another than ours
    with caught_logs("pyfly_messaging.delivery") as log:
        await broker.publish(topic, b"value")
        await eventually(lambda: log.text.count("not confirmed") >= 2)
    assert "inequivalent arg" in log.text
    await broker.stop()
    await rabbit.counts(group, 1)


async def test_a_dead_letter_queue_that_was_deleted_comes_back(rabbit: Rabbit) -> None:
    """A dead letter whose queue was deleted meanwhile declares it, also when publishes may drop."""
    topic, group = rabbit.name("orders"), rabbit.name("group")

    async def fails(message: Message) -> None:
        raise ValueError

    broker = rabbit.adapter(unroutable="drop")
    await broker.subscribe(topic, fails, group)
    await broker.start()
    await rabbit.delete(f"pyfly.{topic}.dlt")
    await broker.publish(topic, b"value")
    assert (await rabbit.take(f"pyfly.{topic}.dlt")).body == b"value"


async def test_headers_that_leave_no_room_do_not_keep_a_message_for_ever(rabbit: Rabbit) -> None:
    """A dead letter leaves out a header of another client that would leave no room for ours."""
    topic, group = rabbit.name("orders"), rabbit.name("group")

    async def fails(message: Message) -> None:
        raise ValueError

    broker = rabbit.adapter()
    await broker.subscribe(topic, fails, group)
    await broker.start()
    await rabbit.publish(topic, b"value", headers={"huge": "v" * 130_800, "a": "b"})
    letter = await rabbit.take(f"pyfly.{topic}.dlt")
    headers = letter.header.properties.headers
    assert headers.items() >= {"a": "b", "x-pyfly-original-topic": topic}.items()
    assert "huge" not in headers


async def test_messages_with_one_key_stay_in_order(rabbit: Rabbit) -> None:
    """With concurrency 8, messages of one key are handled in order and others meanwhile."""
    topic, group, inbox = rabbit.name("orders"), rabbit.name("group"), Inbox()
    running = peak = 0

    async def handler(message: Message) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0.002)
        running -= 1
        await inbox(message)

    broker = rabbit.adapter(policy=ListenerPolicy(concurrency=8))
    await broker.subscribe(topic, handler, group)
    await broker.start()
    for number in range(100):
        await broker.publish(topic, str(number).encode(), key=f"key-{number % 5}".encode())
    await inbox.take(100)
    for key in range(5):
        of_key = [int(m.value) for m in inbox.messages if m.key == f"key-{key}".encode()]
        assert of_key == sorted(of_key)
    assert 2 <= peak <= 5


async def test_a_settled_message_is_acknowledged_past_one_in_work(rabbit: Rabbit) -> None:
    """What is settled behind a message that is still in work does not come again."""
    topic, group, inbox = rabbit.name("orders"), rabbit.name("group"), Inbox()
    gate = Gate()

    async def handler(message: Message) -> None:
        await (gate if message.key == b"slow" else inbox)(message)

    broker = rabbit.adapter(policy=ListenerPolicy(concurrency=4), timeouts=Timeouts(shutdown=1.0))
    await broker.subscribe(topic, handler, group)
    await broker.start()
    await broker.publish(topic, b"slow", key=b"slow")
    await gate.entered.wait()
    for number in range(120):
        await broker.publish(topic, str(number).encode(), key=b"fast")
    await inbox.take(120)
    await broker.stop()
    await rabbit.counts(group, 1)
    assert gate.finished == []


async def test_prefetch_bounds_what_is_in_flight(rabbit: Rabbit) -> None:
    """A slow handler holds no more messages than the prefetch allows; the others wait."""
    topic, group, gate = rabbit.name("orders"), rabbit.name("group"), Gate()
    broker = rabbit.adapter(prefetch=5, timeouts=Timeouts(shutdown=1.0))
    await broker.subscribe(topic, gate, group)
    await broker.start()
    await broker.publish_many(Message(topic, str(n).encode()) for n in range(50))
    await rabbit.counts(group, 45)
    assert broker.health().consumers[0].in_flight == 5
    gate.open.set()
    await eventually(lambda: len(gate.finished) == 50)
    assert gate.finished == [str(n).encode() for n in range(50)]


async def test_prefetch_is_never_below_the_concurrency(rabbit: Rabbit) -> None:
    """A listener with a concurrency above the prefetch has as many handlers at once."""
    topic, group, running = rabbit.name("orders"), rabbit.name("group"), 0
    together = asyncio.Event()

    async def handler(message: Message) -> None:
        nonlocal running
        running += 1
        if running == 7:
            together.set()
        await together.wait()

    broker = rabbit.adapter(prefetch=2, policy=ListenerPolicy(concurrency=7))
    await broker.subscribe(topic, handler, group)
    await broker.start()
    await broker.publish_many([Message(topic, b"")] * 7)
    async with asyncio.timeout(10):
        await together.wait()


async def test_what_an_operator_moves_back_is_handled(rabbit: Rabbit) -> None:
    """A dead letter that is moved to its queue by the queue's name finds its handler."""
    topic, group, inbox = rabbit.name("orders"), rabbit.name("group"), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(topic, inbox, group)
    await broker.subscribe(rabbit.name("other"), Inbox(), group)
    await broker.start()
    async with rabbit.channel() as channel:
        await channel.basic_publish(
            b"moved",
            routing_key=group,
            properties=aiormq.spec.Basic.Properties(
                delivery_mode=2, headers={"x-pyfly-original-topic": topic}
            ),
        )
    (message,) = await inbox.take(1)
    assert message.topic == topic


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
async def test_a_restart_keeps_what_was_not_acknowledged(rabbit: Rabbit, queue_type: str) -> None:
    """A message in work at the stop is delivered again after the next start."""
    topic, group, gate, inbox = rabbit.name("orders"), rabbit.name("group"), Gate(), Inbox()
    first = rabbit.adapter(queue_type=queue_type, timeouts=Timeouts(shutdown=1.0))
    await first.subscribe(topic, gate, group)
    await first.start()
    await first.publish_many(Message(topic, str(n).encode()) for n in range(10))
    await gate.entered.wait()
    await first.stop()
    second = rabbit.adapter(queue_type=queue_type)
    await second.subscribe(topic, inbox, group)
    await second.start()
    await inbox.take(10)
    assert inbox.values == [str(n).encode() for n in range(10)]


async def test_a_handler_publishes(rabbit: Rabbit) -> None:
    """A handler may publish, to its own topic as well."""
    topic, group, inbox = rabbit.name("orders"), rabbit.name("group"), Inbox()
    broker = rabbit.adapter()

    async def handler(message: Message) -> None:
        if len(message.value) < 5:
            await broker.publish(topic, message.value + b"x")
        await inbox(message)

    await broker.subscribe(topic, handler, group)
    await broker.start()
    await broker.publish(topic, b"")
    await inbox.has({b"xxxxx"})


async def test_the_second_handler_of_a_group_can_want_more_at_once(rabbit: Rabbit) -> None:
    """A later handler's higher concurrency and dead-letter topic take effect while it runs."""
    topic, group, inbox = rabbit.name("orders"), rabbit.name("group"), Inbox()
    waiting, together = 0, asyncio.Event()

    async def slow(message: Message) -> None:
        nonlocal waiting
        waiting += 1
        if waiting == 4:
            together.set()
        await together.wait()

    broker = rabbit.adapter()
    await broker.subscribe(topic, inbox, group)
    await broker.start()
    wide = QUICK.replace(concurrency=4, dead_letter_topic=rabbit.name("dead"))
    await broker.subscribe(topic, slow, group, policy=wide)
    assert await rabbit.count(f"pyfly.{rabbit.name('dead')}") == 0
    await broker.publish_many([Message(topic, b"")] * 8)
    async with asyncio.timeout(10):
        await together.wait()


async def test_messages_come_without_a_task_for_each(rabbit: Rabbit) -> None:
    """What waits for a slow handler is data: no task of the client exists for each delivery."""
    topic, gate = rabbit.name("orders"), Gate()
    broker = rabbit.adapter()
    await broker.subscribe(topic, gate, rabbit.name("group"))
    await broker.start()
    before = len(others())
    await broker.publish_many([Message(topic, b"")] * 50)
    await eventually(lambda: broker.health().consumers[0].in_flight == 50)
    assert len(others()) <= before + 1
    gate.open.set()


async def test_a_fault_of_ours_leaves_no_message_behind(
    rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When taking over messages fails, they are delivered again instead of being held for ever."""
    faults = iter([True])

    def sometimes(delivery: Delivery, topic: str) -> Message:
        if next(faults, False):
            raise RuntimeError("a fault of ours")
        return decode(delivery, topic)

    monkeypatch.setattr("pyfly_messaging.adapters.rabbitmq.session.decode", sometimes)
    topic, inbox = rabbit.name("orders"), Inbox()
    broker = rabbit.adapter()
    await broker.subscribe(topic, inbox, rabbit.name("group"))
    await broker.start()
    with caught_logs("pyfly_messaging.rabbitmq") as log:
        await broker.publish(topic, b"value")
        await inbox.take(1)
    assert "a fault of ours" in log.text
    await eventually(lambda: broker.health().consumers[0].error is None)
