"""What a channel brought that no handler here takes: it goes back, or is dead-lettered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from pyfly_messaging.adapters.rabbitmq.strays import (
    HAND_BACKS,
    HAND_BACKS_AT_MOST,
    Strays,
    pause,
)
from pyfly_messaging.errors import BrokerError
from pyfly_messaging.logs import describe, get_logger
from pyfly_messaging.message import Message, set_origin

if TYPE_CHECKING:
    from pyfly_messaging.adapters.rabbitmq.codec import Delivery
    from pyfly_messaging.adapters.rabbitmq.receipts import Receipts

logger = get_logger("pyfly_messaging.rabbitmq.messages")

# Before a dead letter that was not confirmed is published again. Seconds.
_BURY_AGAIN_AFTER = 1.0


class Returns:
    """Returns the strays of one channel, each after a pause that grows every time.

    While others consume the queue, one of them may know the topic, be it that it is only too busy
    at the moment. Nobody does when this process is alone for a while.

    Args:
        strays: Counts and dead-letters them.
        receipts: Takes what becomes of them.
        consumers: Asks RabbitMQ how many consumers the queue has, this process's included.
        on_settled: Called when one is off our hands.
        counted: Whether RabbitMQ counts the deliveries of a message itself.

    """

    def __init__(
        self,
        strays: Strays,
        receipts: Receipts,
        consumers: Callable[[], Awaitable[int]],
        on_settled: Callable[[], None],
        *,
        counted: bool,
    ) -> None:
        self._strays = strays
        self._receipts = receipts
        self._consumers = consumers
        self._on_settled = on_settled
        self._counted = counted
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking: asyncio.Task[bool] | None = None

    def take(self, message: Message, delivery: Delivery, group: str | None) -> None:
        """Take a message that nobody here takes."""
        self._begin(self._return(message, delivery, group), message.topic)

    def unreadable(self, delivery: Delivery, group: str | None, error: Exception) -> None:
        """Take a delivery that could not be decoded.

        The first time it is handed back: another process, or another moment, may be able to. Then
        its value is dead-lettered.
        """
        message = Message(delivery.routing_key, delivery.body)
        set_origin(message, delivery)
        if delivery.redelivered:
            returning = self._settle(message, delivery, group, 1, error)
        else:
            returning = self._hand_back(delivery, 0)
        self._begin(returning, message.topic)

    def _begin(self, returning: Coroutine[Any, Any, None], topic: str) -> None:
        task = asyncio.create_task(returning, name=f"pyfly rabbitmq return {topic}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def halt(self) -> None:
        """Leave what is not returned yet to the end of the channel."""
        for task in self._tasks:
            task.cancel()
        if self._asking is not None:
            self._asking.cancel()

    async def halted(self) -> None:
        """Wait for the end of what `halt` has ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _return(self, message: Message, delivery: Delivery, group: str | None) -> None:
        seen = self._strays.count(message, delivery.id, again=delivery.redelivered)
        times = max(seen, delivery.failures) if self._counted else seen  # in any process
        if times >= HAND_BACKS_AT_MOST or (seen >= HAND_BACKS and await self._alone()):
            await self._settle(message, delivery, group, times)
        else:
            await self._hand_back(delivery, times)

    async def _hand_back(self, delivery: Delivery, times: int) -> None:
        await asyncio.sleep(pause(times))
        await self._receipts.hand_back(delivery.tag)
        self._on_settled()

    async def _settle(
        self,
        message: Message,
        delivery: Delivery,
        group: str | None,
        times: int,
        error: Exception | None = None,
    ) -> None:
        """Dead-letter a message, for as long as it takes."""
        while True:
            try:
                await self._strays.bury(message, group, times, error)
            except Exception as refusal:  # noqa: BLE001 - where a delivery is settled
                logger.warning("RabbitMQ: %s; tried again", describe(refusal))
                await asyncio.sleep(_BURY_AGAIN_AFTER)
            else:
                break
        self._receipts.settle(delivery.tag)
        self._on_settled()

    async def _alone(self) -> bool:
        """Tell whether nobody else consumes the queue. Those who ask together ask once."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="pyfly rabbitmq count consumers")
        return await asyncio.shield(self._asking)

    async def _ask(self) -> bool:
        try:
            return await self._consumers() <= 1
        except BrokerError:
            return False  # whoever is there, the channel is about to end
