"""One deadline for several steps."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any


class Deadline:
    """A moment by which a whole start, stop or publish has to be over.

    Args:
        seconds: From now.

    """

    __slots__ = ("_at", "_clock", "_expiry")

    def __init__(self, seconds: float) -> None:
        self._clock = asyncio.get_running_loop().time
        self._at = self._clock() + seconds
        self._expiry: asyncio.Future[None] | None = None

    def left(self, at_most: float | None = None) -> float:
        """Return the seconds that are left, never below zero, and not more than ``at_most``."""
        left = max(0.0, self._at - self._clock())
        return left if at_most is None else min(left, at_most)

    def expire(self) -> None:
        """Let the deadline be over now, for those too that wait."""
        self._at = min(self._at, self._clock())
        if self._expiry is not None and not self._expiry.done():
            self._expiry.set_result(None)

    async def wait(self, awaited: Iterable[asyncio.Future[Any]]) -> set[asyncio.Future[Any]]:
        """Wait until all of them are done, or the deadline is over; return those that are not."""
        if self._expiry is None:
            self._expiry = asyncio.get_running_loop().create_future()
        pending = {future for future in awaited if not future.done()}
        while pending and not self._expiry.done() and (left := self.left()):
            await asyncio.wait(
                {*pending, self._expiry}, timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
            pending = {future for future in pending if not future.done()}
        return pending
