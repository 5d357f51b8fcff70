"""Start and stop: all or nothing, idempotent, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pyfly_messaging.delivery.handling import within_handler


class Lifecycle:
    """Serialises starts and stops.

    Args:
        open_: Connects and begins to consume.
        close: Releases everything that ``open_`` has acquired so far, however far it came; must
            never hang.

    Attributes:
        running: Between a start that succeeded and the next stop.

    """

    def __init__(
        self, open_: Callable[[], Awaitable[None]], close: Callable[[], Awaitable[None]]
    ) -> None:
        self.running = False
        self._open = open_
        self._close = close
        self._clean = True
        self._stops = 0  # under way
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Open, unless it is open. What a failed or cancelled start left is closed again."""
        async with self._turn():
            if self.running:
                return
            if not self._clean:  # a stop was cancelled on the way
                await self._finish()
            self._clean = False
            try:
                await self._open()
            except BaseException:
                await self._finish()
                raise
            self.running = True

    async def stop(self) -> None:
        """Close what is open. A stop that was cancelled is finished by the next one.

        Within a handler it returns at once if another stop is under way: that one waits for the
        handler, which would wait for it.
        """
        if self._stops and within_handler():
            return
        self._stops += 1
        try:
            async with self._turn():
                if not self._clean:
                    await self._finish()
        finally:
            self._stops -= 1

    def _turn(self) -> asyncio.Lock:
        """Return the lock of this event loop: one that was waited for serves no other."""
        if self._loop is not (loop := asyncio.get_running_loop()):
            self._loop, self._lock = loop, asyncio.Lock()
        return self._lock

    async def _finish(self) -> None:
        try:
            await self._close()
        finally:
            self.running = False  # a close that was cancelled has closed some of it
        self._clean = True
