"""The in-memory broker, sentence by sentence of the contract."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, tzinfo
from typing import Any

import pytest

from pyfly_messaging.adapters.memory import InMemoryMessageBroker
from pyfly_messaging.delivery import dead_letter as dead_letters
from pyfly_messaging.errors import BatchPublishError, NotStartedError, PublishError
from pyfly_messaging.health import ConsumerHealth, Health
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.ports import MessageBrokerPort, MessageHandler
from pyfly_messaging.settings import MemorySettings
from tests.delivery.clock import VirtualLoop, on_virtual_time, turns

STOPPED = "the broker was stopped before every handler had settled the message"


class Wrecked(BaseException):
    """An exception that is no `Exception`."""


class Service:
    """A handler that keeps what it gets, and does something about it."""

    def __init__(self, act: Callable[[Message], Any] | None = None) -> None:
        self.got: list[Message] = []
        self.running = 0
        self.at_once = 0
        self._act = act

    async def on_message(self, message: Message) -> None:
        self.got.append(message)
        self.running += 1
        self.at_once = max(self.at_once, self.running)
        try:
            if self._act is not None:
                result = self._act(message)
                if result is not None:
                    await result
        finally:
            self.running -= 1

    @property
    def values(self) -> list[str]:
        return [message.value.decode() for message in self.got]


def policy(**fields: Any) -> ListenerPolicy:
    """Return a policy without jitter."""
    return ListenerPolicy(**{"retry_jitter": 0.0, **fields})


@asynccontextmanager
async def running(
    broker: InMemoryMessageBroker | None = None, **options: Any
) -> AsyncIterator[InMemoryMessageBroker]:
    """Start a broker, and stop it afterwards."""
    options.setdefault("policy", policy())
    broker = broker or InMemoryMessageBroker(**options)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


def fails(*errors: BaseException) -> Callable[[Message], None]:
    """Return what raises these errors, one at each call, and then nothing."""
    left = list(errors)

    def act(message: Message) -> None:
        if left:
            raise left.pop(0)

    return act


def now() -> float:
    return asyncio.get_running_loop().time()


def others() -> set[asyncio.Task[Any]]:
    """Return the tasks beside the one that runs."""
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


def this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


class TestPublish:
    """A publish returns when every handler has settled the message."""

    def test_it_is_a_broker(self) -> None:
        """The broker offers the four methods of the port."""
        assert isinstance(InMemoryMessageBroker(), MessageBrokerPort)

    @pytest.mark.parametrize("key", [None, b"", b"key"])
    @pytest.mark.parametrize("headers", [None, {}, {"trace": "1"}])
    @on_virtual_time
    async def test_the_handler_gets_what_was_published(
        self, key: bytes | None, headers: dict[str, str] | None
    ) -> None:
        """Topic, value, key and headers arrive as they were published, the headers as a copy."""
        service = Service()
        async with running() as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.publish("orders", b"\x00\xff", key=key, headers=headers)
        (got,) = service.got
        assert got == Message("orders", b"\x00\xff", key, headers or {})
        assert hash(got) == hash(Message("orders", b"\x00\xff", key))
        assert got.headers is not headers

    @on_virtual_time
    async def test_messages_share_no_headers(self) -> None:
        """A handler that writes into the headers of one message changes no other."""
        service = Service(lambda message: message.headers.update(seen="1"))
        headers = {"trace": "1"}
        async with running() as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.publish("orders", b"a")
            await broker.publish("orders", b"b")
            await broker.publish("orders", b"c", headers=headers)
        assert [message.headers for message in service.got] == [
            {"seen": "1"},
            {"seen": "1"},
            {"trace": "1", "seen": "1"},
        ]
        assert headers == {"trace": "1"}

    @pytest.mark.parametrize("concurrency", [1, 3])
    @on_virtual_time
    async def test_it_waits_for_the_handlers(self, concurrency: int) -> None:
        """A publish takes as long as the slowest of the handlers, retries included."""
        slow = Service(lambda message: asyncio.sleep(2))
        flaky = Service(fails(ValueError(), ValueError()))
        async with running(policy=policy(concurrency=concurrency, retry_delay=3.0)) as broker:
            await broker.subscribe("orders", slow.on_message, "slow")
            await broker.subscribe("orders", flaky.on_message, "flaky")
            await broker.publish("orders", b"a")
            assert now() == 9.0
            assert (slow.values, flaky.values) == (["a"], ["a", "a", "a"])

    @pytest.mark.parametrize("concurrency", [1, 3])
    @on_virtual_time
    async def test_it_waits_for_the_last_one(self, concurrency: int) -> None:
        """A handler that fails when all others have settled is waited for until it is settled."""

        async def fails_late(message: Message) -> None:
            await asyncio.sleep(2)
            if len(late.got) == 1:
                raise ValueError(message)

        late, quick = Service(fails_late), Service()
        async with running(policy=policy(concurrency=concurrency, retry_delay=3.0)) as broker:
            await broker.subscribe("orders", late.on_message, "late")
            await broker.subscribe("orders", quick.on_message, "quick")
            await broker.publish("orders", b"a")
            assert now() == 7.0
        assert (late.values, quick.values) == (["a", "a"], ["a"])

    @on_virtual_time
    async def test_nobody_listens(self) -> None:
        """A message of a topic without listeners is gone."""
        late = Service()
        async with running() as broker:
            await broker.publish("orders", b"a")
            await broker.subscribe("orders", late.on_message)
            await broker.publish("orders", b"b")
        assert late.values == ["b"]

    @pytest.mark.parametrize(
        ("topic", "value", "options", "error"),
        [
            ("orders", "text", {}, TypeError),
            ("orders", bytearray(b"x"), {}, TypeError),
            ("orders", b"x", {"key": "text"}, TypeError),
            ("orders", b"x", {"headers": {"n": 1}}, TypeError),
            ("orders", b"x", {"headers": {"": "v"}}, ValueError),
            ("nobody listens", b"x", {}, ValueError),
            ("", b"x", {}, ValueError),
            (None, b"x", {}, TypeError),
            (["orders"], b"x", {}, TypeError),
        ],
    )
    @on_virtual_time
    async def test_what_no_broker_carries_is_refused(
        self, topic: Any, value: Any, options: dict[str, Any], error: type[Exception]
    ) -> None:
        """Wrong types and impossible names are refused, whether somebody listens or not."""
        service = Service()
        async with running() as broker:
            await broker.subscribe("orders", service.on_message)
            with pytest.raises(error):
                await broker.publish(topic, value, **options)
        assert service.got == []

    @on_virtual_time
    async def test_a_subclass_of_bytes_is_bytes(self) -> None:
        """What is checked is what a broker can carry, not the exact type."""

        class Payload(bytes):
            """Bytes of an application."""

        service = Service()
        async with running() as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.publish("orders", Payload(b"a"))
        assert service.values == ["a"]

    @on_virtual_time
    async def test_not_before_start_and_not_after_stop(self) -> None:
        """A broker that does not run takes no message."""
        service = Service()
        broker = InMemoryMessageBroker()
        await broker.subscribe("orders", service.on_message)
        with pytest.raises(NotStartedError, match="Broker is not running"):
            await broker.publish("orders", b"a")
        async with running(broker):
            await broker.publish("orders", b"b")
        with pytest.raises(RuntimeError, match="Broker is not running"):
            await broker.publish("orders", b"c")
        assert service.values == ["b"]

    def test_on_another_event_loop(self) -> None:
        """A broker that was started on another event loop says so."""
        broker = InMemoryMessageBroker()
        service = Service()
        first, second = VirtualLoop(), VirtualLoop()
        first.run_until_complete(broker.subscribe("orders", service.on_message))
        first.run_until_complete(broker.start())
        for _ in range(2):
            with pytest.raises(RuntimeError, match="the event loop that start\\(\\) ran on"):
                second.run_until_complete(broker.publish("orders", b"a"))
        first.run_until_complete(broker.publish("orders", b"b"))
        first.run_until_complete(broker.stop())
        assert service.values == ["b"]
        first.close()
        second.close()

    @on_virtual_time
    async def test_gathered_publishes(self) -> None:
        """Publishes of many tasks each return when their own message is settled, in order."""
        service = Service(lambda message: asyncio.sleep(1))
        done: list[tuple[int, float]] = []
        async with running() as broker:
            await broker.subscribe("orders", service.on_message)

            async def publish(number: int) -> None:
                await broker.publish("orders", str(number).encode())
                done.append((number, now()))

            await asyncio.gather(*(publish(number) for number in range(4)))
        assert service.values == ["0", "1", "2", "3"]
        assert service.at_once == 1
        assert done == [(0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0)]


class TestPublishInsideAHandler:
    """A publish made inside a handler is queued; the outermost one waits for all it set off."""

    @pytest.mark.parametrize("concurrency", [1, 2, 5])
    @on_virtual_time
    async def test_to_its_own_topic(self, concurrency: int) -> None:
        """A handler can publish to the topic that it listens to."""

        async def countdown(message: Message) -> None:
            number = int(message.value)
            if number:
                await broker.publish("orders", str(number - 1).encode())
                events.append(f"published {number - 1}")
            await asyncio.sleep(1)
            events.append(f"handled {number}")

        events: list[str] = []
        async with running(policy=policy(concurrency=concurrency)) as broker:
            await broker.subscribe("orders", countdown, "group")
            await broker.publish("orders", b"3")
            assert len(events) == 7
            assert events.index("published 2") < events.index("handled 3")
            assert "handled 0" in events

    @pytest.mark.parametrize("concurrency", [1, 2, 5])
    @on_virtual_time
    async def test_a_chain(self, concurrency: int) -> None:
        """The outermost publish waits for the end of a chain through several topics."""

        async def forward(message: Message) -> None:
            await asyncio.sleep(1)
            await broker.publish(next_topic[message.topic], message.value)

        next_topic = {"a": "b", "b": "c", "c": "d"}
        last = Service(lambda message: asyncio.sleep(1))
        async with running(policy=policy(concurrency=concurrency)) as broker:
            for topic in next_topic:
                await broker.subscribe(topic, forward, "group")
            await broker.subscribe("d", last.on_message, "group")
            await asyncio.gather(broker.publish("a", b"1"), broker.publish("a", b"2"))
            assert sorted(last.values) == ["1", "2"]

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_in_a_circle(self, concurrency: int) -> None:
        """Two listeners that publish to each other wait for each other no more than once."""

        async def ping(message: Message) -> None:
            log.append(message.topic)
            if len(log) < 6:
                await broker.publish("pong" if message.topic == "ping" else "ping", b"x")

        async def pong(message: Message) -> None:
            await ping(message)

        log: list[str] = []
        async with running(policy=policy(concurrency=concurrency)) as broker:
            await broker.subscribe("ping", ping)
            await broker.subscribe("pong", pong)
            await broker.publish("ping", b"x")
            assert log == ["ping", "pong"] * 3

    @pytest.mark.parametrize("concurrency", [1, 3])
    @on_virtual_time
    async def test_a_fan_out(self, concurrency: int) -> None:
        """The outermost publish waits for all messages that a handler sends out at once."""
        parts = Service(lambda message: asyncio.sleep(1))

        async def split(message: Message) -> None:
            await asyncio.gather(
                *(broker.publish("parts", str(number).encode()) for number in range(5))
            )

        async with running(policy=policy(concurrency=concurrency)) as broker:
            await broker.subscribe("orders", split)
            await broker.subscribe("parts", parts.on_message, "one")
            await broker.subscribe("parts", Service().on_message, "two")
            await broker.publish("orders", b"all")
            assert sorted(parts.values) == list("01234")
            assert now() == (5.0 if concurrency == 1 else 2.0)

    @on_virtual_time
    async def test_order_is_kept(self) -> None:
        """What a handler publishes is handled in the order in which it was published."""
        parts = Service()

        async def split(message: Message) -> None:
            for number in range(5):
                await broker.publish("parts", str(number).encode())
                await asyncio.sleep(1 if number == 2 else 0)

        async with running() as broker:
            await broker.subscribe("orders", split)
            await broker.subscribe("parts", parts.on_message)
            await broker.publish("orders", b"all")
        assert parts.values == list("01234")

    @on_virtual_time
    async def test_by_a_task_of_the_handler(self) -> None:
        """While the outermost publish goes on, a task of the handler is part of it."""
        parts = Service(lambda message: asyncio.sleep(1))
        published_at: list[float] = []

        async def later() -> None:
            await broker.publish("orders", b"second")
            published_at.append(now())

        async def split(message: Message) -> None:
            if message.value == b"first":
                await asyncio.create_task(later())
                await broker.publish("parts", b"part")

        async with running() as broker:
            await broker.subscribe("orders", split)
            await broker.subscribe("parts", parts.on_message)
            await broker.publish("orders", b"first")
            assert published_at == [0.0]
            assert (parts.values, now()) == (["part"], 1.0)

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_by_a_task_that_the_handler_leaves_behind(self, concurrency: int) -> None:
        """When the outermost publish is over, what the handler left behind waits for itself."""
        parts = Service(lambda message: asyncio.sleep(5))
        background: list[asyncio.Task[None]] = []
        published_at: list[float] = []

        async def later() -> None:
            await asyncio.sleep(10)
            await broker.publish("parts", b"part")
            published_at.append(now())

        async def leaves(message: Message) -> None:
            background.append(asyncio.create_task(later()))

        async with running(policy=policy(concurrency=concurrency)) as broker:
            await broker.subscribe("orders", leaves)
            await broker.subscribe("parts", parts.on_message)
            await broker.publish("orders", b"first")
            assert now() == 0.0
            await broker.publish("orders", b"second")
            await asyncio.gather(*background)
            assert parts.values == ["part", "part"]
            assert published_at == ([15.0, 20.0] if concurrency == 1 else [15.0, 15.0])

    @on_virtual_time
    async def test_tasks_that_leave_tasks_behind_do_not_pile_up(self) -> None:
        """Publications that are over are forgotten, however long a chain of tasks becomes."""
        tasks: list[asyncio.Task[None]] = []
        depths: list[int] = []

        async def again(message: Message) -> None:
            depths.append(depth())
            if len(tasks) < 50:
                tasks.append(asyncio.create_task(broker.publish("orders", b"x")))

        def depth() -> int:
            from pyfly_messaging.adapters import memory

            found, number = memory._publication.get(None), 0
            while found is not None:
                found, number = found.outer, number + 1
            return number

        async with running() as broker:
            await broker.subscribe("orders", again)
            await broker.publish("orders", b"x")
            while len(tasks) < 50:
                await asyncio.sleep(0)
            await asyncio.gather(*tasks)
        assert max(depths) == 1

    @on_virtual_time
    async def test_between_two_brokers(self) -> None:
        """Handlers of two brokers can publish to each other and set off more at the first."""

        def bridge(target: InMemoryMessageBroker) -> MessageHandler:
            async def forward(message: Message) -> None:
                log.append(message.value.decode())
                if len(log) < 6:
                    await asyncio.sleep(0)
                    await target.publish("orders", str(len(log)).encode())

            return forward

        log: list[str] = []
        async with running() as one, running() as other:
            await one.subscribe("orders", bridge(other))
            await other.subscribe("orders", bridge(one))
            await one.publish("orders", b"0")
            assert log == list("012345")
            assert now() == 0.0

    @on_virtual_time
    async def test_two_brokers_do_not_mix(self) -> None:
        """A message reaches the listeners of the broker where it was published, and no others."""
        here, there = Service(), Service()
        async with running() as one, running() as other:
            await one.subscribe("orders", here.on_message, "group")
            await other.subscribe("orders", there.on_message, "group")
            await one.publish("orders", b"a")
            await other.publish("orders", b"b")
        assert (here.values, there.values) == (["a"], ["b"])

    @on_virtual_time
    async def test_a_publish_on_another_broker_waits(self) -> None:
        """Inside a handler, a publish on another broker returns when that one has settled it."""
        slow = Service(lambda message: asyncio.sleep(3))
        published_at: list[float] = []

        async def forward(message: Message) -> None:
            await other.publish("orders", message.value)
            published_at.append(now())

        async with running() as one, running() as other:
            await one.subscribe("orders", forward)
            await other.subscribe("orders", slow.on_message)
            await one.publish("orders", b"a")
        assert published_at == [3.0]


class TestGroups:
    """Who gets a message."""

    @on_virtual_time
    async def test_a_group_takes_turns(self) -> None:
        """Of the handlers that share topic and group exactly one gets each message, in turn."""
        services = [Service() for _ in range(3)]
        async with running() as broker:
            for service in services:
                await broker.subscribe("orders", service.on_message, "group")
            for number in range(7):
                await broker.publish("orders", str(number).encode())
        assert [service.values for service in services] == [
            ["0", "3", "6"],
            ["1", "4"],
            ["2", "5"],
        ]

    @on_virtual_time
    async def test_groups_and_those_without_one_each_get_every_message(self) -> None:
        """Different groups, and handlers without a group, each get every message."""
        services = [Service() for _ in range(5)]
        async with running() as broker:
            for service, group in zip(services, ["a", "b", None, None, None], strict=True):
                await broker.subscribe("orders", service.on_message, group)
            await broker.publish("orders", b"1")
            await broker.publish("orders", b"2")
        assert [service.values for service in services] == [["1", "2"]] * 5

    @on_virtual_time
    async def test_topics_are_apart(self) -> None:
        """A handler gets the messages of its topic only."""
        orders, refunds = Service(), Service()
        async with running() as broker:
            await broker.subscribe("orders", orders.on_message, "group")
            await broker.subscribe("refunds", refunds.on_message, "group")
            await broker.publish("orders", b"1")
            await broker.publish("refunds", b"2")
        assert (orders.values, refunds.values) == (["1"], ["2"])

    @on_virtual_time
    async def test_only_those_that_failed_try_again(self) -> None:
        """Of several handlers without a group only the failed one gets the message again."""
        fine, flaky = Service(), Service(fails(ValueError()))
        async with running() as broker:
            await broker.subscribe("orders", fine.on_message)
            await broker.subscribe("orders", flaky.on_message)
            await broker.publish("orders", b"1")
        assert (fine.values, flaky.values) == (["1"], ["1", "1"])

    @on_virtual_time
    async def test_a_group_that_retries_holds_up_no_other(self) -> None:
        """While one group waits for its next attempt, the others get the messages that follow."""
        flaky = Service(fails(ValueError()))
        fine = Service()
        async with running(policy=policy(retry_delay=60.0, retry_max_delay=60.0)) as broker:
            await broker.subscribe("orders", flaky.on_message, "flaky")
            await broker.subscribe("orders", fine.on_message, "fine")
            first = asyncio.create_task(broker.publish("orders", b"1"))
            await asyncio.sleep(1)
            second = asyncio.create_task(broker.publish("orders", b"2"))
            await asyncio.sleep(1)
            assert (flaky.values, fine.values) == (["1"], ["1", "2"])
            assert not first.done()
            with pytest.raises(PublishError):
                await first
            with pytest.raises(PublishError):
                await second
            await asyncio.sleep(60)
            assert flaky.values == ["1", "1", "2"]

    @pytest.mark.parametrize("slow_first", [True, False])
    @on_virtual_time
    async def test_a_slow_group_holds_up_no_other(self, slow_first: bool) -> None:
        """While one group is at a message, every other one gets it too, and those that follow."""
        slow, quick = Service(lambda message: asyncio.sleep(10)), Service()
        async with running() as broker:
            for service in (slow, quick) if slow_first else (quick, slow):
                await broker.subscribe("orders", service.on_message, f"group-{id(service)}")
            publishes = []
            for number in range(2):
                value = str(number).encode()
                publishes.append(asyncio.create_task(broker.publish("orders", value)))
                await asyncio.sleep(1)
                assert quick.values == ["0", "1"][: number + 1]
            await asyncio.gather(*publishes)
            assert slow.values == ["0", "1"]
            assert now() == 20.0

    @on_virtual_time
    async def test_every_group_sees_the_same_order(self) -> None:
        """Groups of one topic handle concurrent publishes in one and the same order."""
        first, second = Service(lambda message: asyncio.sleep(3)), Service()
        async with running() as broker:
            await broker.subscribe("orders", first.on_message, "first")
            await broker.subscribe("orders", second.on_message, "second")
            await asyncio.gather(
                *(broker.publish("orders", str(number).encode()) for number in range(4))
            )
        assert first.values == second.values == ["0", "1", "2", "3"]


class TestConcurrency:
    """How many handlers run at once, and in which order."""

    @on_virtual_time
    async def test_one_at_a_time(self) -> None:
        """By default a group handles one message at a time, whoever publishes."""
        service = Service(lambda message: asyncio.sleep(1))
        async with running() as broker:
            await broker.subscribe("orders", service.on_message, "group")
            await asyncio.gather(
                *(broker.publish("orders", bytes([65 + number])) for number in range(5))
            )
        assert service.values == list("ABCDE")
        assert service.at_once == 1

    @on_virtual_time
    async def test_keys_keep_their_order(self) -> None:
        """With more at once, messages with one key stay in order and other keys run beside."""
        ended: list[str] = []

        async def handle(message: Message) -> None:
            await asyncio.sleep(5 if message.value.endswith(b"0") else 1)
            ended.append(message.value.decode())

        service = Service(handle)
        async with running(policy=policy(concurrency=3)) as broker:
            await broker.subscribe("orders", service.on_message, "group")
            await asyncio.gather(
                *(
                    broker.publish("orders", f"{key}{number}".encode(), key=key.encode())
                    for number in range(3)
                    for key in "xy"
                )
            )
        for key in "xy":
            assert [value for value in ended if value[0] == key] == [f"{key}{n}" for n in range(3)]
        assert service.at_once == 2

    @on_virtual_time
    async def test_no_more_than_the_concurrency(self) -> None:
        """Messages without a key run together, as many as the concurrency allows."""
        service = Service(lambda message: asyncio.sleep(1))
        async with running() as broker:
            await broker.subscribe(
                "orders", service.on_message, "group", policy=policy(concurrency=3)
            )
            await asyncio.gather(*(broker.publish("orders", b"x") for _ in range(7)))
            assert now() == 3.0
        assert service.at_once == 3


class TestFailure:
    """What becomes of a message whose handler fails."""

    @on_virtual_time
    async def test_a_spent_message_is_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """After its retries a message is a dead letter, which the broker keeps and delivers."""

        class Clock(datetime):
            """A clock that stands."""

            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Clock:
                return cls(2024, 5, 1, 12, tzinfo=tz)

        monkeypatch.setattr(dead_letters, "datetime", Clock)
        monkeypatch.setattr("pyfly_messaging.delivery.settlement.datetime", Clock)
        broken = Service(fails(*[ValueError("no such order")] * 4))
        undertaker = Service()
        async with running() as broker:
            await broker.subscribe("orders", broken.on_message, "billing")
            await broker.subscribe("orders.dlt", undertaker.on_message, "undertaker")
            await broker.publish("orders", b"v", key=b"k", headers={"trace": "1"})
            assert now() == 7.0
        expected = Message(
            "orders.dlt",
            b"v",
            b"k",
            {
                "trace": "1",
                "x-pyfly-original-topic": "orders",
                "x-pyfly-original-group": "billing",
                "x-pyfly-attempts": "4",
                "x-pyfly-exception": "ValueError",
                "x-pyfly-exception-message": "no such order",
                "x-pyfly-dead-lettered-at": datetime(2024, 5, 1, 12, tzinfo=UTC).isoformat(
                    timespec="milliseconds"
                ),
            },
        )
        assert undertaker.got == list(broker.dead_letters) == [expected]
        assert broken.values == ["v"] * 4

    @on_virtual_time
    async def test_the_newest_dead_letters_are_kept(self) -> None:
        """The broker keeps 10,000 dead letters, the newest ones."""
        assert InMemoryMessageBroker().dead_letters.maxlen == 10_000

    @on_virtual_time
    async def test_a_dead_letter_can_be_spent_too(self) -> None:
        """A dead letter whose own listener fails goes to the dead letters of that topic."""
        async with running(policy=policy(retries=0)) as broker:
            for topic in ("orders", "orders.dlt"):
                await broker.subscribe(topic, Service(fails(ValueError(topic))).on_message)
            await broker.publish("orders", b"v")
        assert [letter.topic for letter in broker.dead_letters] == ["orders.dlt", "orders.dlt.dlt"]

    @on_virtual_time
    async def test_without_dead_letters_it_is_dropped(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """With `dead_letter=False` a spent message is logged and gone."""
        service = Service(fails(ValueError(), ValueError()))
        async with running(policy=policy(retries=1, dead_letter=False)) as broker:
            await broker.subscribe("orders", service.on_message, name="billing")
            await broker.publish("orders", b"v")
        assert not broker.dead_letters
        assert service.values == ["v", "v"]
        record = caplog.records[-1]
        assert record.levelno == logging.ERROR
        assert record.getMessage() == (
            "listener billing: message on topic orders dropped after 2 attempts"
            " (dead_letter is off)"
        )

    @pytest.mark.parametrize("fatal", [ValueError, "ValueError", "Exception"])
    @on_virtual_time
    async def test_a_fatal_exception_is_not_retried(self, fatal: type[Exception] | str) -> None:
        """An exception that is declared fatal, by class or name, spends the message at once."""
        service = Service(fails(*[ValueError()] * 9))
        async with running(policy=policy(fatal_exceptions=(fatal,))) as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.publish("orders", b"v")
            assert now() == 0.0
        assert len(service.got) == len(broker.dead_letters) == 1

    @on_virtual_time
    async def test_an_attempt_has_a_time_limit(self) -> None:
        """An attempt over the timeout has failed."""
        service = Service(lambda message: asyncio.sleep(60))
        async with running(policy=policy(timeout=2.0, retries=1)) as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.publish("orders", b"v")
            assert now() == 5.0
        assert broker.dead_letters[0].headers["x-pyfly-exception"] == "TimeoutError"
        assert service.at_once == 1

    @pytest.mark.parametrize(
        "error", [ValueError("x"), Wrecked("x"), asyncio.CancelledError("x"), StopAsyncIteration()]
    )
    @on_virtual_time
    async def test_the_publisher_sees_no_exception_of_a_handler(self, error: BaseException) -> None:
        """Whatever a handler raises on its own is a failed attempt, not the publisher's affair."""
        service = Service(fails(error))
        async with running() as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.publish("orders", b"v")
            assert now() == 1.0
        assert service.values == ["v", "v"]
        assert this_task().cancelling() == 0

    @on_virtual_time
    async def test_a_value_that_is_returned_is_ignored(self) -> None:
        """A handler that returns something has succeeded."""

        async def returns(message: Message) -> Any:
            calls.append(message)
            return "something"

        calls: list[Message] = []
        async with running() as broker:
            await broker.subscribe("orders", returns)
            await broker.publish("orders", b"v")
        assert len(calls) == 1

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_retries_without_delay_in_tests(self, concurrency: int) -> None:
        """With `skip_retry_delays` retries follow at once, whatever the policy says."""
        service = Service(fails(*[ValueError()] * 3))
        async with running(skip_retry_delays=True) as broker:
            await broker.subscribe(
                "orders",
                service.on_message,
                policy=policy(retry_delay=60.0, concurrency=concurrency),
            )
            await broker.publish("orders", b"v")
            assert now() == 0.0
        assert len(service.got) == 4
        assert not broker.dead_letters


class TestHandlersThatCancel:
    """A handler runs in a task that is not its own."""

    @pytest.mark.parametrize("waits_before", [True, False])
    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_cancelling_itself_is_a_failed_attempt(
        self, concurrency: int, waits_before: bool
    ) -> None:
        """A handler that cancels the task it runs in has failed; the publisher is not cancelled."""

        async def cancels(message: Message) -> None:
            if len(service.got) == 1:
                await asyncio.sleep(int(waits_before))
                this_task().cancel()
                await asyncio.sleep(60)

        service = Service(cancels)
        async with running(policy=policy(concurrency=concurrency)) as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.publish("orders", b"v")
            await asyncio.sleep(0)
        assert service.values == ["v", "v"]
        assert not broker.dead_letters
        assert this_task().cancelling() == 0

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_always_cancelling_itself_ends_as_a_dead_letter(self, concurrency: int) -> None:
        """A handler that cancels itself each time is spent like any other."""

        async def cancels(message: Message) -> None:
            this_task().cancel()
            await asyncio.sleep(60)

        service = Service(cancels)
        async with running(policy=policy(concurrency=concurrency, retries=2)) as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.publish("orders", b"v")
        assert service.values == ["v", "v", "v"]
        (letter,) = broker.dead_letters
        assert letter.headers["x-pyfly-attempts"] == "3"
        assert letter.headers["x-pyfly-exception"] == "asyncio.exceptions.CancelledError"

    @pytest.mark.parametrize("waits_before", [True, False])
    @pytest.mark.parametrize("waits_after", [True, False])
    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_cancelling_itself_and_finishing(
        self, concurrency: int, waits_before: bool, waits_after: bool
    ) -> None:
        """A handler that survives its own cancellation has succeeded; nobody else is cancelled."""

        async def cancels(message: Message) -> None:
            if waits_before:
                await asyncio.sleep(1)
            this_task().cancel()
            if waits_after:
                try:
                    await asyncio.sleep(1)
                except asyncio.CancelledError:
                    await asyncio.sleep(1)

        service = Service(cancels)
        async with running(policy=policy(concurrency=concurrency)) as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.publish("orders", b"v")
            await asyncio.sleep(1)
        assert service.values == ["v"]
        assert this_task().cancelling() == 0

    @pytest.mark.parametrize("waits_before", [True, False])
    @on_virtual_time
    async def test_cancelling_itself_and_raising_it(self, waits_before: bool) -> None:
        """A handler that cancels its task and does not wait for the effect has failed once."""

        async def cancels(message: Message) -> None:
            if waits_before:
                await asyncio.sleep(1)
            if len(service.got) == 1:
                this_task().cancel()
                raise asyncio.CancelledError

        service = Service(cancels)
        async with running(policy=policy(retries=1)) as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.publish("orders", b"v")
            await asyncio.sleep(1)
        assert service.values == ["v", "v"]
        assert this_task().cancelling() == 0

    @on_virtual_time
    async def test_cancelling_itself_twice_and_taking_it_back(self) -> None:
        """A handler that takes its own cancellation back leaves the publisher's count alone."""

        async def cancels(message: Message) -> None:
            await asyncio.sleep(1)
            this_task().cancel()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                this_task().uncancel()

        async def publishes() -> int:
            this_task().cancel()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await broker.publish("orders", b"v")
            return this_task().cancelling()

        async with running() as broker:
            await broker.subscribe("orders", cancels)
            assert await asyncio.create_task(publishes()) == 1

    @on_virtual_time
    async def test_a_handlers_own_time_limit(self) -> None:
        """A handler can use `asyncio.timeout`, which cancels the task and takes that back."""

        async def limits(message: Message) -> None:
            try:
                async with asyncio.timeout(1):
                    await asyncio.sleep(60)
            except TimeoutError:
                await asyncio.sleep(1)

        service = Service(limits)
        async with running() as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.publish("orders", b"v")
            assert now() == 2.0
        assert service.values == ["v"]
        assert this_task().cancelling() == 0

    @on_virtual_time
    async def test_raising_a_cancellation_for_a_publisher_that_was_cancelled(self) -> None:
        """A handler's own `CancelledError` is its failure, also while the publisher cleans up."""
        service = Service(fails(asyncio.CancelledError(), asyncio.CancelledError()))
        late = Service(lambda message: asyncio.sleep(0))

        async def publishes() -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await broker.publish("orders", b"v")
                done.append("published")
                raise

        done: list[str] = []
        async with running() as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.subscribe("orders", late.on_message, "late")
            task = asyncio.create_task(publishes())
            await turns()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert done == ["published"]
        assert service.values == ["v"] * 3


class TestExits:
    """What ends the process."""

    @pytest.mark.parametrize("waits_before", [True, False])
    @pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
    @on_virtual_time
    async def test_it_passes_through_the_publisher(
        self, error: type[BaseException], waits_before: bool
    ) -> None:
        """An exit leaves publish(); for the message it is a failed attempt, for others nothing."""

        async def exits(message: Message) -> None:
            if waits_before:
                await asyncio.sleep(1)
            if len(service.got) == 1:
                raise error

        service, other = Service(exits), Service()
        async with running(policy=policy(retry_delay=10.0)) as broker:
            await broker.subscribe("orders", service.on_message, "one")
            await broker.subscribe("orders", other.on_message, "two")
            with pytest.raises(error):
                await broker.publish("orders", b"v")
            assert service.values == ["v"]
            await asyncio.sleep(20)
            assert (service.values, other.values) == (["v", "v"], ["v"])
            await broker.publish("orders", b"w")
            assert service.values == ["v", "v", "w"]

    @pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
    def test_it_leaves_the_event_loop(
        self, error: type[BaseException], caplog: pytest.LogCaptureFixture
    ) -> None:
        """An exit in a queued message leaves the event loop."""
        caplog.set_level(logging.CRITICAL)
        loop = VirtualLoop()
        service = Service(fails(error()))

        async def publish() -> None:
            await broker.subscribe("orders", service.on_message, policy=policy(concurrency=2))
            await broker.start()
            await broker.publish("orders", b"v")

        broker = InMemoryMessageBroker()
        publishing = loop.create_task(publish())
        with pytest.raises(error):
            loop.run_until_complete(publishing)
        loop.run_until_complete(publishing)
        assert service.values == ["v", "v"]
        loop.run_until_complete(broker.stop())
        loop.close()


class TestRaiseErrors:
    """With `raise_errors` a publish raises what spent its messages."""

    @pytest.mark.parametrize("concurrency", [1, 2])
    @pytest.mark.parametrize("dead_letter", [True, False])
    @on_virtual_time
    async def test_one_error_is_raised_itself(self, concurrency: int, dead_letter: bool) -> None:
        """A single spent message raises what its last attempt raised."""
        errors = [ValueError(number) for number in range(2)]
        options = policy(retries=1, concurrency=concurrency, dead_letter=dead_letter)
        async with running(raise_errors=True, policy=options) as broker:
            await broker.subscribe("orders", Service(fails(*errors)).on_message)
            with pytest.raises(ValueError, match="1") as caught:
                await broker.publish("orders", b"v")
            assert caught.value is errors[1]
            await broker.publish("orders", b"w")
        assert len(broker.dead_letters) == int(dead_letter)

    @on_virtual_time
    async def test_several_errors_are_a_group(self) -> None:
        """Several spent messages, also those of publishes inside, raise an exception group."""
        errors = [ValueError("first"), KeyError("second"), OSError("inner")]

        async def forward(message: Message) -> None:
            await broker.publish("inner", b"v")

        async with running(raise_errors=True, policy=policy(retries=0)) as broker:
            await broker.subscribe("orders", Service(fails(errors[0])).on_message, "one")
            await broker.subscribe("orders", Service(fails(errors[1])).on_message, "two")
            await broker.subscribe("orders", forward, "three")
            await broker.subscribe("inner", Service(fails(errors[2])).on_message)
            with pytest.raises(ExceptionGroup) as caught:
                await broker.publish("orders", b"v")
        assert caught.value.exceptions == tuple(errors)

    @on_virtual_time
    async def test_a_failure_that_is_mended_is_no_error(self) -> None:
        """A message that is settled by a retry raises nothing."""
        async with running(raise_errors=True) as broker:
            await broker.subscribe("orders", Service(fails(ValueError())).on_message)
            await broker.publish("orders", b"v")

    @on_virtual_time
    async def test_a_publish_inside_raises_at_the_outermost(self) -> None:
        """What a publish inside a handler spends is raised by the outermost publish only."""
        seen: list[str] = []

        async def forward(message: Message) -> None:
            await broker.publish("inner", b"v")
            seen.append("no error inside")

        async with running(raise_errors=True, policy=policy(retries=0)) as broker:
            await broker.subscribe("orders", forward)
            await broker.subscribe("inner", Service(fails(Wrecked("inner"))).on_message)
            with pytest.raises(Wrecked, match="inner"):
                await broker.publish("orders", b"v")
        assert seen == ["no error inside"]


class TestPublishTimeout:
    """A publish that is not settled within publish-timeout raises; its message goes on."""

    @on_virtual_time
    async def test_a_handler_that_never_ends(self) -> None:
        """The handler is cancelled in the publisher's task, and tried again without it."""
        attempts: list[float] = []

        async def endless(message: Message) -> None:
            attempts.append(now())
            if len(attempts) == 1:
                await asyncio.Event().wait()
            await asyncio.sleep(100)
            ended.append(now())

        ended: list[float] = []
        async with running(timeouts=Timeouts(publish=7.0, shutdown=1_000.0)) as broker:
            await broker.subscribe("orders", endless)
            with pytest.raises(PublishError, match=r"within 7 s \(publish-timeout\); it is kept"):
                await broker.publish("orders", b"v")
            assert now() == 7.0
            assert this_task().cancelling() == 0
        assert attempts == [0.0, 7.0]
        assert ended == [107.0]

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_a_message_in_the_queue(self, concurrency: int) -> None:
        """A message that waits for its turn is handled after its publish has raised."""
        service = Service(lambda message: asyncio.sleep(20))
        timeouts = Timeouts(publish=30.0, shutdown=1_000.0)
        async with running(timeouts=timeouts, policy=policy(concurrency=concurrency)) as broker:
            await broker.subscribe("orders", service.on_message)
            results = await asyncio.gather(
                *(broker.publish("orders", str(number).encode(), key=b"k") for number in range(3)),
                return_exceptions=True,
            )
            assert now() == 30.0
            assert len(service.got) == 2
            await asyncio.sleep(60)
        assert results[0] is None
        assert [type(result) for result in results[1:]] == [PublishError, PublishError]
        assert service.values == ["0", "1", "2"]

    @on_virtual_time
    async def test_a_retry(self) -> None:
        """A message that waits for its next attempt gets it after its publish has raised."""
        service = Service(fails(ValueError()))
        async with running(policy=policy(retry_delay=31.0, retry_max_delay=60.0)) as broker:
            await broker.subscribe("orders", service.on_message)
            with pytest.raises(PublishError):
                await broker.publish("orders", b"v")
            assert (service.values, now()) == (["v"], 30.0)
            await asyncio.sleep(2)
            assert service.values == ["v", "v"]

    @on_virtual_time
    async def test_another_group(self) -> None:
        """A publish whose own handler has ended raises in time, and is not cancelled."""
        quick, slow = Service(lambda _: asyncio.sleep(1)), Service(lambda _: asyncio.sleep(60))
        async with running(timeouts=Timeouts(publish=5.0, shutdown=1.0)) as broker:
            await broker.subscribe("orders", quick.on_message, "quick")
            await broker.subscribe("orders", slow.on_message, "slow")
            with pytest.raises(PublishError):
                await broker.publish("orders", b"v")
            assert now() == 5.0
            await turns()
            assert this_task().cancelling() == 0

    @on_virtual_time
    async def test_after_a_time_limit_of_the_handlers_own(self) -> None:
        """A time limit that the handler has set and met before changes nothing."""

        async def endless(message: Message) -> None:
            try:
                async with asyncio.timeout(1):
                    await asyncio.sleep(60)
            except TimeoutError:
                await asyncio.sleep(60)

        async with running(timeouts=Timeouts(publish=5.0, shutdown=1.0)) as broker:
            await broker.subscribe("orders", endless)
            with pytest.raises(PublishError):
                await broker.publish("orders", b"v")
            assert (now(), this_task().cancelling()) == (5.0, 0)

    @on_virtual_time
    async def test_while_the_publisher_cleans_up(self) -> None:
        """A publisher that was cancelled before gets its PublishError all the same."""
        seen: list[tuple[str, int]] = []

        async def publishes() -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                try:
                    await broker.publish("orders", b"v")
                except PublishError:
                    seen.append(("refused", this_task().cancelling()))
                raise

        slow = Service(lambda message: asyncio.sleep(60))
        async with running(timeouts=Timeouts(publish=5.0, shutdown=1.0)) as broker:
            await broker.subscribe("orders", slow.on_message)
            publishing = asyncio.create_task(publishes())
            await turns()
            publishing.cancel()
            await asyncio.wait((publishing,))
        assert seen == [("refused", 1)]

    @on_virtual_time
    async def test_every_publish_has_its_own(self) -> None:
        """Publishes that begin later raise later."""
        raised_at: list[float] = []
        timeouts = Timeouts(publish=10.0, shutdown=1.0)
        async with running(timeouts=timeouts, policy=policy(concurrency=5)) as broker:
            await broker.subscribe("orders", Service(lambda _: asyncio.sleep(60)).on_message)

            async def publish() -> None:
                with pytest.raises(PublishError):
                    await broker.publish("orders", b"v")
                raised_at.append(now())

            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(publish())
                    await asyncio.sleep(2)
        assert raised_at == [10.0, 12.0, 14.0]

    @on_virtual_time
    async def test_a_handler_that_catches_its_cancellation(self) -> None:
        """A handler that does not end is cancelled again each second until it does."""
        cancelled_at: list[float] = []

        async def stubborn(message: Message) -> None:
            while len(cancelled_at) < 3:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    cancelled_at.append(now())

        service = Service(stubborn)
        async with running(timeouts=Timeouts(publish=5.0)) as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.publish("orders", b"v")
            assert this_task().cancelling() == 0
        assert cancelled_at == [5.0, 6.0, 7.0]
        assert service.values == ["v"]

    @on_virtual_time
    async def test_a_handler_that_fails_at_its_cancellation(self) -> None:
        """A handler that answers its cancellation with an error has failed; publish raises."""

        async def fragile(message: Message) -> None:
            if len(service.got) == 1:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError as error:
                    raise ValueError("broken") from error

        service = Service(fragile)
        async with running(timeouts=Timeouts(publish=5.0)) as broker:
            await broker.subscribe("orders", service.on_message)
            with pytest.raises(PublishError):
                await broker.publish("orders", b"v")
            assert now() == 5.0
            await asyncio.sleep(2)
            assert service.values == ["v", "v"]

    @on_virtual_time
    async def test_what_is_set_off_later_is_still_part_of_it(self) -> None:
        """A handler that outlasts its publish can still publish to its own topic."""
        parts = Service()

        async def split(message: Message) -> None:
            await asyncio.sleep(20)
            if message.value == b"v":
                await broker.publish("orders", b"w")

        service = Service(split)
        timeouts = Timeouts(publish=30.0, shutdown=1_000.0)
        async with running(timeouts=timeouts) as broker:
            await broker.subscribe("orders", parts.on_message, "parts")
            await broker.subscribe("orders", service.on_message, "split")
            first = asyncio.create_task(broker.publish("orders", b"u"))
            await turns()
            with pytest.raises(PublishError):
                await broker.publish("orders", b"v")
            await first
            await asyncio.sleep(40)
        assert service.values == ["u", "v", "w"]
        assert parts.values == ["u", "v", "w"]

    @on_virtual_time
    async def test_the_inner_of_two_brokers(self) -> None:
        """When the inner broker's publish times out, only that publish raises."""
        seen: list[tuple[str, float]] = []

        async def forward(message: Message) -> None:
            try:
                await other.publish("orders", message.value)
            except PublishError:
                seen.append(("inner", now()))

        service = Service(lambda message: asyncio.sleep(100))
        async with (
            running(timeouts=Timeouts(publish=30.0)) as one,
            running(timeouts=Timeouts(publish=10.0, shutdown=1.0)) as other,
        ):
            await one.subscribe("orders", forward)
            await other.subscribe("orders", service.on_message)
            await one.publish("orders", b"v")
        assert seen == [("inner", 10.0)]
        assert this_task().cancelling() == 0

    @on_virtual_time
    async def test_the_outer_of_two_brokers(self) -> None:
        """When the outer broker's publish times out, both messages are kept."""

        async def forward(message: Message) -> None:
            if len(outer.got) == 1:
                await other.publish("orders", message.value)

        outer, inner = Service(forward), Service(lambda message: asyncio.sleep(100))
        async with (
            running(timeouts=Timeouts(publish=10.0, shutdown=1_000.0)) as one,
            running(timeouts=Timeouts(publish=30.0, shutdown=1_000.0)) as other,
        ):
            await one.subscribe("orders", outer.on_message)
            await other.subscribe("orders", inner.on_message)
            with pytest.raises(PublishError, match="within 10 s"):
                await one.publish("orders", b"v")
            assert now() == 10.0
            assert this_task().cancelling() == 0
        assert outer.values == ["v", "v"]
        assert inner.values == ["v", "v"]


class TestCancelledPublisher:
    """A publisher that is cancelled has published all the same."""

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_no_group_loses_the_message(self, concurrency: int) -> None:
        """Cancelling the task that publishes loses the message for no group."""
        services = [Service(lambda message: asyncio.sleep(10)) for _ in range(3)]
        async with running(policy=policy(concurrency=concurrency)) as broker:
            for number, service in enumerate(services):
                await broker.subscribe("orders", service.on_message, f"group-{number}")
            publishing = asyncio.create_task(broker.publish("orders", b"v"))
            await asyncio.sleep(1)
            publishing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await publishing
            assert now() == 1.0
            await asyncio.sleep(30)
        again = ["v", "v"] if concurrency == 1 else ["v"]
        assert [service.values for service in services] == [again, ["v"], ["v"]]
        assert [service.running for service in services] == [0, 0, 0]

    @on_virtual_time
    async def test_a_time_limit_around_publish(self) -> None:
        """`asyncio.timeout` around a publish is a TimeoutError, and the message goes on."""
        service = Service(lambda message: asyncio.sleep(10))
        async with running() as broker:
            await broker.subscribe("orders", service.on_message)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(4):
                    await broker.publish("orders", b"v")
            assert (now(), this_task().cancelling()) == (4.0, 0)
            await asyncio.sleep(11)
        assert service.values == ["v", "v"]
        assert service.running == 0

    @on_virtual_time
    async def test_it_is_no_failed_attempt(self) -> None:
        """The attempt that the publisher's cancellation broke off does not count."""
        service = Service(lambda message: asyncio.sleep(2))
        async with running(policy=policy(retries=0)) as broker:
            await broker.subscribe("orders", service.on_message)
            publishing = asyncio.create_task(broker.publish("orders", b"v"))
            await asyncio.sleep(1)
            publishing.cancel()
            await asyncio.sleep(10)
            assert publishing.cancelled()
        assert service.values == ["v", "v"]
        assert not broker.dead_letters

    @on_virtual_time
    async def test_during_a_retry_that_follows_at_once(self) -> None:
        """An attempt that is broken off keeps its number."""

        async def act(message: Message) -> None:
            if len(service.got) == 1:
                raise ValueError("first")
            await asyncio.sleep(5)
            raise ValueError("second")

        service = Service(act)
        async with running(skip_retry_delays=True, policy=policy(retries=1)) as broker:
            await broker.subscribe("orders", service.on_message)
            publishing = asyncio.create_task(broker.publish("orders", b"v"))
            await asyncio.sleep(1)
            publishing.cancel()
            await asyncio.sleep(10)
            assert publishing.cancelled()
        assert service.values == ["v"] * 3
        assert broker.dead_letters[0].headers["x-pyfly-attempts"] == "2"

    @on_virtual_time
    async def test_a_handler_that_finishes_nevertheless(self) -> None:
        """A handler that survives the publisher's cancellation has settled its message."""

        async def survives(message: Message) -> None:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                await asyncio.sleep(1)

        service = Service(survives)
        cancelling: list[int] = []

        async def publishes() -> None:
            await broker.publish("orders", b"v")
            cancelling.append(this_task().cancelling())

        async with running() as broker:
            await broker.subscribe("orders", service.on_message)
            publishing = asyncio.create_task(publishes())
            await asyncio.sleep(1)
            publishing.cancel()
            await publishing
            await asyncio.sleep(10)
        assert service.values == ["v"]
        assert cancelling == [1]

    @on_virtual_time
    async def test_together_with_the_handler(self) -> None:
        """When both the handler and others cancel the publisher, the publisher is cancelled."""

        async def cancels(message: Message) -> None:
            if len(service.got) == 1:
                try:
                    await asyncio.sleep(10)
                finally:
                    this_task().cancel()
                    await asyncio.sleep(10)

        service = Service(cancels)
        async with running() as broker:
            await broker.subscribe("orders", service.on_message)
            publishing = asyncio.create_task(broker.publish("orders", b"v"))
            await asyncio.sleep(1)
            publishing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await publishing
            assert publishing.cancelling() == 1
            await asyncio.sleep(10)
        assert service.values == ["v", "v"]

    @on_virtual_time
    async def test_right_after_the_handlers_own_cancellation(self) -> None:
        """A cancellation by others that meets the one to be taken back is not taken back."""

        async def cancels(message: Message) -> None:
            await asyncio.sleep(1)
            this_task().cancel()
            loop.call_soon(publishing.cancel)

        loop = asyncio.get_running_loop()
        service = Service(cancels)
        async with running() as broker:
            await broker.subscribe("orders", service.on_message)
            publishing = asyncio.create_task(broker.publish("orders", b"v"))
            with pytest.raises(asyncio.CancelledError):
                await publishing
            assert publishing.cancelling() == 1
        assert service.values == ["v"]


class TestStartAndStop:
    """Start, stop, and what is kept in between."""

    @on_virtual_time
    async def test_both_are_idempotent(self) -> None:
        """A second start or stop changes nothing, and a stop before any start neither."""
        service = Service()
        broker = InMemoryMessageBroker()
        await broker.stop()
        await broker.subscribe("orders", service.on_message)
        await broker.start()
        await broker.start()
        await broker.publish("orders", b"v")
        await broker.stop()
        await broker.stop()
        assert service.values == ["v"]
        assert others() == set()

    @on_virtual_time
    async def test_a_stop_lets_handlers_finish(self) -> None:
        """A handler that ends within the deadline settles its message, and publish returns."""
        service = Service(lambda message: asyncio.sleep(10))
        broker = InMemoryMessageBroker(timeouts=Timeouts(shutdown=30.0))
        await broker.subscribe("orders", service.on_message)
        await broker.start()
        publishing = asyncio.create_task(broker.publish("orders", b"v"))
        await asyncio.sleep(1)
        await broker.stop()
        assert now() == 10.0
        assert service.running == 0
        await publishing
        await broker.start()
        await asyncio.sleep(100)
        await broker.stop()
        assert service.values == ["v"]

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_a_stop_cancels_after_its_deadline(self, concurrency: int) -> None:
        """A handler over the deadline is cancelled; publish raises, the message is kept."""
        service = Service(lambda message: asyncio.sleep(1_000))
        broker = InMemoryMessageBroker(
            timeouts=Timeouts(shutdown=4.0, publish=60.0), policy=policy(concurrency=concurrency)
        )
        await broker.subscribe("orders", service.on_message)
        await broker.start()
        publishing = asyncio.create_task(broker.publish("orders", b"v"))
        await turns()
        await broker.stop()
        assert now() == 4.0
        assert service.running == 0
        with pytest.raises(PublishError, match=STOPPED):
            await publishing
        assert others() == set()
        await broker.start()
        await turns()
        assert service.values == ["v", "v"]
        await broker.stop()

    @on_virtual_time
    async def test_one_deadline_for_all_listeners(self) -> None:
        """All listeners are drained at the same time, within one deadline."""
        services = [Service(lambda message: asyncio.sleep(1_000)) for _ in range(4)]
        broker = InMemoryMessageBroker(timeouts=Timeouts(shutdown=4.0))
        for number, service in enumerate(services):
            await broker.subscribe(f"orders-{number}", service.on_message)
        await broker.start()
        publishes = [
            asyncio.create_task(broker.publish(f"orders-{number}", b"v")) for number in range(4)
        ]
        await turns()
        await broker.stop()
        assert now() == 4.0
        for publishing in publishes:
            with pytest.raises(PublishError):
                await publishing

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_messages_are_kept_in_order(self, concurrency: int) -> None:
        """What was not settled at a stop is delivered after the next start, in order, first."""
        services = [Service(lambda message: asyncio.sleep(10)), Service()]
        broker = InMemoryMessageBroker(
            policy=policy(concurrency=concurrency), timeouts=Timeouts(publish=1_000.0)
        )
        for number, service in enumerate(services):
            await broker.subscribe("orders", service.on_message, f"group-{number}")
        await broker.start()
        publishes = [
            asyncio.create_task(broker.publish("orders", str(number).encode(), key=b"k"))
            for number in range(4)
        ]
        await asyncio.sleep(1)
        await broker.stop()
        results = await asyncio.gather(*publishes, return_exceptions=True)
        assert [type(result) for result in results] == [type(None), *[PublishError] * 3]
        assert [service.values for service in services] == [["0"], ["0", "1", "2", "3"]]
        await broker.start()
        await asyncio.sleep(0.5)
        await broker.publish("orders", b"4", key=b"k")
        assert [service.values for service in services] == [list("01234"), list("01234")]
        await broker.stop()

    @on_virtual_time
    async def test_a_message_between_two_attempts_is_kept(self) -> None:
        """A stop cuts a pause short; after the next start the attempts begin anew."""
        service = Service(fails(ValueError()))
        broker = InMemoryMessageBroker(policy=policy(retry_delay=20.0))
        await broker.subscribe("orders", service.on_message)
        await broker.start()
        publishing = asyncio.create_task(broker.publish("orders", b"v"))
        await asyncio.sleep(1)
        await broker.stop()
        assert now() == 1.0
        with pytest.raises(PublishError, match=STOPPED):
            await publishing
        await broker.start()
        await turns()
        await broker.stop()
        assert service.values == ["v", "v"]

    @on_virtual_time
    async def test_a_handler_that_fails_while_it_stops(self) -> None:
        """An attempt that fails during a stop is not followed by another one, even at once."""

        async def fails_late(message: Message) -> None:
            await asyncio.sleep(5)
            raise ValueError(message)

        service = Service(fails_late)
        broker = InMemoryMessageBroker(policy=policy(retry_delay=0.0))
        await broker.subscribe("orders", service.on_message)
        await broker.start()
        publishing = asyncio.create_task(broker.publish("orders", b"v"))
        await asyncio.sleep(1)
        await broker.stop()
        assert now() == 5.0
        with pytest.raises(PublishError, match=STOPPED):
            await publishing
        assert service.values == ["v"]
        assert broker.health().consumers[0].in_flight == 1

    @on_virtual_time
    async def test_handlers_may_publish_while_they_finish(self) -> None:
        """What a handler publishes while the broker stops is kept for the next start."""
        parts = Service()

        async def split(message: Message) -> None:
            await asyncio.sleep(5)
            await broker.publish("parts", b"part")

        broker = InMemoryMessageBroker()
        await broker.subscribe("orders", split)
        await broker.subscribe("parts", parts.on_message)
        await broker.start()
        publishing = asyncio.create_task(broker.publish("orders", b"v"))
        await asyncio.sleep(1)
        await broker.stop()
        with pytest.raises(PublishError, match=STOPPED):
            await publishing
        assert parts.values == []
        await broker.start()
        await turns()
        assert parts.values == ["part"]
        await broker.stop()

    @on_virtual_time
    async def test_subscribing_while_it_stops(self) -> None:
        """A handler that is subscribed while the broker stops begins with the next start."""
        late = Service()

        async def subscribes(message: Message) -> None:
            await asyncio.sleep(5)
            await broker.subscribe("late", late.on_message)
            await broker.publish("late", b"part")

        broker = InMemoryMessageBroker()
        await broker.subscribe("orders", subscribes)
        await broker.start()
        publishing = asyncio.create_task(broker.publish("orders", b"v"))
        await asyncio.sleep(1)
        await broker.stop()
        with pytest.raises(PublishError):
            await publishing
        await asyncio.sleep(1)
        assert late.values == []
        assert others() == set()
        await broker.start()
        await turns()
        assert late.values == ["part"]
        await broker.stop()

    @pytest.mark.parametrize("waits_before", [True, False])
    @pytest.mark.parametrize("groups", [1, 2])
    @on_virtual_time
    async def test_a_handler_that_stops_the_broker(self, groups: int, waits_before: bool) -> None:
        """A handler can stop the broker: that does not wait for it, and its message is settled."""

        async def stops(message: Message) -> None:
            if waits_before:
                await asyncio.sleep(1)
            await broker.stop()
            stopped_at.append(now())

        stopped_at: list[float] = []
        other = Service(lambda message: asyncio.sleep(100))
        service = Service(stops)
        broker = InMemoryMessageBroker(timeouts=Timeouts(shutdown=3.0))
        await broker.subscribe("orders", service.on_message, "one")
        if groups == 2:
            await broker.subscribe("orders", other.on_message, "two")
        await broker.start()
        publishing = asyncio.create_task(broker.publish("orders", b"v"))
        if groups == 2:
            with pytest.raises(PublishError, match=STOPPED):
                await publishing
        else:
            await publishing
        expected = (3.0 if groups == 2 else 0.0) + (1.0 if waits_before else 0.0)
        assert stopped_at == [expected]
        assert others() == set()
        await broker.start()
        await turns()
        assert service.values == ["v"]
        assert other.values == ["v", "v"] * (groups - 1)
        await broker.stop()

    @on_virtual_time
    async def test_a_handler_that_stops_the_broker_and_fails(self) -> None:
        """A handler that fails after it has stopped the broker gets its message again."""

        async def stops(message: Message) -> None:
            if len(service.got) == 1:
                await broker.stop()
                raise ValueError("after the stop")

        service = Service(stops)
        broker = InMemoryMessageBroker()
        await broker.subscribe("orders", service.on_message)
        await broker.start()
        with pytest.raises(PublishError, match=STOPPED):
            await broker.publish("orders", b"v")
        assert service.values == ["v"]
        await broker.start()
        await turns()
        assert service.values == ["v", "v"]
        await broker.stop()

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_a_queued_handler_that_stops_the_broker(self, concurrency: int) -> None:
        """In a worker too, a stop does not wait for the handler that calls it."""

        async def forward(message: Message) -> None:
            await broker.publish("inner", message.value)

        async def stops(message: Message) -> None:
            if len(service.got) == 1:
                await broker.stop()
                stopped_at.append(now())

        stopped_at: list[float] = []
        service = Service(stops)
        broker = InMemoryMessageBroker(policy=policy(concurrency=concurrency))
        await broker.subscribe("orders", forward)
        await broker.subscribe("inner", service.on_message)
        await broker.start()
        with pytest.raises(PublishError, match=STOPPED):
            await broker.publish("orders", b"v")
        await turns()
        assert stopped_at == [0.0]
        assert others() == set()
        await broker.start()
        await turns()
        assert service.values == ["v", "v"]
        await broker.stop()

    @on_virtual_time
    async def test_a_handler_that_outlasts_a_stop(self, caplog: pytest.LogCaptureFixture) -> None:
        """A handler that ignores its cancellation and then fails gets its message again."""
        released = asyncio.Event()

        async def deaf(message: Message) -> None:
            if len(service.got) > 1:
                return
            while not released.is_set():
                try:
                    await released.wait()
                except asyncio.CancelledError:
                    continue
            raise ValueError("at last")

        service = Service(deaf)
        broker = InMemoryMessageBroker(
            timeouts=Timeouts(shutdown=1.0, publish=100.0), policy=policy()
        )
        await broker.subscribe("orders", service.on_message)
        await broker.start()
        publishing = asyncio.create_task(broker.publish("orders", b"v"))
        await turns()
        await broker.stop()
        assert now() == 11.0
        assert "ignores its cancellation" in caplog.text
        await broker.start()
        released.set()
        with pytest.raises(PublishError, match=STOPPED):
            await publishing
        await turns()
        assert service.values == ["v", "v"]
        await broker.stop()

    @on_virtual_time
    async def test_a_stop_that_was_cancelled(self) -> None:
        """After a stop that was cancelled, a start finishes that first and delivers again."""
        service = Service(lambda message: asyncio.sleep(10))
        broker = InMemoryMessageBroker()
        await broker.subscribe("orders", service.on_message)
        await broker.subscribe("idle", service.on_message)
        await broker.start()
        publishing = asyncio.create_task(broker.publish("orders", b"v"))
        await turns()
        stopping = asyncio.create_task(broker.stop())
        await turns()
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        await broker.start()
        await publishing
        await broker.publish("orders", b"w")
        await broker.stop()
        assert service.values == ["v", "w"]

    @on_virtual_time
    async def test_nothing_is_left_behind(self) -> None:
        """After a stop there is no task and no timer of the broker's."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        before = others()
        flaky = Service(fails(*[ValueError()] * 2))
        async with running(policy=policy(retry_delay=5.0)) as broker:
            await broker.subscribe("orders", flaky.on_message, "one")
            await broker.subscribe(
                "orders", Service().on_message, "two", policy=policy(concurrency=3)
            )
            await broker.publish("orders", b"v")
        assert others() == before
        assert loop.timers() == []
        assert not broker._waits


class TestSubscribe:
    """Registering handlers."""

    @on_virtual_time
    async def test_while_it_runs(self) -> None:
        """A handler that is subscribed on a running broker gets what is published next."""
        first, second = Service(), Service()
        async with running() as broker:
            await broker.subscribe("orders", first.on_message, "group")
            await broker.publish("orders", b"1")
            await broker.subscribe("orders", second.on_message, "group")
            await broker.publish("orders", b"2")
            await broker.publish("orders", b"3")
            await broker.publish("orders", b"4")
        assert (first.values, second.values) == (["1", "2", "4"], ["3"])

    @pytest.mark.parametrize("group", [None, "group"])
    @on_virtual_time
    async def test_the_same_twice_is_refused(self, group: str | None) -> None:
        """A handler cannot listen to one topic in one group twice; it stays as it was."""
        service = Service()
        async with running() as broker:
            await broker.subscribe("orders", service.on_message, group)
            with pytest.raises(ValueError, match="already listens to topic 'orders'"):
                await broker.subscribe("orders", service.on_message, group)
            await broker.subscribe("orders", service.on_message, "another")
            await broker.publish("orders", b"v")
        assert service.values == ["v", "v"]

    @pytest.mark.parametrize(
        ("topic", "handler", "group", "error"),
        [
            ("no spaces", Service().on_message, None, ValueError),
            ("orders", Service().on_message, "amq.reserved", ValueError),
            ("orders", print, None, TypeError),
        ],
    )
    @on_virtual_time
    async def test_what_no_broker_could_do_is_refused(
        self, topic: str, handler: Any, group: str | None, error: type[Exception]
    ) -> None:
        """Impossible topics, groups and handlers are refused on this broker too."""
        with pytest.raises(error):
            await InMemoryMessageBroker().subscribe(topic, handler, group)

    @on_virtual_time
    async def test_a_dead_letter_topic_equal_to_the_topic_is_refused(self) -> None:
        """A dead-letter topic that is the topic itself is refused."""
        with pytest.raises(ValueError, match="is the topic itself"):
            await InMemoryMessageBroker().subscribe(
                "orders", Service().on_message, policy=policy(dead_letter_topic="orders")
            )


class TestPublishMany:
    """Several messages at once."""

    @on_virtual_time
    async def test_all_are_settled_in_order(self) -> None:
        """It returns when all messages are settled; each topic's are handled in their order."""
        service = Service(lambda message: asyncio.sleep(1))
        batch = [Message("orders", b"%d" % number, b"k", {"n": "1"}) for number in range(3)]
        async with running() as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.publish_many(iter(batch))
            assert now() == 3.0
            await broker.publish_many([])
        assert service.got == batch

    @on_virtual_time
    async def test_the_error_names_those_that_were_not(self) -> None:
        """Messages that are not settled in time are named by their number."""
        slow, quick = Service(lambda message: asyncio.sleep(60)), Service()
        async with running(timeouts=Timeouts(publish=5.0, shutdown=1.0)) as broker:
            await broker.subscribe("slow", slow.on_message)
            await broker.subscribe("quick", quick.on_message)
            with pytest.raises(BatchPublishError, match="1 of 3 messages") as caught:
                await broker.publish_many(
                    [Message("quick", b"0"), Message("slow", b"1"), Message("quick", b"2")]
                )
        ((number, error),) = caught.value.failed
        assert number == 1
        assert isinstance(error, PublishError)
        assert caught.value.__cause__ is error
        assert quick.values == ["0", "2"]

    @on_virtual_time
    async def test_all_are_checked_before_the_first(self) -> None:
        """A message that no broker could carry is refused together with all others."""
        service = Service()
        async with running() as broker:
            await broker.subscribe("orders", service.on_message)
            with pytest.raises(TypeError, match="value must be bytes"):
                await broker.publish_many(
                    [Message("orders", b"0"), Message("orders", "1")]  # type: ignore[arg-type]
                )
        assert service.got == []
        with pytest.raises(NotStartedError):
            await broker.publish_many([Message("orders", b"0")])

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_inside_a_handler(self, concurrency: int) -> None:
        """Inside a handler the messages are queued; the outermost publish waits for them."""
        published_at: list[float] = []

        async def split(message: Message) -> None:
            await broker.publish_many([Message("parts", b"%d" % number) for number in range(3)])
            published_at.append(now())

        parts = Service(lambda message: asyncio.sleep(1))
        async with running(policy=policy(concurrency=concurrency)) as broker:
            await broker.subscribe("orders", split)
            await broker.subscribe("parts", parts.on_message)
            await broker.publish("orders", b"all")
            assert parts.values == ["0", "1", "2"]
        assert published_at == [0.0]


class TestHealth:
    """What the broker says about itself."""

    @on_virtual_time
    async def test_it_tells_what_is_in_flight(self) -> None:
        """Each listener has its state, and the messages that are not settled."""

        async def stubborn(message: Message) -> None:
            seen.append(broker.health().consumers[0].in_flight)
            await gate.wait()

        seen: list[int] = []
        gate = asyncio.Event()
        broker = InMemoryMessageBroker(timeouts=Timeouts(shutdown=1.0), policy=policy())
        await broker.subscribe("orders", stubborn, "group", name="billing")
        assert not broker.health().healthy
        await broker.start()
        assert broker.health() == Health(
            started=True,
            publishing=True,
            consumers=(
                ConsumerHealth(name="billing", topic="orders", group="group", state="running"),
            ),
        )
        publishes = [asyncio.create_task(broker.publish("orders", b"v")) for _ in range(3)]
        await turns()
        assert seen == [1]
        assert broker.health().consumers[0].in_flight == 3
        await broker.stop()
        (consumer,) = broker.health().consumers
        assert (consumer.state, consumer.in_flight) == ("stopped", 3)
        assert not broker.health().started
        await asyncio.gather(*publishes, return_exceptions=True)
        gate.set()
        await broker.start()
        await turns()
        assert broker.health().healthy
        assert broker.health().consumers[0].in_flight == 0
        await broker.stop()

    def test_the_default_policy_can_be_asked_for(self) -> None:
        """Who wraps a broker can know what policy its subscriptions have by default."""
        mine = policy(retries=9)
        assert InMemoryMessageBroker(policy=mine).default_policy is mine
        assert InMemoryMessageBroker().default_policy == ListenerPolicy()


class TestContext:
    """Which context variables a handler sees."""

    @pytest.mark.parametrize("concurrency", [1, 2])
    @pytest.mark.parametrize("waits", [True, False])
    @on_virtual_time
    async def test_it_sees_those_of_start(self, concurrency: int, waits: bool) -> None:
        """A handler sees the variables of start(), as on other brokers, and leaves none behind."""
        variable = contextvars.ContextVar("variable", default="unset")
        seen: list[str] = []

        async def handle(message: Message) -> None:
            seen.append(variable.get())
            if waits:
                await asyncio.sleep(1)
                seen.append(variable.get())
            variable.set("handler")
            seen.append(await asyncio.create_task(read()))

        async def read() -> str:
            return variable.get()

        variable.set("start")
        async with running(policy=policy(concurrency=concurrency)) as broker:
            await broker.subscribe("orders", handle)
            variable.set("publisher")
            await broker.publish("orders", b"v")
            assert variable.get() == "publisher"
        assert seen == ["start", *(["start"] if waits else []), "handler"]

    @on_virtual_time
    async def test_one_message_does_not_see_the_one_before(self) -> None:
        """What a handler sets is gone when it has ended, if nothing was in its way."""
        variable = contextvars.ContextVar("variable", default="unset")
        seen: list[str] = []

        async def handle(message: Message) -> None:
            seen.append(variable.get())
            variable.set("handler")

        async with running() as broker:
            await broker.subscribe("orders", handle)
            await broker.publish("orders", b"1")
            await broker.publish("orders", b"2")
        assert seen == ["unset", "unset"]


@pytest.mark.parametrize("flag", [True, False])
@on_virtual_time
async def test_from_settings(flag: bool) -> None:
    """A broker that is made from settings does what they say."""
    broker = InMemoryMessageBroker.from_settings(
        MemorySettings(raise_errors=flag, skip_retry_delays=flag),
        timeouts=Timeouts(publish=5.0),
        policy=policy(retries=1, retry_delay=3.0),
    )
    service = Service(fails(ValueError("a"), ValueError("b")))
    async with running(broker):
        await broker.subscribe("orders", service.on_message)
        if flag:
            with pytest.raises(ValueError, match="b"):
                await broker.publish("orders", b"v")
        else:
            await broker.publish("orders", b"v")
        assert now() == (0.0 if flag else 3.0)
        await broker.subscribe("slow", Service(lambda _: asyncio.sleep(6)).on_message)
        with pytest.raises(PublishError, match="within 5 s"):
            await broker.publish("slow", b"v")
