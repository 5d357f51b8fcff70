"""What goes back to RabbitMQ for each delivery: an acknowledgement, or the message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pyfly_messaging.adapters.rabbitmq import errors
from pyfly_messaging.delivery.acknowledge import Acknowledger
from pyfly_messaging.delivery.ledger import Ledger

if TYPE_CHECKING:
    from pyfly_messaging.adapters.rabbitmq.internals import DeliveryChannel

# A settled message waits this long for its acknowledgement, in seconds, or for this many others.
_FLUSH_EVERY_S = 0.1
_FLUSH_AFTER_COUNT = 50


class Acknowledgements:
    """Acknowledges the deliveries of one channel, several at once where the order allows it.

    Args:
        channel: The channel.
        prefetch: Deliveries that may be without acknowledgement there.
        name: What the task is called.
        on_loss: Called with the cause when the channel takes none any more; all that was not
            acknowledged is then delivered again.

    Attributes:
        settled: How many messages were settled.

    """

    def __init__(
        self,
        channel: DeliveryChannel,
        prefetch: int,
        *,
        name: str,
        on_loss: Callable[[BaseException], None],
    ) -> None:
        self.settled = 0
        self._channel = channel
        self._on_loss = on_loss
        self._ledger = Ledger()
        self._waiting = 0
        self._at_most = min(_FLUSH_AFTER_COUNT, max(1, prefetch // 2))
        self._acknowledger = Acknowledger(self.flush, interval=_FLUSH_EVERY_S, name=name)
        self._acknowledger.start()

    def expect(self, tags: Sequence[int]) -> None:
        """Note deliveries that are in work from now on, in their order."""
        self._ledger.take(tags)
        self._acknowledger.begin()

    def settle(self, tag: int) -> None:
        """Acknowledge a delivery, soon."""
        self._ledger.settle(tag)
        self.settled += 1
        self._waiting += 1
        if self._waiting >= self._at_most:
            self._waiting = 0
            self._acknowledger.nudge()

    def idle(self) -> None:
        """Note that nothing is in work: what is settled need not wait for more."""
        self._acknowledger.idle()

    async def requeue(self, tag: int) -> None:
        """Give one delivery back, for RabbitMQ to deliver it again."""
        self._ledger.withdraw(tag)
        try:
            await self._channel.basic_reject(tag, requeue=True, wait=False)
        except errors.CLIENT_ERRORS as error:
            errors.reraise_if_cancelled(error)
            self._on_loss(error)

    async def flush(self, *, wait: bool = False) -> None:
        """Acknowledge what is settled; with ``wait``, return when it is on its way."""
        if self._channel.is_closed:
            return
        up_to, singles = self._ledger.acknowledgeable()
        try:
            for tag in singles:
                await self._channel.basic_ack(tag, wait=wait)
            if up_to is not None:
                await self._channel.basic_ack(up_to, multiple=True, wait=wait)
        except errors.CLIENT_ERRORS as error:
            errors.reraise_if_cancelled(error)
            self._on_loss(error)

    async def stop(self) -> None:
        """End without a last flush."""
        await self._acknowledger.stop()
