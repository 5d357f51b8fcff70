"""How a publish waits for its handlers, but not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

from pyfly_messaging.errors import PublishError

STOPPED = (
    "the broker was stopped before every handler had settled the message; it is kept and delivered"
    " after the next start"
)


class Wait:
    """A publish that waits until everything that it set off is settled, but not for ever.

    Args:
        limit: Seconds; the publish then raises, and its messages go on without it.

    """

    def __init__(self, limit: float) -> None:
        self._refusal: str | None = None
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._timer = self._loop.call_later(limit, self._expire)

    def __await__(self) -> Generator[Any, Any, None]:
        yield from self._over
        if self._refusal is not None:
            raise PublishError(self._refusal)

    def end(self) -> None:
        """Go on: everything is settled."""
        if not self._over.done():
            self._over.set_result(None)

    def give_up(self, reason: str) -> None:
        """Wait no longer for what is not settled."""
        self._refusal = reason
        self.end()

    def close(self) -> None:
        """Leave nothing behind: the publish returns."""
        self._timer.cancel()

    def _expire(self) -> None:
        self.give_up(
            f"not settled by every handler within {self._limit:g} s (publish-timeout); it is kept"
            " and goes on"
        )
