"""How long to wait before the next attempt."""

from __future__ import annotations

import random
from collections.abc import Callable

from pyfly_messaging.policy import ListenerPolicy

Random = Callable[[], float]
"""A source of numbers from 0 to 1; tests give a constant."""


def backoff(policy: ListenerPolicy, failures: int, draw: Random = random.random) -> float:
    """Return the pause in seconds after ``failures`` failed attempts (from 1).

    The pause grows by ``retry_multiplier`` up to ``retry_max_delay``; jitter then moves it by up
    to ``retry_jitter`` of itself in either direction, so that many listeners do not retry at once.
    """
    try:
        grown = policy.retry_delay * policy.retry_multiplier ** (failures - 1)
    except OverflowError:
        grown = policy.retry_max_delay
    pause = min(grown, policy.retry_max_delay)
    return pause * (1 + policy.retry_jitter * (2 * draw() - 1))
