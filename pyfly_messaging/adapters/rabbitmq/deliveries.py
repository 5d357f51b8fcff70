"""The channel that messages arrive on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiormq.channel import Channel

if TYPE_CHECKING:
    from aiormq import Connection, spec
    from aiormq.abc import DeliveredMessage


DELIVERY_COUNT = "x-delivery-count"
"""A header that quorum queues add to what they deliver again."""


@dataclass(slots=True)
class Delivery:
    """A message as it arrived.

    Attributes:
        tag: What it is acknowledged by.
        routing_key: What it was published with.
        exchange: Where it was published to last; empty for RabbitMQ's default exchange, whose
            routing keys are names of queues.
        headers: Its headers, of any type that AMQP knows.
        body: Its payload.
        id: What its publisher told it from others by, if it did.
        redelivered: Whether RabbitMQ has delivered it before.

    """

    tag: int
    routing_key: str
    exchange: str
    headers: dict[str, Any] | None
    body: bytes
    id: str | None = None
    redelivered: bool = False

    @property
    def failures(self) -> int:
        """How often a quorum queue delivered it in vain before, to any process.

        A publisher can write that header too. A quorum queue overwrites it at each redelivery; a
        classic queue never does, so do not ask for its deliveries.
        """
        count = (self.headers or {}).get(DELIVERY_COUNT)
        return count if self.redelivered and isinstance(count, int) else 0


Deliver = Callable[[Delivery], None]
"""Takes what arrived; must neither block nor raise."""

# What else may come between the frames of messages.
_OTHER_FRAMES = 16


class DeliveryChannel(Channel):
    """Hands each message over with a plain call.

    aiormq 7.2 starts a task for each delivery, a third of what the delivery costs, and cancels it
    when the connection is cut. Handing over needs none. ``_on_deliver_frame`` is the method that
    would start it; if a later release has no such method any more, messages come through the
    callback of ``basic_consume`` as usual.
    """

    def __init__(self, *args: Any, deliver: Deliver, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deliver = deliver

    @classmethod
    async def open_on(
        cls, connection: Connection, deliver: Deliver, prefetch: int
    ) -> DeliveryChannel:
        """Open a channel with room for all that may be on its way.

        A connection's reader waits while the buffer of one of its channels is full, and wakes the
        channel's own reader each time: with the default of 10 frames, after every third message.
        """
        number = max(connection.channels, default=0) + 1
        channel = cls(
            connection,
            number,
            publisher_confirms=False,
            frame_buffer=3 * prefetch + _OTHER_FRAMES,
            deliver=deliver,
        )
        connection.channels[number] = channel
        await channel.open()
        await channel.basic_qos(prefetch_count=prefetch)
        return channel

    async def raise_prefetch(self, queue: str, prefetch: int) -> str:
        """Consume with room for more; return the tag of the consumer that has it.

        A prefetch is a consumer's, from its beginning on. What the one before was given stays in
        work; it has to be cancelled.
        """
        await self.basic_qos(prefetch_count=prefetch)
        return await self.consume(queue)

    async def consume(self, queue: str) -> str:
        """Begin to consume; return the tag to cancel it by."""

        async def deliver(message: DeliveredMessage) -> None:
            self._deliver(_delivery(message.delivery, message))

        started = await self.basic_consume(queue, deliver)
        assert started.consumer_tag is not None  # noqa: S101 - RabbitMQ always names it
        return started.consumer_tag

    async def _on_deliver_frame(self, frame: spec.Basic.Deliver) -> None:
        header: Any = await self._get_frame()
        self._deliver(_delivery(frame, await self._read_content(frame, header)))


def _delivery(frame: Any, message: DeliveredMessage) -> Delivery:
    properties = message.header.properties
    return Delivery(
        frame.delivery_tag,
        frame.routing_key,
        frame.exchange,
        properties.headers,
        message.body,
        properties.message_id,
        frame.redelivered,
    )
