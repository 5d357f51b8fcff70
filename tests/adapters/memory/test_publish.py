"""What a publish delivers, and when it returns."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pyfly_messaging.adapters.memory import InMemoryMessageBroker
from pyfly_messaging.errors import BatchPublishError, NotStartedError, PublishError
from pyfly_messaging.message import Message
from pyfly_messaging.policy import Timeouts
from pyfly_messaging.ports import MessageBrokerPort
from tests.adapters.memory.samples import (
    Service,
    fails,
    now,
    policy,
    running,
)
from tests.delivery.clock import VirtualLoop, on_virtual_time


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

    @pytest.mark.parametrize("groups", [1, 2])
    @pytest.mark.parametrize("concurrency", [1, 2])
    def test_on_another_event_loop_nothing_is_taken(self, groups: int, concurrency: int) -> None:
        """What is refused there reaches no listener, and no worker is hired there."""
        broker = InMemoryMessageBroker(policy=policy(concurrency=concurrency))
        services = [Service() for _ in range(groups)]
        first, second = VirtualLoop(), VirtualLoop()
        for number, service in enumerate(services):
            first.run_until_complete(
                broker.subscribe("orders", service.on_message, f"group-{number}")
            )
        first.run_until_complete(broker.start())
        with pytest.raises(RuntimeError, match="the event loop that start\\(\\) ran on"):
            second.run_until_complete(broker.publish("orders", b"a"))
        assert not asyncio.all_tasks(second)
        first.run_until_complete(broker.publish("orders", b"b"))
        first.run_until_complete(broker.stop())
        assert [service.values for service in services] == [["b"]] * groups
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


async def test_from_another_thread() -> None:
    """From another thread a publish is refused, whether anything listens to its topic or not."""
    broker = InMemoryMessageBroker()
    service = Service()
    await broker.subscribe("orders", service.on_message)
    await broker.start()
    for topic in ("orders", "unheard"):
        with pytest.raises(RuntimeError, match="run_coroutine_threadsafe"):
            await asyncio.to_thread(asyncio.run, broker.publish(topic, b"a"))
    assert service.values == []
    await broker.stop()
