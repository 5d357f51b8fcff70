"""`memory_broker`: a running broker for a test."""

import pytest

from pyfly_messaging.errors import NotStartedError
from pyfly_messaging.message import Message
from pyfly_messaging.testing import memory_broker


async def test_publish_returns_when_it_is_handled() -> None:
    """A message is handled when its publish returns."""
    received: list[Message] = []

    async def note(message: Message) -> None:
        received.append(message)

    async with memory_broker() as broker:
        await broker.subscribe("orders", note)
        await broker.publish("orders", b"1")
        assert received == [Message("orders", b"1")]


async def test_error_of_a_handler_fails_the_test() -> None:
    """What a handler raises at its last attempt comes out of publish, without any pause before."""

    async def refuse(message: Message) -> None:
        raise LookupError("no such order")

    async with memory_broker() as broker:
        await broker.subscribe("orders", refuse)
        with pytest.raises(LookupError, match="no such order"):
            await broker.publish("orders", b"1")
        assert len(broker.dead_letters) == 1


async def test_error_stays_inside_when_asked() -> None:
    """With raise_errors false it behaves as in production."""

    async def refuse(message: Message) -> None:
        raise LookupError

    async with memory_broker(raise_errors=False) as broker:
        await broker.subscribe("orders", refuse)
        await broker.publish("orders", b"1")


async def test_broker_is_stopped_at_the_end() -> None:
    """After the block the broker is stopped."""
    async with memory_broker() as broker:
        pass
    with pytest.raises(NotStartedError):
        await broker.publish("orders", b"1")
