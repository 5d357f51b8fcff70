"""The order pipeline: one service publishes, two others listen, each in a group of its own.

`make demo` runs it. The settings choose the broker: `PYFLY_MESSAGING__PROVIDER=kafka make demo`.
"""

import asyncio
import json
import logging
import sys
import uuid
from typing import Any

from pyfly_messaging import (
    ConfigurationError,
    Message,
    MessageBrokerPort,
    MessagingError,
    MessagingSettings,
    bootstrap,
    message_listener,
)
from pyfly_messaging.adapters.memory import InMemoryMessageBroker
from pyfly_messaging.container import bean, configuration, service
from pyfly_messaging.errors import BrokerUnavailableError
from pyfly_messaging.factory import detect
from pyfly_messaging.settings import StartupSettings

# ---------------------------------------------------------------------------
# Configuration
# ---------------------------------------------------------------------------


@configuration
class MessagingConfig:
    """Wire up the message broker as a bean.

    Only where the code is to decide: a bean wins over the settings. This demo does not pass the
    class to bootstrap(), so that pyfly.yaml and the environment decide.
    """

    @bean
    def broker(self) -> MessageBrokerPort:
        return InMemoryMessageBroker()


# ---------------------------------------------------------------------------
# Producer
# ---------------------------------------------------------------------------


@service
class OrderService:
    """Creates orders and publishes events to the 'orders' topic."""

    def __init__(self, broker: MessageBrokerPort) -> None:
        self._broker = broker

    async def create_order(self, customer_id: str, items: list[dict[str, Any]]) -> dict[str, Any]:
        order = {
            "order_id": str(uuid.uuid4()),
            "customer_id": customer_id,
            "items": items,
            "status": "CREATED",
        }
        await self._broker.publish(
            "orders",
            json.dumps(order).encode(),
            key=customer_id.encode(),
            headers={"event-type": "order.created"},
        )
        return order

    async def cancel_order(self, order_id: str) -> None:
        await self._broker.publish(
            "orders",
            json.dumps({"order_id": order_id, "status": "CANCELLED"}).encode(),
            headers={"event-type": "order.cancelled"},
        )


# ---------------------------------------------------------------------------
# Consumers
# ---------------------------------------------------------------------------


@service
class Deliveries:
    """What the consumers have handled, so that the demo knows when it is over."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str, str]] = set()
        self._more = asyncio.Event()

    def record(self, consumer: str, order_id: str, event_type: str) -> None:
        self._seen.add((consumer, order_id, event_type))
        self._more.set()

    async def wait_for(self, expected: set[tuple[str, str, str]], within: float) -> None:
        """Wait until all that is expected has come, at most `within` seconds.

        A broker may still have messages of an earlier run: they are handled, and not counted.
        """
        async with asyncio.timeout(within):
            while not expected <= self._seen:
                self._more.clear()
                await self._more.wait()


@service
class NotificationService:
    """Sends customer notifications for order events."""

    def __init__(self, deliveries: Deliveries) -> None:
        self._deliveries = deliveries

    @message_listener(topic="orders", group="notifications")
    async def on_order_event(self, msg: Message) -> None:
        order = json.loads(msg.value)
        event_type = msg.headers.get("event-type", "unknown")
        print(f"[Notification] {event_type}: order {order['order_id']}")
        self._deliveries.record("notifications", order["order_id"], event_type)


@service
class AnalyticsService:
    """Tracks order metrics. Runs in its own consumer group."""

    def __init__(self, deliveries: Deliveries) -> None:
        self._deliveries = deliveries

    @message_listener(topic="orders", group="analytics")
    async def on_order_event(self, msg: Message) -> None:
        order = json.loads(msg.value)
        event_type = msg.headers.get("event-type", "unknown")
        print(f"[Analytics] Recording event for order {order['order_id']}")
        self._deliveries.record("analytics", order["order_id"], event_type)


# ---------------------------------------------------------------------------
# The demo
# ---------------------------------------------------------------------------

SERVICES = (OrderService, NotificationService, AnalyticsService, Deliveries)
PATIENCE = 30.0  # seconds for all deliveries


async def demo(settings: MessagingSettings) -> int:
    """Create three orders, cancel two, and return the number of events when all were handled."""
    application = bootstrap(*SERVICES, settings=settings)
    async with application:
        orders = application.get(OrderService)
        created = [
            await orders.create_order(customer, [{"sku": "tea", "quantity": quantity}])
            for customer, quantity in (("alice", 1), ("bob", 2), ("alice", 3))
        ]
        events = [(order["order_id"], "order.created") for order in created]
        for order in created[:2]:
            await orders.cancel_order(order["order_id"])
            events.append((order["order_id"], "order.cancelled"))
        expected = {(who, *event) for who in ("notifications", "analytics") for event in events}
        await application.get(Deliveries).wait_for(expected, PATIENCE)
    return len(events)


def load_settings() -> MessagingSettings:
    """Load the settings; without one of its own the demo's start has ten seconds."""
    settings = MessagingSettings()
    if settings.origin("startup.timeout").kind != "default":
        return settings
    return settings.model_copy(update={"startup": StartupSettings(timeout=10)})


def provider_and_address(settings: MessagingSettings) -> tuple[str, str]:
    provider = detect()[0] if settings.provider == "auto" else settings.provider
    addresses = {
        "memory": "in this process",
        "kafka": ",".join(settings.kafka.bootstrap_servers),
        "rabbitmq": settings.rabbitmq.redacted_url,
    }
    return provider, addresses.get(provider, "an adapter that is installed")


WAYS_OUT = {
    "kafka": "PYFLY_MESSAGING__KAFKA__BOOTSTRAP_SERVERS=host:9092",
    "rabbitmq": "PYFLY_MESSAGING__RABBITMQ__URL=amqp://user:password@host/",
}


def main() -> int:
    # The errors of this library, and not each of the attempts that a client makes before.
    logging.basicConfig(level=logging.CRITICAL, format="%(message)s")
    logging.getLogger("pyfly_messaging").setLevel(logging.ERROR)
    try:
        settings = load_settings()
        provider, address = provider_and_address(settings)
        print(f"Provider: {provider} ({address})")
        count = asyncio.run(demo(settings))
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 78
    except BrokerUnavailableError as error:
        print(f"error: {error}", file=sys.stderr)
        if provider in WAYS_OUT:
            print(f"Name its address: {WAYS_OUT[provider]} make demo", file=sys.stderr)
            print(
                "Or start one on this machine, in another terminal: make brokers", file=sys.stderr
            )
        return 1
    except MessagingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except TimeoutError:
        print(f"error: not every event arrived within {PATIENCE:g} s", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"Notifications and analytics each handled all {count} events of this run.")
    others = (name for name in ("memory", "kafka", "rabbitmq") if name != provider)
    ways = " or ".join(f"PYFLY_MESSAGING__PROVIDER={name} make demo" for name in others)
    print(f"The same code on another broker: {ways}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
