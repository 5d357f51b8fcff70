"""When to acknowledge (on Kafka: commit): by count and time, at once when nothing is in work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pyfly_messaging.delivery.ending import end_task
from pyfly_messaging.logs import get_logger

logger = get_logger("pyfly_messaging.delivery")


class Acknowledger:
    """Calls ``flush`` often enough, one call at a time, and never once for each message.

    While messages are in work it flushes every ``interval`` seconds, or earlier when ``nudge`` says
    so: the listener became idle, or enough is settled. With nothing in work it sleeps.

    Args:
        flush: Acknowledges what is settled by now; does nothing when there is nothing new.
        interval: Seconds that a settled message may wait.
        name: What the task is called.

    """

    def __init__(self, flush: Callable[[], Awaitable[None]], *, interval: float, name: str) -> None:
        self._flush = flush
        self._interval = interval
        self._name = name
        self._busy = False
        self._stopped = False
        self._begun = asyncio.Event()
        self._nudged = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to flush."""
        self._stopped = False
        self._task = asyncio.create_task(self._run(), name=f"pyfly acknowledge {self._name}")

    def begin(self) -> None:
        """Note that messages are in work."""
        self._busy = True
        self._begun.set()

    def idle(self) -> None:
        """Note that everything in work is settled."""
        self._busy = False
        self._nudged.set()

    def nudge(self) -> None:
        """Flush soon."""
        self._nudged.set()

    async def stop(self) -> None:
        """End without a last flush; a flush that is under way is cancelled.

        A flush that swallows its cancellation is cancelled again. One that ignores ten of them is
        logged and left behind, so this returns after about ten seconds at the latest.
        """
        self._stopped = True
        if self._task is not None:
            if await end_task(self._task):
                logger.critical("listener %s: acknowledging ignores its cancellation", self._name)
            self._task = None

    async def _run(self) -> None:
        while not self._stopped:
            await self._begun.wait()
            self._begun.clear()
            while not self._stopped:  # a flush may swallow its cancellation, and return
                await self._interval_or_nudge()
                busy = self._busy
                try:
                    await self._flush()
                except asyncio.CancelledError:
                    # Not ours if nobody cancelled this task: a client's future was cancelled.
                    if self._task is None or self._task.cancelling():
                        raise
                    logger.exception("listener %s: acknowledging was cancelled", self._name)
                    continue
                except Exception:  # an error nobody mapped must not end all acknowledgement
                    logger.exception("listener %s: acknowledging failed", self._name)
                    continue
                if not busy:
                    break

    async def _interval_or_nudge(self) -> None:
        try:
            async with asyncio.timeout(self._interval):
                await self._nudged.wait()
        except TimeoutError:
            return
        self._nudged.clear()
