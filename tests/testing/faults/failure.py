"""Faults of retry and dead letters."""

import asyncio
import contextlib
import logging

from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy
from pyfly_messaging.ports import MessageHandler

from .base import Fault, Headers, Make, Outgoing, quietly


class SwallowsErrors(Fault):
    """Takes a handler that failed for one that succeeded."""

    def handler(self, handler: MessageHandler) -> MessageHandler:
        async def swallow(message: Message) -> None:
            await quietly(handler(message))

        return swallow


class LosesGeneratorExits(Fault):
    """Takes a handler that raised `GeneratorExit` for one that was closed."""

    def handler(self, handler: MessageHandler) -> MessageHandler:
        async def lose(message: Message) -> None:
            with contextlib.suppress(GeneratorExit):
                await handler(message)

        return lose


class DropsWhatIsSpent(Fault):
    """Writes no dead letters."""

    def policy(self, policy: ListenerPolicy) -> ListenerPolicy:
        return policy.replace(dead_letter=False)


class RetriesForEver(Fault):
    """Never gives a message up."""

    def policy(self, policy: ListenerPolicy) -> ListenerPolicy:
        return policy.replace(retries=1_000_000)


class RetriesAtOnce(Fault):
    """Makes no pause before a retry."""

    def policy(self, policy: ListenerPolicy) -> ListenerPolicy:
        return policy.replace(retry_delay=0.0)


class KnowsNoFatalException(Fault):
    """Retries what cannot be mended."""

    def policy(self, policy: ListenerPolicy) -> ListenerPolicy:
        return policy.replace(fatal_exceptions=(), retry_delay=0.001, retry_max_delay=0.001)


class HasNoTimeout(Fault):
    """Lets an attempt take as long as it takes."""

    def policy(self, policy: ListenerPolicy) -> ListenerPolicy:
        return policy.replace(timeout=None)


class SaysNothingInDeadLetters(Fault):
    """Does not say where a dead letter comes from."""

    def handler(self, handler: MessageHandler) -> MessageHandler:
        async def without(message: Message) -> None:
            own = {n: text for n, text in message.headers.items() if not n.startswith("x-pyfly-")}
            await handler(Message(message.topic, message.value, message.key, own))

        return without


class BelievesHeaders(Fault):
    """Keeps the headers of dead letters that a message brings with it."""

    def outgoing(self, value: bytes, key: bytes | None, headers: Headers) -> Outgoing:
        brought = {n: t for n, t in (headers or {}).items() if n.startswith("x-pyfly-")}
        return value, key, {**(headers or {}), **{f"brought-{n}": t for n, t in brought.items()}}

    def handler(self, handler: MessageHandler) -> MessageHandler:
        async def believe(message: Message) -> None:
            brought = {
                name.removeprefix("brought-"): text
                for name, text in message.headers.items()
                if name.startswith("brought-")
            }
            headers = message.headers | brought
            await handler(Message(message.topic, message.value, message.key, headers))

        return believe


class ChoosesHandlersByHeader(Fault):
    """Takes a message for one of the topic that its header names."""

    async def publish(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        topic = (headers or {}).get("x-pyfly-original-topic", topic)
        await super().publish(topic, value, key=key, headers=headers)


class RetriesEveryHandler(Fault):
    """Calls every handler again when one of them has failed."""

    def __init__(self, make: Make, policy: ListenerPolicy) -> None:
        super().__init__(make, policy)
        self._together: dict[str, list[MessageHandler]] = {}

    async def subscribe(
        self,
        topic: str,
        handler: MessageHandler,
        group: str | None = None,
        *,
        policy: ListenerPolicy | None = None,
        name: str | None = None,
    ) -> None:
        if group is not None:
            await super().subscribe(topic, handler, group)
            return
        handlers = self._together.setdefault(topic, [])
        handlers.append(handler)
        if len(handlers) > 1:
            return

        async def call_all(message: Message) -> None:
            await asyncio.gather(*(each(message) for each in handlers))

        await super().subscribe(topic, call_all)


class BuriesLater(Fault):
    """Settles a message that is spent before its dead letter is written, and forgets it at a stop.

    (It knows of no retries.)
    """

    def __init__(self, make: Make, policy: ListenerPolicy) -> None:
        super().__init__(make, policy)
        self._calm = asyncio.Event()
        self._calm.set()

    def handler(self, handler: MessageHandler) -> MessageHandler:
        async def handle(message: Message) -> None:
            try:
                await handler(message)
            except Exception:
                self.spawn(self._bury(message))

        return handle

    async def _bury(self, message: Message) -> None:
        await self._calm.wait()
        await self.inner.publish(f"{message.topic}.dlt", message.value)

    async def stop(self) -> None:
        self._calm.clear()
        await self.inner.stop()
        self.cancel_all()
        self._calm.set()


class AsksForTexts(Fault):
    """Asks an exception for its text, and is not prepared for an exit."""

    def handler(self, handler: MessageHandler) -> MessageHandler:
        async def ask(message: Message) -> None:
            try:
                await handler(message)
            except Exception as error:
                try:
                    str(error)
                except Exception:
                    raise error from None
                raise

        return ask


class LogsTexts(Fault):
    """Logs an exception's text as it is."""

    def handler(self, handler: MessageHandler) -> MessageHandler:
        async def log(message: Message) -> None:
            try:
                await handler(message)
            except Exception as error:
                logging.getLogger("adapter").warning("failed: %s", error)
                raise

        return log


class KeepsTexts(Fault):
    """Writes an exception's text into the dead letter as it is."""

    def handler(self, handler: MessageHandler) -> MessageHandler:
        async def keep(message: Message) -> None:
            if (text := message.headers.get("x-pyfly-exception-message")) is not None:
                message.headers["x-pyfly-exception-message"] = text.replace("\\x1b", "\x1b")
            await handler(message)

        return keep


class LogsEveryTraceback(Fault):
    """Logs each attempt with its traceback."""

    def handler(self, handler: MessageHandler) -> MessageHandler:
        async def log(message: Message) -> None:
            try:
                await handler(message)
            except Exception:
                logging.getLogger("adapter").exception("failed")
                raise

        return log
