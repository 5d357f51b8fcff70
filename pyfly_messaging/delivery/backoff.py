"""How long to wait before the next attempt, of a handler or a connection; with the jitter."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from pyfly_messaging.policy import ListenerPolicy

Random = Callable[[], float]
"""A source of numbers from 0 to 1; tests give a constant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Pauses that grow exponentially up to a limit, and vary at random.

    Attributes:
        first: The pause after the first failure. Seconds.
        longest: The limit of the growth. Seconds.
        multiplier: What each pause is times the one before it.
        jitter: Share of a pause by which it varies, up and down (0 to 1). So many processes that
            failed together do not try again together.

    """

    first: float
    longest: float
    multiplier: float = 2.0
    jitter: float = 0.5

    @classmethod
    def of(cls, policy: ListenerPolicy) -> Self:
        """Return the pauses between the attempts of a listener."""
        return cls(
            first=policy.retry_delay,
            longest=policy.retry_max_delay,
            multiplier=policy.retry_multiplier,
            jitter=policy.retry_jitter,
        )

    def pause(self, failures: int, draw: Random = random.random) -> float:
        """Return the pause in seconds after ``failures`` failures in a row (from 1)."""
        try:
            grown = self.first * self.multiplier ** (failures - 1)
        except OverflowError:
            grown = self.longest
        return min(grown, self.longest) * (1 + self.jitter * (2 * draw() - 1))
