"""Faults of start, stop, subscribe, and publishing around them."""

import asyncio

from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy
from pyfly_messaging.ports import MessageHandler

from .base import Fault


class PublishesAtAnyTime(Fault):
    """Accepts a message before its start and after its stop."""

    async def publish(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        await self.inner.start()
        await super().publish(topic, value, key=key, headers=headers)


class StartsLater(Fault):
    """Returns from start before it listens, and misses what is published meanwhile."""

    deaf = False

    async def start(self) -> None:
        await self.inner.start()
        self.deaf = True
        asyncio.get_running_loop().call_later(0.05, setattr, self, "deaf", False)

    async def publish(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        if not self.deaf:
            await super().publish(topic, value, key=key, headers=headers)


class SubscribesLater(Fault):
    """Forgets a listener that comes after the start."""

    running = False

    async def start(self) -> None:
        await self.inner.start()
        self.running = True

    async def subscribe(
        self,
        topic: str,
        handler: MessageHandler,
        group: str | None = None,
        *,
        policy: ListenerPolicy | None = None,
        name: str | None = None,
    ) -> None:
        if not self.running:
            await super().subscribe(topic, handler, group, policy=policy, name=name)


class SubscribesTwice(Fault):
    """Takes the same listener more than once."""

    def handler(self, handler: MessageHandler) -> MessageHandler:
        async def another(message: Message) -> None:
            await handler(message)

        return another


class StopsInTheBackground(Fault):
    """Returns from stop while handlers run."""

    async def stop(self) -> None:
        if not self.tasks:
            self.spawn(self.inner.stop())


class NeverStops(Fault):
    """Waits for ever in stop."""

    async def stop(self) -> None:
        await asyncio.Event().wait()


class StopsAtOnce(Fault):
    """Cancels the handlers that run, without giving them time."""

    def handler(self, handler: MessageHandler) -> MessageHandler:
        async def noted(message: Message) -> None:
            await self.spawn(handler(message))

        return noted

    async def stop(self) -> None:
        self.cancel_all()
        await self.inner.stop()


class LeavesATask(Fault):
    """Leaves a task behind."""

    async def start(self) -> None:
        await self.inner.start()
        self.spawn(asyncio.sleep(3600))
