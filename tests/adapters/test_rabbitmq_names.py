"""Names, options, unknown topics and acknowledgements of the RabbitMQ adapter, without a broker."""

import inspect
import logging
from collections import deque

import aio_pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pyfly_messaging import Message, RabbitSettings
from pyfly_messaging.adapters.rabbitmq import RabbitMQAdapter
from pyfly_messaging.adapters.rabbitmq.options import ELSEWHERE, KNOWN, Options
from pyfly_messaging.adapters.rabbitmq.topology import DELIVERY_LIMIT, Queue, Topology
from pyfly_messaging.adapters.rabbitmq.unknown_topics import (
    BACKOFF,
    MAX_REQUEUES,
    REQUEUES_ALONE,
    UnknownTopics,
    dead_letter_topic,
)
from pyfly_messaging.delivery.ledger import Ledger
from pyfly_messaging.errors import PublishError
from pyfly_messaging.message import check_topic
from pyfly_messaging.policy import ListenerPolicy
from pyfly_messaging.ports import MessageBrokerPort


def topology(**settings: object) -> Topology:
    return Topology(RabbitSettings.model_validate(settings), ListenerPolicy())


def test_the_adapter_is_a_broker() -> None:
    """The adapter has the four methods of the port, and needs no broker to be made."""
    assert isinstance(RabbitMQAdapter(), MessageBrokerPort)
    assert isinstance(RabbitMQAdapter("amqp://user:pw@host/", "my-app"), MessageBrokerPort)


def test_an_address_that_is_none_is_refused() -> None:
    """A URL that is none is refused at construction, and its password is not repeated."""
    with pytest.raises(ValidationError) as caught:
        RabbitMQAdapter("http://user:s3cret@host/")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "group", "expected"),
    [
        ({}, "shop", Queue("shop")),
        ({}, None, Queue("pyfly.orders")),
        ({"queue_naming": "group-topic"}, "shop", Queue("shop.orders")),
        ({"queue_naming": "group-topic"}, None, Queue("pyfly.orders")),
        ({"broadcast": "instance"}, None, Queue("pyfly.orders", own=True)),
        ({"broadcast": "instance"}, "shop", Queue("shop")),
    ],
)
def test_names_of_queues(settings: dict[str, str], group: str | None, expected: Queue) -> None:
    """A queue is named after its group, else after its topic, as the settings say."""
    assert topology(**settings).queue("orders", group) == expected


def test_a_queue_name_that_is_too_long_is_refused() -> None:
    """A group and a topic that are too long together are refused before anything is declared."""
    with pytest.raises(ValueError, match="255"):
        topology(queue_naming="group-topic").queue("t" * 200, "g" * 200)


@given(st.text(min_size=1, max_size=300))
def test_unknown_topics_always_have_a_dead_letter_topic(routing_key: str) -> None:
    """A routing key that is no topic of ours has a dead-letter topic all the same."""
    for policy in (
        ListenerPolicy(),
        ListenerPolicy(dead_letter=False),
        ListenerPolicy(dead_letter_topic="a.long.{topic}.suffix"),
        ListenerPolicy(dead_letter_topic="dead"),
    ):
        check_topic(dead_letter_topic(routing_key, policy))


def test_unknown_topics_go_where_dead_letters_go() -> None:
    """The dead-letter topic of the settings holds for unknown topics too."""
    policy = ListenerPolicy(dead_letter_topic="dead.{topic}")
    assert dead_letter_topic("orders", policy) == "dead.orders"
    assert dead_letter_topic("or/ders", policy) == "dead.or_ders"
    policy = ListenerPolicy(dead_letter_topic="dead")
    assert dead_letter_topic("orders", policy) == "dead"
    assert dead_letter_topic("dead", policy) == "dead.dlt"


def test_options_are_the_clients_arguments() -> None:
    """Each argument of aio-pika's connection is an option, or names the setting that gives it."""
    given_by_us = {"loop", "connection_class", "kwargs"}
    arguments = set(inspect.signature(aio_pika.connect).parameters) - given_by_us
    arguments |= {parameter.name for parameter in aio_pika.Connection.PARAMETERS}
    assert arguments <= {*KNOWN, *ELSEWHERE}
    assert {*KNOWN} - arguments == {"name", "auth"}  # which aiormq reads from its URL


def test_options_go_where_they_belong() -> None:
    """The options name the connections, and go to the client, its URL and its socket."""
    options = Options.of(
        {"name": "shop", "auth": "external", "interleave": 1, "client_properties": {"a": "b"}}
    )
    assert options.client_properties("consuming") == {"connection_name": "shop consuming", "a": "b"}
    assert options.query == {"auth": "external"}
    assert options.socket == {"interleave": 1}


async def test_unknown_topics_are_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Each stray is counted for itself, a topic is logged once, and the dead letter says why."""
    letters: list[tuple[Message, str]] = []

    async def publish(letter: Message, topic: str) -> None:
        letters.append((letter, topic))

    unknown = UnknownTopics(publish, ListenerPolicy())
    message = Message("topic", b"1", b"k", {"a": "b"})
    with caplog.at_level(logging.WARNING):
        assert [unknown.count(message, "id", again=n > 0) for n in range(3)] == [0, 1, 2]
        assert unknown.count(message, "another id", again=True) == 0, (
            "another message that is alike"
        )
        assert unknown.count(message, None, again=True) == 0
        await unknown.dead_letter(message, "group", 7)
        await unknown.dead_letter(message, "group", 7)
    assert caplog.text.count("no handler of this process") == 1
    assert caplog.text.count("dead-lettered to topic.dlt") == 1
    (letter, topic), _ = letters
    assert (letter.topic, letter.value, letter.key, topic) == ("topic.dlt", b"1", b"k", "topic")
    assert letter.headers["x-pyfly-original-group"] == "group"
    assert "requeued 7 times" in letter.headers["x-pyfly-exception-message"]


def test_unknown_topics_without_an_id_are_told_by_what_they_are() -> None:
    """Messages without an id are counted by value and key; the oldest are forgotten in time."""
    unknown = UnknownTopics(_never, ListenerPolicy())
    assert unknown.count(Message("topic", b"1"), None, again=False) == 0
    assert unknown.count(Message("topic", b"1", b"key"), None, again=False) == 0
    assert unknown.count(Message("topic", b"1"), None, again=True) == 1
    for number in range(10_000):
        unknown.count(Message("topic", str(number).encode()), None, again=False)
    assert unknown.count(Message("topic", b"1", b"key"), None, again=True) == 0


def test_unknown_topics_are_counted_by_what_rabbitmq_says() -> None:
    """A message never delivered before counts as new, alike or not; another value is another."""
    unknown = UnknownTopics(_never, ListenerPolicy())
    for number in range(100):
        assert unknown.count(Message("topic", str(number).encode()), "id", again=False) == 0
    assert unknown.count(Message("topic", b"1"), "id", again=True) == 1
    assert unknown.count(Message("topic", b"1"), "id", again=False) == 0
    assert unknown.count(Message("topic", b"1"), "id", again=True) == 2, "not counted from anew"


def test_unknown_topics_wait_for_minutes_within_the_delivery_limit() -> None:
    """A stray stays half a minute when we are alone and ten minutes when not, in few deliveries."""
    pauses = [BACKOFF.pause(times, lambda: 0.5) for times in range(1, MAX_REQUEUES + 1)]
    assert sum(pauses[:REQUEUES_ALONE]) == 31
    assert 500 < sum(pauses) < 700
    assert MAX_REQUEUES < DELIVERY_LIMIT


async def _never(letter: Message, topic: str) -> None:
    raise AssertionError


async def test_a_dead_letter_that_fails_is_the_callers() -> None:
    """A stray whose dead letter is not confirmed is not settled."""

    async def publish(letter: Message, topic: str) -> None:
        raise PublishError("no")

    with pytest.raises(PublishError):
        await UnknownTopics(publish, ListenerPolicy()).dead_letter(Message("topic", b""), None, 5)


class RabbitChannel:
    """What RabbitMQ does with acknowledgements: an unknown delivery tag closes the channel."""

    def __init__(self, tags: range) -> None:
        self.unacknowledged = deque(tags)
        self.acknowledged: set[int] = set()

    def acknowledge(self, tag: int, *, multiple: bool) -> None:
        assert tag in self.unacknowledged, f"unknown delivery tag {tag}"
        done = [t for t in self.unacknowledged if t == tag or (multiple and t < tag)]
        self.acknowledged.update(done)
        self.unacknowledged = deque(t for t in self.unacknowledged if t not in done)

    def reject(self, tag: int) -> None:
        assert tag in self.unacknowledged
        self.unacknowledged.remove(tag)


@given(st.data())
def test_only_what_is_settled_is_acknowledged(data: st.DataObject) -> None:
    """However messages settle or are requeued, nothing unsettled is acknowledged, nor twice."""
    count = data.draw(st.integers(1, 12))
    channel, ledger = RabbitChannel(range(1, count + 1)), Ledger()
    ledger.take(range(1, count + 1))
    unknown = data.draw(st.sets(st.integers(1, count)))
    settled: set[int] = set()
    for tag in data.draw(st.permutations(range(1, count + 1))):
        if tag in unknown:
            ledger.withdraw(tag)
            channel.reject(tag)
        else:
            ledger.settle(tag)
            settled.add(tag)
        if data.draw(st.booleans()):
            flush(ledger, channel)
            assert channel.acknowledged <= settled
    flush(ledger, channel)
    assert channel.acknowledged == settled
    assert not channel.unacknowledged


def flush(ledger: Ledger, channel: RabbitChannel) -> None:
    up_to, singles = ledger.acknowledgeable()
    for tag in singles:
        channel.acknowledge(tag, multiple=False)
    if up_to is not None:
        channel.acknowledge(up_to, multiple=True)
