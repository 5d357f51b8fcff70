"""One deadline for several steps."""

from __future__ import annotations

import asyncio


class Deadline:
    """A moment by which a whole start, stop or publish has to be over.

    Args:
        seconds: From now.

    """

    __slots__ = ("_at", "_clock")

    def __init__(self, seconds: float) -> None:
        self._clock = asyncio.get_running_loop().time
        self._at = self._clock() + seconds

    def left(self, at_most: float | None = None) -> float:
        """Return the seconds that are left, never below zero, and not more than ``at_most``."""
        left = max(0.0, self._at - self._clock())
        return left if at_most is None else min(left, at_most)
