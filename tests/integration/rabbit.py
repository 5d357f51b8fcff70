"""What the tests of the RabbitMQ adapter share: adapters with names of their own."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import aiormq
from aiormq.channel import Channel

from pyfly_messaging import Message, RabbitSettings
from pyfly_messaging.adapters.rabbitmq import RabbitMQAdapter
from pyfly_messaging.policy import ListenerPolicy, Timeouts

DEADLINE = 30.0
"""Seconds for something that takes milliseconds, on however busy a machine."""

QUICK = ListenerPolicy(retries=1, retry_delay=0.01)


class Inbox:
    """A handler that keeps what it gets."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._arrived = asyncio.Condition()

    @property
    def values(self) -> list[bytes]:
        return [message.value for message in self.messages]

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)
        async with self._arrived:
            self._arrived.notify_all()

    async def until(self, done: Callable[[], bool], timeout: float = DEADLINE) -> None:
        """Wait until something is true after a message has arrived."""
        async with asyncio.timeout(timeout), self._arrived:
            await self._arrived.wait_for(done)

    async def take(self, count: int, timeout: float = DEADLINE) -> list[Message]:
        """Wait until so many messages have arrived."""
        await self.until(lambda: len(self.messages) >= count, timeout)
        return self.messages

    async def has(self, values: set[bytes], timeout: float = DEADLINE) -> None:
        """Wait until all these values have arrived."""
        await self.until(lambda: values <= set(self.values), timeout)


class Gate:
    """A handler that says that it runs, and goes on when it is let."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        self.finished: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        self.entered.set()
        await self.open.wait()
        self.finished.append(message.value)


class Rabbit:
    """Adapters on one RabbitMQ, and a raw client beside them; all names begin alike."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.prefix = f"t{secrets.token_hex(4)}"
        self.exchange = f"{self.prefix}-exchange"
        self._adapters: list[RabbitMQAdapter] = []
        self._names: set[str] = set()

    def name(self, stem: str) -> str:
        """Return a name for a topic or group that no other test has."""
        name = f"{self.prefix}-{stem}"
        self._names.add(name)
        return name

    def adapter(
        self,
        *,
        policy: ListenerPolicy = QUICK,
        timeouts: Timeouts | None = None,
        url: str | None = None,
        **settings: Any,
    ) -> RabbitMQAdapter:
        """Return an adapter that is stopped at the end of the test."""
        adapter = RabbitMQAdapter.from_settings(
            RabbitSettings(url=url or self.url, exchange_name=self.exchange, **settings),
            policy=policy,
            timeouts=timeouts or Timeouts(shutdown=10.0),
        )
        self._adapters.append(adapter)
        return adapter

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Channel]:
        """Open a channel of the raw client, with confirms."""
        async with aiormq.connect(self.url) as connection:
            channel = await connection.channel(publisher_confirms=True)
            assert isinstance(channel, Channel)
            yield channel

    async def publish(self, topic: str, value: bytes, **properties: Any) -> None:
        """Publish as another client would."""
        async with self.channel() as channel:
            await channel.basic_publish(
                value,
                exchange=self.exchange,
                routing_key=topic,
                properties=aiormq.spec.Basic.Properties(delivery_mode=2, **properties),
                mandatory=True,
            )

    async def count(self, queue: str) -> int:
        """Return how many messages wait in a queue."""
        async with self.channel() as channel:
            declared = await channel.queue_declare(queue, passive=True)
            return declared.message_count or 0

    async def counts(self, queue: str, expected: int) -> None:
        """Wait until so many messages wait in a queue; quorum queues count a little late."""
        async with asyncio.timeout(DEADLINE):
            while await self.count(queue) != expected:
                await asyncio.sleep(0.05)

    async def take(self, queue: str) -> Any:
        """Take one message out of a queue, as soon as there is the queue and a message in it."""
        async with asyncio.timeout(DEADLINE):
            while True:
                with suppress(aiormq.exceptions.ChannelNotFoundEntity):
                    async with self.channel() as channel:
                        got = await channel.basic_get(queue, no_ack=True)
                        if isinstance(got.delivery, aiormq.spec.Basic.GetOk):
                            return got
                await asyncio.sleep(0.05)

    async def delete(self, *queues: str) -> None:
        """Delete queues."""
        async with self.channel() as channel:
            for queue in queues:
                await channel.queue_delete(queue)

    async def close(self) -> None:
        """Stop the adapters, and remove what they declared."""
        for adapter in self._adapters:
            await adapter.stop()
        async with self.channel() as channel:
            for name in self._names:
                for queue in (name, f"pyfly.{name}", f"pyfly.{name}.dlt", f"pyfly.{name}.dlt.dlt"):
                    await channel.queue_delete(queue)
            for exchange in (self.exchange, f"{self.exchange}.dlx"):
                await channel.exchange_delete(exchange)


@asynccontextmanager
async def rabbit_at(url: str) -> AsyncIterator[Rabbit]:
    """Provide adapters for a RabbitMQ, all stopped at the end."""
    rabbit = Rabbit(url)
    try:
        yield rabbit
    finally:
        await rabbit.close()


async def eventually(true: Callable[[], bool], timeout: float = DEADLINE) -> None:
    """Wait until something is true that tells nobody when it becomes so."""
    async with asyncio.timeout(timeout):
        while not true():
            await asyncio.sleep(0.01)


def others() -> set[asyncio.Task[Any]]:
    """Return the tasks that run beside the calling one."""
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


class Log(logging.Handler):
    """Keeps the text of what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.setLevel(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        self.text += f"{record.getMessage()}\n"


@contextmanager
def caught_logs(name: str) -> Iterator[Log]:
    """Provide what a logger gets meanwhile."""
    log, logger = Log(), logging.getLogger(name)
    logger.addHandler(log)
    try:
        yield log
    finally:
        logger.removeHandler(log)
