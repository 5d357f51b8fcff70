"""Faults of start, stop, subscribe, and publishing around them."""

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from contextvars import Context

from pyfly_messaging.errors import BrokerError, BrokerUnavailableError, PublishError
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy
from pyfly_messaging.ports import MessageHandler

from .base import Broker, Fault, Make


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


class IsSlowToStop(Fault):
    """Waits in stop until its timeout is over, though nothing is in work."""

    async def stop(self) -> None:
        await self.inner.stop()
        await asyncio.sleep(0.4)


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


class LeavesATaskOfEachRestart(Fault):
    """Leaves a task behind when it is started again."""

    starts = 0

    async def start(self) -> None:
        await self.inner.start()
        self.starts += 1
        if self.starts > 1:
            self.spawn(asyncio.sleep(3600))


class LeavesAThread(Fault):
    """Leaves a thread behind, which is called like another."""

    async def start(self) -> None:
        await self.inner.start()
        threading.Thread(target=time.sleep, args=(2,), name="MainThread", daemon=True).start()


class LeavesAFile(Fault):
    """Leaves a file open."""

    async def start(self) -> None:
        await self.inner.start()
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 - that is the fault
        weakref.finalize(self, self.file.close)


class LeavesAProcess(Fault):
    """Leaves a process behind."""

    async def start(self) -> None:
        await self.inner.start()
        command = (sys.executable, "-c", "import sys; sys.stdin.read()")
        process = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: ASYNC220
        weakref.finalize(self, process.communicate)


class GivesUpLate(Fault):
    """Goes on trying after its startup timeout."""

    async def start(self) -> None:
        try:
            await self.inner.start()
        finally:
            await asyncio.sleep(5)


class TakesNoNotice(Fault):
    """Takes an address where nobody answers for a broker."""

    async def start(self) -> None:
        with contextlib.suppress(BrokerUnavailableError):
            await self.inner.start()


class SwallowsRefusals(Fault):
    """Returns from publish, whatever became of the message."""

    async def publish(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        with contextlib.suppress(BrokerError):
            await super().publish(topic, value, key=key, headers=headers)


class DiesOfACancelledPublish(Fault):
    """Takes nothing more when a publish was cancelled."""

    dead = False

    async def publish(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        if self.dead:
            raise PublishError("the producer is dead")
        try:
            await asyncio.sleep(0.001)
            await super().publish(topic, value, key=key, headers=headers)
        except asyncio.CancelledError:
            self.dead = True
            raise


class StopsOneAfterTheOther(Fault):
    """Gives each listener the whole shutdown timeout."""

    async def start(self) -> None:
        await asyncio.gather(*(each.start() for each in (self.inner, *self.others)))

    async def stop(self) -> None:
        for each in (self.inner, *self.others):
            await each.stop()

    def __init__(self, make: Make, policy: ListenerPolicy) -> None:
        super().__init__(make, policy)
        self.others: list[Broker] = []

    async def subscribe(
        self,
        topic: str,
        handler: MessageHandler,
        group: str | None = None,
        *,
        policy: ListenerPolicy | None = None,
        name: str | None = None,
    ) -> None:
        self.others.append(self.make(self.default_policy))
        await self.others[-1].subscribe(topic, handler, group, policy=policy, name=name)

    async def publish(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        publishes = (each.publish(topic, value, key=key, headers=headers) for each in self.others)
        await asyncio.gather(*publishes)


class WaitsForItsCaller(Fault):
    """Waits in stop for every handler, the one that called it included."""

    async def stop(self) -> None:
        # In a context of its own: that of the handler says who it is.
        await asyncio.create_task(self.inner.stop(), context=Context())


class KnowsItsCallerByTheTask(WaitsForItsCaller):
    """Does not wait in stop for the handler whose own task calls it, but for any other."""

    def __init__(self, make: Make, policy: ListenerPolicy) -> None:
        super().__init__(make, policy)
        self.callers: set[asyncio.Task[None] | None] = set()

    def handler(self, handler: MessageHandler) -> MessageHandler:
        async def noted(message: Message) -> None:
            self.callers.add(asyncio.current_task())
            await handler(message)

        return noted

    async def stop(self) -> None:
        if asyncio.current_task() in self.callers:
            await self.inner.stop()
        else:
            await super().stop()


class WaitsForTheStopUnderWay(Fault):
    """Waits in stop, a handler's too, for the end of another."""

    def __init__(self, make: Make, policy: ListenerPolicy) -> None:
        super().__init__(make, policy)
        self.turn = asyncio.Lock()

    async def stop(self) -> None:
        async with self.turn:
            await self.inner.stop()


class SettlesWhatFailsAfterStop(Fault):
    """Takes a handler that failed after a stop for one that succeeded."""

    stopped = False

    def handler(self, handler: MessageHandler) -> MessageHandler:
        settled: set[bytes] = set()

        async def handle(message: Message) -> None:
            if message.value in settled:
                return
            try:
                await handler(message)
            except Exception:
                if not self.stopped:
                    raise
                settled.add(message.value)

        return handle

    async def stop(self) -> None:
        await self.inner.stop()
        self.stopped = True
