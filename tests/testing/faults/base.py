"""A broker that passes everything on to a sound one, with places where a fault can sit."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol, TypeAlias

from pyfly_messaging.health import Health
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy
from pyfly_messaging.ports import MessageBrokerPort, MessageHandler, PublishesBatches, ReportsHealth


class Broker(MessageBrokerPort, PublishesBatches, ReportsHealth, Protocol):
    """What a sound broker offers."""

    async def subscribe(
        self,
        topic: str,
        handler: MessageHandler,
        group: str | None = None,
        *,
        policy: ListenerPolicy | None = None,
        name: str | None = None,
    ) -> None: ...


Headers: TypeAlias = dict[str, str] | None
Outgoing: TypeAlias = tuple[bytes, bytes | None, Headers]
Make = Callable[[ListenerPolicy], Broker]


class Fault:
    """Passes everything on; each subclass gets one thing wrong."""

    def __init__(self, make: Make, policy: ListenerPolicy) -> None:
        self.make = make
        self.default_policy = policy
        self.inner = make(self.policy(policy))
        self.tasks: set[asyncio.Task[Any]] = set()

    def policy(self, policy: ListenerPolicy) -> ListenerPolicy:
        """Change the policy of each listener."""
        return policy

    def handler(self, handler: MessageHandler) -> MessageHandler:
        """Change each handler."""
        return handler

    def group(self, group: str | None) -> str | None:
        """Change the group of each listener."""
        return group

    def topic(self, topic: str) -> str:
        """Change each topic."""
        return topic

    def outgoing(self, value: bytes, key: bytes | None, headers: Headers) -> Outgoing:
        """Change each message that is published."""
        return value, key, headers

    async def publish(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        value, key, headers = self.outgoing(value, key, headers)
        await self.inner.publish(self.topic(topic), value, key=key, headers=headers)

    async def subscribe(
        self,
        topic: str,
        handler: MessageHandler,
        group: str | None = None,
        *,
        policy: ListenerPolicy | None = None,
        name: str | None = None,
    ) -> None:
        policy = None if policy is None else self.policy(policy)
        group, handler = self.group(group), self.handler(handler)
        topic = self.topic(topic)
        await self.inner.subscribe(topic, handler, group, policy=policy, name=name)

    async def start(self) -> None:
        await self.inner.start()

    async def stop(self) -> None:
        await self.inner.stop()

    async def publish_many(self, messages: Iterable[Message]) -> None:
        await self.inner.publish_many(messages)

    def health(self) -> Health:
        return self.inner.health()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something in the background."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        return task

    def cancel_all(self) -> None:
        """Cancel what runs in the background."""
        for task in self.tasks:
            task.cancel()


async def quietly(handling: Coroutine[Any, Any, None]) -> None:
    """Run a handler, and forget what it raises."""
    try:
        await handling
    except Exception:
        return
