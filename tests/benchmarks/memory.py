"""Memory: the broker beside a plain dictionary of handlers."""

from pyfly_messaging import Message
from pyfly_messaging.adapters.memory import InMemoryMessageBroker
from tests.benchmarks.harness import VALUE, Clock, Contest, Contestant


async def _nothing(message: Message) -> None:
    return


async def _plain(clock: Clock, count: int) -> None:
    handlers = {"orders": [_nothing]}

    async def publish(
        topic: str,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        message = Message(topic, value, key, headers or {})
        for handler in handlers[topic]:
            await handler(message)

    clock.start()
    for _ in range(count):
        await publish("orders", VALUE)
    clock.stop()


async def _ours(clock: Clock, count: int) -> None:
    broker = InMemoryMessageBroker()
    await broker.subscribe("orders", _nothing, "group")
    await broker.start()
    clock.start()
    for _ in range(count):
        await broker.publish("orders", VALUE)
    clock.stop()
    await broker.stop()


def contests(scale: float) -> list[Contest]:
    """Return the contests on memory."""
    return [
        Contest(
            name="memory publish",
            messages=int(200_000 * scale),
            contestants=(
                Contestant(name="dict of handlers", run=_plain),
                Contestant(name="pyfly-messaging", run=_ours),
            ),
        )
    ]
