"""What a running broker must not gain: more tasks, threads, processes, files or sockets of a kind.

A running broker ends tasks and begins others all the time. So what counts here is how many there
are of each kind, and not which.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter

from pyfly_messaging.testing.conformance.leftovers import everything

_SAMPLES = 10
_BETWEEN_SAMPLES_S = 0.005

# Numbers of tasks and descriptors, addresses of objects.
_OF_ONE_THING = re.compile(r"0x[0-9a-f]+|\d+")


class Growth:
    """The most that there is of each kind, to be compared with what there is later."""

    def __init__(self) -> None:
        self._most: Counter[str] = Counter()

    async def measure(self) -> None:
        """Look several times at what there is now."""
        for _ in range(_SAMPLES):
            self._most |= _kinds()
            await asyncio.sleep(_BETWEEN_SAMPLES_S)

    async def gone(self, deadline: float) -> None:
        """Return when there is no more of any kind than before.

        Raises:
            AssertionError: There still is more after ``deadline`` seconds; it says of what.

        """
        __tracebackhide__ = True
        try:
            async with asyncio.timeout(deadline):
                while more := _kinds() - self._most:
                    await asyncio.sleep(_BETWEEN_SAMPLES_S)
        except TimeoutError:
            found = ", ".join(f"{count} more of {kind}" for kind, count in sorted(more.items()))
            raise AssertionError(f"left behind: {found}") from None


def _kinds() -> Counter[str]:
    return Counter(_OF_ONE_THING.sub("#", what) for what in everything().values())
