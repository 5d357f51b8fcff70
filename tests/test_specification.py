"""The specification, word for word: its two tests, and its snippets that need no other broker."""

import inspect
import json
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from pyfly_messaging import Message, MessageBrokerPort, bootstrap, message_listener
from pyfly_messaging.adapters.memory import InMemoryMessageBroker
from pyfly_messaging.container import bean, configuration, service
from pyfly_messaging.settings import isolated


@pytest.fixture
def broker() -> InMemoryMessageBroker:
    return InMemoryMessageBroker()


@pytest.mark.asyncio
async def test_publish_and_consume(broker: InMemoryMessageBroker) -> None:
    received: list[Message] = []

    async def handler(msg: Message) -> None:
        received.append(msg)

    await broker.subscribe("orders", handler)
    await broker.start()

    payload = json.dumps({"order_id": "test-1"}).encode()
    await broker.publish("orders", payload, headers={"event-type": "order.created"})

    assert len(received) == 1
    assert received[0].topic == "orders"
    assert json.loads(received[0].value)["order_id"] == "test-1"
    assert received[0].headers["event-type"] == "order.created"

    await broker.stop()


@pytest.mark.asyncio
async def test_consumer_group_round_robin(broker: InMemoryMessageBroker) -> None:
    """Messages are distributed round-robin within a consumer group."""
    results: dict[str, list[Message]] = {"a": [], "b": []}

    async def handler_a(msg: Message) -> None:
        results["a"].append(msg)

    async def handler_b(msg: Message) -> None:
        results["b"].append(msg)

    await broker.subscribe("events", handler_a, group="workers")
    await broker.subscribe("events", handler_b, group="workers")
    await broker.start()

    for i in range(4):
        await broker.publish("events", f"msg-{i}".encode())

    # Round-robin: handler_a gets msg-0, msg-2; handler_b gets msg-1, msg-3
    assert len(results["a"]) == 2
    assert len(results["b"]) == 2

    await broker.stop()


def test_message() -> None:
    """A message has four fields, two with a default, and cannot be changed."""
    msg = Message(
        topic="orders",
        value=b'{"order_id": "abc-123"}',
        key=b"customer-42",
        headers={"content-type": "application/json"},
    )
    assert msg.headers["content-type"] == "application/json"
    assert (Message("orders", b"").key, Message("orders", b"").headers) == (None, {})
    with pytest.raises(FrozenInstanceError):
        msg.value = b"other"  # type: ignore[misc]


def test_the_memory_broker_satisfies_the_port(broker: InMemoryMessageBroker) -> None:
    """The port can be checked at run time, and the memory broker passes."""
    assert isinstance(broker, MessageBrokerPort)


def test_the_listener_has_its_three_attributes() -> None:
    """`@message_listener` stores the mark, the topic and the group on the function."""

    @message_listener(topic="orders", group="order-processors")
    async def handle_order(msg: Message) -> None:
        order = json.loads(msg.value)
        print(f"Processing order {order['order_id']}")

    attributes: Any = handle_order
    assert attributes.__pyfly_message_listener__ is True
    assert attributes.__pyfly_listener_topic__ == "orders"
    assert attributes.__pyfly_listener_group__ == "order-processors"
    assert inspect.iscoroutinefunction(handle_order)


async def test_in_memory_broker() -> None:
    """The snippet of the in-memory broker: subscribe, start, publish, and it is there."""
    broker = InMemoryMessageBroker()
    received: list[Message] = []

    async def handler(msg: Message) -> None:
        received.append(msg)

    await broker.subscribe("orders", handler)
    await broker.start()

    await broker.publish("orders", b'{"id": 1}')
    assert len(received) == 1
    assert received[0].topic == "orders"

    await broker.stop()


async def test_in_memory_consumer_groups() -> None:
    """The snippet of the groups: messages alternate, and begin with the first handler."""
    broker = InMemoryMessageBroker()
    results_a: list[Message] = []
    results_b: list[Message] = []

    async def handler_a(msg: Message) -> None:
        results_a.append(msg)

    async def handler_b(msg: Message) -> None:
        results_b.append(msg)

    await broker.subscribe("orders", handler_a, group="workers")
    await broker.subscribe("orders", handler_b, group="workers")
    await broker.start()

    # Send three messages -- they alternate between handler_a and handler_b
    await broker.publish("orders", b"msg-1")  # -> handler_a
    await broker.publish("orders", b"msg-2")  # -> handler_b
    await broker.publish("orders", b"msg-3")  # -> handler_a

    assert [msg.value for msg in results_a] == [b"msg-1", b"msg-3"]
    assert [msg.value for msg in results_b] == [b"msg-2"]
    await broker.stop()


async def test_handlers_without_a_group_receive_every_message() -> None:
    """Handlers with `group=None` have broadcast semantics."""
    broker = InMemoryMessageBroker()
    results: list[str] = []

    async def handler_a(msg: Message) -> None:
        results.append("a")

    async def handler_b(msg: Message) -> None:
        results.append("b")

    await broker.subscribe("orders", handler_a)
    await broker.subscribe("orders", handler_b)
    await broker.start()
    await broker.publish("orders", b"1")
    assert sorted(results) == ["a", "b"]
    await broker.stop()


async def test_a_listener_of_a_service_is_bound_when_the_container_makes_it() -> None:
    """The snippet of the service: its listener runs on the instance that the container made."""

    @service
    class PaymentProcessor:
        def __init__(self) -> None:
            self.processed: list[Any] = []

        @message_listener(topic="payments", group="payment-group")
        async def on_payment(self, msg: Message) -> None:
            data = json.loads(msg.value)
            await self._process_payment(data)

        async def _process_payment(self, data: Any) -> None:
            self.processed.append(data)

    with isolated():
        application = bootstrap(PaymentProcessor)
        async with application as broker:
            await broker.publish("payments", b'{"amount": 5}')
            assert application.get(PaymentProcessor).processed == [{"amount": 5}]


async def test_the_broker_as_a_bean() -> None:
    """The configuration of the complete example wires up the broker that services are given."""

    @configuration
    class MessagingConfig:
        """Wire up the message broker as a bean."""

        @bean
        def broker(self) -> MessageBrokerPort:
            return InMemoryMessageBroker()

    @service
    class OrderService:
        def __init__(self, broker: MessageBrokerPort) -> None:
            self._broker = broker

        async def cancel_order(self, order_id: str) -> None:
            await self._broker.publish(
                "orders",
                json.dumps({"order_id": order_id, "status": "CANCELLED"}).encode(),
                headers={"event-type": "order.cancelled"},
            )

    received: list[Message] = []

    @message_listener("orders")
    async def on_order(msg: Message) -> None:
        received.append(msg)

    with isolated():
        application = bootstrap(MessagingConfig, OrderService, on_order)
        async with application:
            await application.get(OrderService).cancel_order("1")
    assert [msg.headers["event-type"] for msg in received] == ["order.cancelled"]
