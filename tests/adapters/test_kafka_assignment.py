"""What is kept of assignments that have ended, without a broker."""

import asyncio
import gc
import weakref

from aiokafka.structs import ConsumerRecord, TopicPartition

from pyfly_messaging.adapters.kafka.assignment import Assignments
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.registry import Registry
from pyfly_messaging.delivery.subscription import Subscription
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy
from pyfly_messaging.ports import MessageHandler
from pyfly_messaging.settings import KafkaSettings

PARTITION = TopicPartition("orders", 0)


async def _commit(offsets: dict[TopicPartition, int]) -> None:
    return


async def _bury(letter: Message, error: BaseException) -> None:
    raise AssertionError


def assignments_for(handler: MessageHandler) -> Assignments:
    """Return the assignments of a listener of a group."""
    subscription = Subscription.of("orders", handler, "group", policy=ListenerPolicy())
    route, _ = Registry(_bury).add(subscription)
    return Assignments(route, KafkaSettings(), _commit)


def one_record() -> ConsumerRecord[bytes, bytes]:
    """Return a record."""
    return ConsumerRecord("orders", 0, 0, 0, 0, None, b"value", None, 0, 5, ())


async def _ignore(message: Message) -> None:
    return


async def test_nothing_is_kept_of_what_has_ended() -> None:
    """However often a group assigns its partitions, ended assignments take no memory."""
    assignments, ended = assignments_for(_ignore), []
    for _ in range(5):
        assignments.begin()
        assert assignments.are_there
        ended.append(weakref.ref(assignments.current))
        await assignments.end(Deadline(1.0))
        assert not assignments.are_there
    assignments.begin()
    await assignments.end(Deadline(1.0))
    await asyncio.sleep(0)
    gc.collect()
    assert [each() for each in ended] == [None] * 5


async def test_a_handler_that_runs_on_is_waited_for_at_last() -> None:
    """A handler that outlasts the end of its assignment, and the next one, is not forgotten."""
    begun, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handle(message: Message) -> None:
        begun.set()
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue
        done.set()

    assignments = assignments_for(handle)
    assignments.begin()
    assert assignments.current is not None
    assignments.current.submit({PARTITION: [one_record()]})
    await begun.wait()
    await assignments.end(Deadline(0.01))
    assignments.begin()
    await assignments.end(Deadline(0.01))
    waiting = asyncio.create_task(assignments.drained())
    await asyncio.sleep(0)
    assert not waiting.done()
    go_on.set()
    await waiting
    assert done.is_set()


async def test_a_consumer_that_leaves_begins_nothing() -> None:
    """What a group assigns to a consumer that is about to leave is not taken."""
    assignments = assignments_for(_ignore)
    assignments.announce_last()
    assignments.begin()
    assert assignments.current is None
    assert not assignments.are_there
