"""Faults of delivery, groups and order."""

import asyncio

from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy
from pyfly_messaging.ports import MessageHandler

from .base import Fault, Headers, Make, Outgoing, quietly


class AcknowledgesFirst(Fault):
    """Acknowledges a message before its handler has run."""

    def handler(self, handler: MessageHandler) -> MessageHandler:
        async def begin(message: Message) -> None:
            self.spawn(quietly(handler(message)))

        return begin

    async def stop(self) -> None:
        await self.inner.stop()
        self.cancel_all()


class RenewsNoClaim(Fault):
    """Gives a message to another handler when one takes long."""

    def handler(self, handler: MessageHandler) -> MessageHandler:
        async def handle(message: Message) -> None:
            first = self.spawn(handler(message))
            await asyncio.wait((first,), timeout=0.1)
            if not first.done():
                self.spawn(handler(message))
            await first

        return handle


class NeverAcknowledges(Fault):
    """Handles a message, and does not settle it."""

    def handler(self, handler: MessageHandler) -> MessageHandler:
        async def and_hang(message: Message) -> None:
            await handler(message)
            await asyncio.Event().wait()

        return and_hang


class SettlesWhatItCancels(Fault):
    """Takes a handler that it cancelled for one that succeeded."""

    def handler(self, handler: MessageHandler) -> MessageHandler:
        async def settle(message: Message) -> None:
            try:
                await handler(message)
            except asyncio.CancelledError:
                return

        return settle


class LosesAtStop(Fault):
    """Forgets at a stop whatever was not settled."""

    async def subscribe(
        self,
        topic: str,
        handler: MessageHandler,
        group: str | None = None,
        *,
        policy: ListenerPolicy | None = None,
        name: str | None = None,
    ) -> None:
        self.place = (topic, handler, group)
        await self.inner.subscribe(topic, handler, group, policy=policy, name=name)

    async def stop(self) -> None:
        await self.inner.stop()
        self.inner = self.make(self.default_policy)
        await self.inner.subscribe(*self.place)


class PublishesLazily(Fault):
    """Returns from publish before the broker has the message."""

    async def publish(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.spawn(super().publish(topic, value, key=key, headers=headers))

    async def stop(self) -> None:
        self.cancel_all()
        await self.inner.stop()


class IgnoresGroups(Fault):
    """Delivers to every handler of a group."""

    def group(self, group: str | None) -> None:
        return None


class SharesWithoutGroup(Fault):
    """Takes the listeners without a group for one group."""

    def group(self, group: str | None) -> str:
        return group or "none"


class CallsOneAfterTheOther(Fault):
    """Calls the listeners of a topic without a group one after the other."""

    def __init__(self, make: Make, policy: ListenerPolicy) -> None:
        super().__init__(make, policy)
        self._listeners: dict[str, list[MessageHandler]] = {}

    async def subscribe(
        self,
        topic: str,
        handler: MessageHandler,
        group: str | None = None,
        *,
        policy: ListenerPolicy | None = None,
        name: str | None = None,
    ) -> None:
        listeners = self._listeners.setdefault(topic, [])
        listeners.append(handler)
        if len(listeners) > 1:
            return

        async def call_each(message: Message) -> None:
            for listener in listeners:
                await listener(message)

        await self.inner.subscribe(topic, call_each, group, policy=policy, name=name)


class IsAloneInItsGroup(Fault):
    """Takes the same group of another instance for another group."""

    def group(self, group: str | None) -> str | None:
        return None if group is None else f"{group}-{id(self)}"


class ForgetsKeys(Fault):
    """Keeps no order within a key, for the broker does not know the keys."""

    def outgoing(self, value: bytes, key: bytes | None, headers: Headers) -> Outgoing:
        return value, None, {**(headers or {}), "the-key": (key or b"").decode()}

    def handler(self, handler: MessageHandler) -> MessageHandler:
        async def with_key(message: Message) -> None:
            headers = dict(message.headers)
            key = headers.pop("the-key", "").encode()
            await handler(Message(message.topic, message.value, key or None, headers))

        return with_key


class HasNoOrder(Fault):
    """Handles several messages at once, though asked to handle one after the other."""

    def policy(self, policy: ListenerPolicy) -> ListenerPolicy:
        return policy.replace(concurrency=max(2, policy.concurrency))


class IsNeverConcurrent(Fault):
    """Handles one message after the other, though asked to handle several at once."""

    def policy(self, policy: ListenerPolicy) -> ListenerPolicy:
        return policy.replace(concurrency=1)


class ExceedsConcurrency(Fault):
    """Handles more messages at once than it was asked to."""

    def policy(self, policy: ListenerPolicy) -> ListenerPolicy:
        return policy.replace(concurrency=policy.concurrency + 4 * (policy.concurrency > 1))


class RaisesConcurrency(Fault):
    """Gives every listener the concurrency of the most concurrent one."""

    def policy(self, policy: ListenerPolicy) -> ListenerPolicy:
        return policy.replace(concurrency=5)


class PutsBackAtStop(Fault):
    """Acknowledges first, and publishes again at a stop what was not handled by then."""

    def __init__(self, make: Make, policy: ListenerPolicy) -> None:
        super().__init__(make, policy)
        self._unhandled: list[Message] = []

    def handler(self, handler: MessageHandler) -> MessageHandler:
        async def handle(message: Message) -> None:
            await handler(message)
            self._unhandled.remove(message)

        async def begin(message: Message) -> None:
            self._unhandled.append(message)
            self.spawn(handle(message))

        return begin

    async def stop(self) -> None:
        self.cancel_all()
        for message in self._unhandled:
            await self.publish(message.topic, message.value, key=message.key)
        await self.inner.stop()
