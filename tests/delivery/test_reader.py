"""Reading in a loop: as room appears, again after errors, and to a clean end."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest

from pyfly_messaging.delivery import Batch, Deadline, Reader, ReadingBroker, Route
from pyfly_messaging.errors import BrokerUnavailableError, NotStartedError
from pyfly_messaging.message import Message
from tests.delivery.clock import on_virtual_time, turns


class Source(Reader):
    """Reads from a queue of numbers; it can be told to fail."""

    def __init__(self, route: Route, queue: deque[int]) -> None:
        super().__init__(route, in_flight=3, interval=1.0)
        self.queue = queue
        self.log: list[str] = []
        self.rooms: list[int] = []
        self.settled: list[int] = []
        self.saved: list[int] = []
        self.ours = True
        self.refusal: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def _begin(self) -> bool:
        self.log.append("begin")
        await self.gate.wait()
        self._refuse()
        return self.ours

    async def _read(self, room: int) -> Batch[int] | None:
        self._refuse()
        self.rooms.append(room)
        tokens = [self.queue.popleft() for _ in range(min(room, len(self.queue)))]
        messages = [Message(self.route.topic, b"%d" % token) for token in tokens]
        return Batch(self.route, messages, tokens, self.settled.append) if tokens else None

    async def _acknowledge(self) -> bool:
        self.saved = list(self.settled)
        return self.ours

    async def _end(self) -> None:
        self.log.append("end")

    def _refuse(self) -> None:
        if self.refusal is not None:
            refusal, self.refusal = self.refusal, None
            raise refusal


class Queues(ReadingBroker):
    """A broker of one topic."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: deque[int] = deque()
        self.made: list[Source] = []

    async def _open(self, deadline: Deadline) -> None:
        """Nothing to open."""

    async def _disconnect(self) -> None:
        """Nothing to close."""

    def _reader(self, route: Route) -> Reader:
        self.made.append(Source(route, self.queue))
        return self.made[-1]

    async def _send(
        self, topic: str, value: bytes, key: bytes | None, headers: dict[str, str] | None
    ) -> None:
        self.queue.append(int(value))
        self._wake(topic)


class Handler:
    """Notes what it gets, and waits while its gate is closed."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def handle(self, message: Message) -> None:
        self.got.append(message.value)
        await self.gate.wait()


async def started(handler: Handler) -> tuple[Queues, Source]:
    broker = Queues()
    await broker.subscribe("a", handler.handle, "group")
    await broker.start()
    (source,) = broker.made
    return broker, source


@on_virtual_time
async def test_it_reads_as_room_appears() -> None:
    """It never holds more than it may, and acknowledges what is settled."""
    handler = Handler()
    handler.gate.clear()
    broker, source = await started(handler)
    broker.queue.extend(range(5))
    await asyncio.sleep(2)
    assert list(broker.queue) == [3, 4]
    assert broker.health().consumers[0].in_flight == 3
    handler.gate.set()
    await asyncio.sleep(2)
    assert handler.got == [b"0", b"1", b"2", b"3", b"4"]
    assert source.saved == source.settled == [0, 1, 2, 3, 4]
    assert max(source.rooms) == 3
    await broker.stop()
    assert source.log == ["begin", "end"]


@on_virtual_time
async def test_a_published_message_wakes_it() -> None:
    """What this process publishes need not wait for the interval."""
    handler = Handler()
    broker, _ = await started(handler)
    await turns()
    await broker.publish("a", b"1")
    await turns()
    assert handler.got == [b"1"]
    await broker.stop()


@pytest.mark.parametrize(
    ("refusal", "text"),
    [(BrokerUnavailableError("gone", address="here"), "gone"), (KeyError("x"), "KeyError('x')")],
)
def test_it_begins_again_after_an_error(refusal: Exception, text: str) -> None:
    """After an error health says why it does not read, until it has begun again."""

    @on_virtual_time
    async def scenario() -> None:
        handler = Handler()
        broker, source = await started(handler)
        await turns()
        source.refusal = refusal
        await broker.publish("a", b"1")
        await turns()
        (health,) = broker.health().consumers
        assert (health.state, health.error) == ("reconnecting", text)
        await asyncio.sleep(1.5)
        assert broker.health().healthy
        assert handler.got == [b"1"]
        assert source.log == ["begin", "begin"]
        await broker.stop()

    scenario()


@on_virtual_time
async def test_it_waits_while_another_instance_has_the_claim() -> None:
    """Without the claim it stands by; a claim that is lost ends the handlers of what was read."""
    handler = Handler()
    broker, source = await started(handler)
    handler.gate.clear()
    await broker.publish("a", b"1")
    await turns()
    source.ours = False
    await asyncio.sleep(3)
    assert broker.health().consumers[0].in_flight == 0
    assert source.settled == []
    source.ours = True
    handler.gate.set()
    await broker.publish("a", b"2")
    await asyncio.sleep(2)
    assert source.settled == [2]
    await broker.stop()


@on_virtual_time
async def test_a_stop_acknowledges_while_it_drains() -> None:
    """A running handler may finish during the stop; the claim is kept until then."""
    handler = Handler()
    broker, source = await started(handler)
    handler.gate.clear()
    for value in (b"1", b"2"):
        await broker.publish("a", value)
    await turns()
    stopping = asyncio.create_task(broker.stop())
    await asyncio.sleep(5)
    assert source.log == ["begin"]
    handler.gate.set()
    await stopping
    assert handler.got == [b"1"]
    assert source.saved == [1]
    assert source.log == ["begin", "end"]


@on_virtual_time
async def test_a_first_begin_that_fails() -> None:
    """An error of the first begin is the caller's, and the reader can be started again."""
    handler = Handler()
    broker, source = await started(handler)
    await broker.stop()
    source.refusal = BrokerUnavailableError("gone", address="here")
    with pytest.raises(BrokerUnavailableError):
        await broker.start()
    await broker.start()
    assert broker.health().healthy
    await broker.stop()


@on_virtual_time
async def test_a_stop_while_it_begins() -> None:
    """Who waits for a start that a stop has overtaken does not start it after all."""
    handler = Handler()
    broker, source = await started(handler)
    await broker.stop()
    source.gate.clear()
    starts = [asyncio.create_task(source.start()) for _ in range(2)]
    await turns()
    stopping = asyncio.create_task(source.stop(Deadline(0)))
    await turns()
    starts[0].cancel()
    await stopping
    first, second = await asyncio.gather(*starts, return_exceptions=True)
    assert isinstance(first, asyncio.CancelledError)
    assert isinstance(second, NotStartedError)
    assert source.log[-2:] == ["begin", "end"]
