"""An application that is cancelled while it starts, runs or stops leaves nothing behind."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from pyfly_messaging import Message, MessageBrokerPort, bootstrap
from pyfly_messaging.adapters.memory import InMemoryMessageBroker
from pyfly_messaging.container import bean, configuration, service
from pyfly_messaging.errors import NotStartedError
from pyfly_messaging.listener import message_listener
from pyfly_messaging.policy import Timeouts
from pyfly_messaging.settings import isolated
from pyfly_messaging.testing.conformance.leftovers import Leftovers
from pyfly_messaging.testing.conformance.moments import Moment, moments

SEED = 20_260
DEADLINE_S = 30.0
SHUTDOWN_S = 0.05  # for the handler, which does not end by itself


class Pool:
    """Something that has to be closed."""

    opened = 0
    closed = 0


@pytest.fixture(autouse=True)
def counts() -> None:
    """Begin to count anew."""
    Pool.opened = Pool.closed = 0


@configuration
class Beans:
    """A bean that takes several turns to open and to close."""

    @bean
    async def pool(self) -> AsyncIterator[Pool]:
        await _turns(5)
        Pool.opened += 1
        try:
            yield Pool()
        finally:
            Pool.closed += 1  # a second cancellation may cut short what follows
            await _turns(5)


@service
class Orders:
    """Handlers that go on until they are cancelled."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    @message_listener("orders", group="billing")
    async def on_order(self, message: Message) -> None:
        await asyncio.sleep(3600)


@pytest.mark.usefixtures("no_broker_starts")
@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("place", ["entry", "inside", "exit"])
async def test_application(place: str, twice: bool) -> None:
    """Cancelled on entry, inside or at exit it is stopped, and what it made is closed once."""
    with isolated():
        for moment in moments(SEED, 0.005, 60, twice=twice):
            before, opened = Leftovers(), Pool.opened
            broker = InMemoryMessageBroker(timeouts=Timeouts(shutdown=SHUTDOWN_S))
            reached = asyncio.Event()
            task = asyncio.create_task(_run(broker, place, reached))
            if place != "entry":
                await asyncio.wait_for(reached.wait(), DEADLINE_S)
            await _cancel(moment, task)
            with pytest.raises(NotStartedError):
                await broker.publish("orders", b"too late")
            assert not broker.health().started, moment
            assert Pool.opened <= opened + 1, moment
            assert Pool.closed == Pool.opened, f"{moment}: a bean was not cleaned up"
            await before.gone(DEADLINE_S)


async def _run(broker: MessageBrokerPort, place: str, reached: asyncio.Event) -> None:
    """Run an application until it is cancelled; at its exit a handler runs."""
    async with bootstrap(Beans, Orders, broker=broker):
        publishing = asyncio.create_task(broker.publish("orders", b"order"))
        publishing.add_done_callback(lambda task: task.cancelled() or task.exception())
        await _turns(3)
        reached.set()
        if place != "exit":
            await asyncio.sleep(3600)


async def _cancel(moment: Moment, task: asyncio.Task[None]) -> None:
    await moment.cancel(task)
    await asyncio.wait({task}, timeout=DEADLINE_S / 2)
    assert task.done(), f"{moment}: it does not end"
    # At its exit it may be over before.
    assert task.cancelled() or task.exception() is None, f"{moment}: {task.exception()!r}"


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
