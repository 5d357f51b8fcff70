"""A running in-memory broker for a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pyfly_messaging.adapters.memory import InMemoryMessageBroker
from pyfly_messaging.policy import ListenerPolicy


@asynccontextmanager
async def memory_broker(
    *,
    raise_errors: bool = True,
    skip_retry_delays: bool = True,
    policy: ListenerPolicy | None = None,
) -> AsyncIterator[InMemoryMessageBroker]:
    """Yield a started broker, and stop it at the end.

    ::

        async with memory_broker() as broker:
            await broker.subscribe("orders", service.on_order, group="billing")
            await broker.publish("orders", b"{}")  # returns when on_order has handled it

    Args:
        raise_errors: ``publish`` raises what a handler raised at its last attempt, so that the test
            fails with it.
        skip_retry_delays: Retries follow at once.
        policy: The policy of subscriptions that come without one.

    """
    broker = InMemoryMessageBroker(
        raise_errors=raise_errors, skip_retry_delays=skip_retry_delays, policy=policy
    )
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()
