"""A look, once in a while, at what nobody tells about."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pyfly_messaging.errors import BrokerError
from pyfly_messaging.logs import get_logger

logger = get_logger("pyfly_messaging.rabbitmq")

# Between two looks, and when there is something amiss. Seconds.
_EVERY, _SOON = 15.0, 1.0


class Watch:
    """Calls ``check`` every quarter of a minute, and soon when there is a reason to.

    RabbitMQ tells nobody that an exchange or a binding was deleted: the queue is only empty.

    Args:
        check: Returns whether all was well.

    """

    def __init__(self, check: Callable[[], Awaitable[bool]]) -> None:
        self._check = check
        self._nudged = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._nudged = asyncio.Event()  # the one before may be another event loop's
        self._task = asyncio.create_task(self._run(), name="pyfly rabbitmq watch")

    def nudge(self) -> None:
        """Look now, but not more than once a second."""
        self._nudged.set()

    def halt(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()

    async def halted(self, timeout: float) -> None:
        """Wait for the end, for ``timeout`` seconds at most."""
        task, self._task = self._task, None
        if task is not None:
            await asyncio.wait((task,), timeout=timeout)

    async def _run(self) -> None:
        pause = _EVERY
        while True:
            try:
                async with asyncio.timeout(pause):
                    await self._nudged.wait()
            except TimeoutError:
                pass
            self._nudged.clear()
            pause = _EVERY if await self._look() else _SOON
            await asyncio.sleep(_SOON)

    async def _look(self) -> bool:
        try:
            return await self._check()
        except BrokerError as error:
            logger.debug("RabbitMQ: %s", error)  # the supervision of the connection tells it
        except Exception:  # an error nobody mapped must not end all looking
            logger.exception("RabbitMQ: looking for what is missing failed")
        return True
