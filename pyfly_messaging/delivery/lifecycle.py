"""Start and stop: all or nothing, idempotent, one after the other, on one event loop."""

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
        loop: The event loop that the last start ran on, until everything is closed again.

    """

    def __init__(
        self, open_: Callable[[], Awaitable[None]], close: Callable[[], Awaitable[None]]
    ) -> None:
        self.running = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self._open = open_
        self._close = close
        self._stops = 0  # under way
        self._turns_on: asyncio.AbstractEventLoop | None = None
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Open, unless it is open. What a failed or cancelled start left is closed again.

        Raises:
            RuntimeError: It is open on another event loop.

        """
        self.check_loop()
        async with self._turn():
            if self.running and self.loop is asyncio.get_running_loop():
                return
            if self.loop is not None:  # a stop was cancelled on the way, or its loop has ended
                await self._finish()
            self.loop = asyncio.get_running_loop()
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

        Raises:
            RuntimeError: It is open on another event loop.

        """
        self.check_loop()
        if self._stops and within_handler():
            return
        self._stops += 1
        try:
            async with self._turn():
                if self.loop is not None:
                    await self._finish()
        finally:
            self._stops -= 1

    def check_loop(self) -> None:
        """Refuse a call from another event loop than the one that it is open on.

        A loop that is closed owns nothing any more.

        Raises:
            RuntimeError: The call comes from another event loop, in most cases another thread.

        """
        owner = self.loop
        if owner is None or owner is asyncio.get_running_loop() or owner.is_closed():
            return
        raise RuntimeError(
            "the broker was started on another event loop; hand the call over to that one: with"
            " asyncio.run_coroutine_threadsafe(call, loop), or from a worker thread of anyio with"
            " anyio.from_thread.run(function, ...)"
        )

    def _turn(self) -> asyncio.Lock:
        """Return the lock of this event loop: one that was waited for serves no other."""
        if self._turns_on is not (loop := asyncio.get_running_loop()):
            self._turns_on, self._lock = loop, asyncio.Lock()
        return self._lock

    async def _finish(self) -> None:
        try:
            await self._close()
        finally:
            self.running = False  # a close that was cancelled has closed some of it
        self.loop = None
