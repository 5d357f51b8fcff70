"""Faults of a call that is cancelled."""

import asyncio
import contextlib

from pyfly_messaging.policy import ListenerPolicy
from pyfly_messaging.ports import MessageHandler

from .base import Fault


class ForgetsATask(Fault):
    """Begins a task in every call, and ends it only if the call is not cancelled."""

    async def begin(self) -> None:
        task = self.spawn(asyncio.sleep(3600))
        await self.work()
        task.cancel()

    async def work(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def subscribe(
        self,
        topic: str,
        handler: MessageHandler,
        group: str | None = None,
        *,
        policy: ListenerPolicy | None = None,
        name: str | None = None,
    ) -> None:
        await self.begin()
        await super().subscribe(topic, handler, group, policy=policy, name=name)

    async def start(self) -> None:
        await self.begin()
        await super().start()

    async def stop(self) -> None:
        await self.begin()
        await super().stop()

    async def publish(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        await self.begin()
        await super().publish(topic, value, key=key, headers=headers)


class ForgetsATaskTheSecondTime(ForgetsATask):
    """Ends the task when the call is cancelled, but not when it is cancelled again meanwhile."""

    async def begin(self) -> None:
        task = self.spawn(asyncio.sleep(3600))
        try:
            await self.work()
        except asyncio.CancelledError:
            await self.work()
            task.cancel()
            raise
        task.cancel()


class KeepsACancelledListener(Fault):
    """Keeps the listener of a subscribe that was cancelled."""

    async def subscribe(
        self,
        topic: str,
        handler: MessageHandler,
        group: str | None = None,
        *,
        policy: ListenerPolicy | None = None,
        name: str | None = None,
    ) -> None:
        await super().subscribe(topic, handler, group, policy=policy, name=name)
        for _ in range(10):
            await asyncio.sleep(0)


class RestartsAfterACancelledSubscribe(KeepsACancelledListener):
    """Starts anew when a subscribe is cancelled, whatever the other listeners do."""

    async def subscribe(
        self,
        topic: str,
        handler: MessageHandler,
        group: str | None = None,
        *,
        policy: ListenerPolicy | None = None,
        name: str | None = None,
    ) -> None:
        try:
            await super().subscribe(topic, handler, group, policy=policy, name=name)
        except asyncio.CancelledError:
            await self.inner.stop()
            await self.inner.start()
            raise


class SwallowsItsCancellation(Fault):
    """Returns from a start that was cancelled as if it had started."""

    async def start(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            for _ in range(10):
                await asyncio.sleep(0)
            await super().start()


class StopsOnInTheBackground(Fault):
    """Goes on waiting for handlers when its stop is cancelled."""

    async def stop(self) -> None:
        await asyncio.shield(self.spawn(self.inner.stop()))


class RaisesAnotherError(Fault):
    """Raises an error of its own when it is cancelled."""

    async def stop(self) -> None:
        try:
            for _ in range(10):
                await asyncio.sleep(0)
            await super().stop()
        except asyncio.CancelledError as error:
            raise TimeoutError("the stop was cancelled") from error
