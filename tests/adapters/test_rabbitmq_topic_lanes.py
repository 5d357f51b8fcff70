"""The topics of one queue, without a broker: who settles, and what becomes of the rest."""

import asyncio

import pytest

from pyfly_messaging import Message
from pyfly_messaging.adapters.rabbitmq.topic_lanes import Topics
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.registry import Registry
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.delivery.subscription import Subscription
from pyfly_messaging.errors import BrokerError
from pyfly_messaging.policy import ListenerPolicy
from pyfly_messaging.ports import MessageHandler


class Queue:
    """A queue of one topic, and the tags of what was settled there."""

    def __init__(self) -> None:
        self.settled: list[int] = []
        self.topics = Topics(1.0, lambda _: None)
        self._registry = Registry(self._no_dead_letters)

    def listen(self, handler: MessageHandler) -> Route:
        """Serve one more listener without a group."""
        route, _ = self._registry.add(
            Subscription.of("orders", handler, None, policy=ListenerPolicy())
        )
        self.topics.add(route)
        return route

    def bring(self, *tags: int) -> None:
        """Have messages arrive together."""
        messages = [Message("orders", str(tag).encode()) for tag in tags]
        self.topics.submit("orders", messages, tags, self.settled.append)

    async def settles(self, *tags: int) -> None:
        """Wait until exactly these are settled, in whatever order."""
        async with asyncio.timeout(5):
            while sorted(self.settled) != list(tags):
                await asyncio.sleep(0)

    async def close(self) -> None:
        await self.topics.drain(Deadline(0), None)

    async def _no_dead_letters(self, letter: Message, error: BaseException) -> None:
        raise BrokerError(f"a dead letter: {letter}") from error


async def takes(message: Message) -> None:
    """Handle at once."""


async def hangs(message: Message) -> None:
    """Never end."""
    await asyncio.Event().wait()


async def test_a_message_is_settled_when_every_listener_has_settled_it() -> None:
    """Of two listeners without a group the slower one decides."""
    queue, gate = Queue(), asyncio.Event()

    async def waits(message: Message) -> None:
        await gate.wait()

    queue.listen(takes)
    slow = queue.listen(waits)
    queue.bring(1, 2)
    async with asyncio.timeout(5):
        while any(queue.topics.in_flight(r) != (2 if r is slow else 0) for r in queue._registry):
            await asyncio.sleep(0)
    assert queue.settled == []
    gate.set()
    await queue.settles(1, 2)
    await queue.close()


async def test_a_listener_that_is_taken_out_holds_up_nobodys_messages() -> None:
    """What only it had is told; what others have, too, is settled when they have settled it."""
    queue = Queue()
    refused = queue.listen(hangs)
    queue.bring(1, 2)
    queue.listen(takes)
    queue.bring(3, 4)
    assert await queue.topics.forget(refused) == [1, 2]
    await queue.settles(3, 4)
    queue.bring(5)
    await queue.settles(3, 4, 5)
    assert await queue.topics.forget(refused) == []
    await queue.close()


async def test_a_listener_that_is_taken_out_does_not_give_back_what_was_another_channels() -> None:
    """Of what is in work only the messages of the channel that there is now are told."""
    queue = Queue()
    refused = queue.listen(hangs)
    queue.bring(1, 2)
    await asyncio.sleep(0)
    queue.topics.abandon()
    queue.bring(1, 2, 3)
    assert await queue.topics.forget(refused) == [1, 2, 3]
    assert queue.settled == []
    await queue.close()


@pytest.mark.parametrize("first", [True, False])
async def test_a_message_that_one_listener_settled_before_a_cut_comes_to_both_again(
    first: bool,
) -> None:
    """The tags of the next channel are counted anew, and those of the one before no more."""
    queue, gate = Queue(), asyncio.Event()

    async def waits(message: Message) -> None:
        await gate.wait()

    for handler in (takes, waits) if first else (waits, takes):
        queue.listen(handler)
    queue.bring(1, 2)
    await asyncio.sleep(0)
    queue.topics.abandon()
    before, queue.settled = queue.settled, []
    queue.bring(1)
    await asyncio.sleep(0)
    assert queue.settled == []
    gate.set()
    await queue.settles(1)
    assert 2 not in before, "it was not begun by the slow one any more"
    await queue.close()
