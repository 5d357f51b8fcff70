"""Lanes: in which order messages are handled, and how many at once.

Messages of one lane are handled one after the other, each settled before the next begins. With a
concurrency of 1 everything is one lane (`SingleLane`). With more, messages with the same key share
a lane and every message without a key has its own (`KeyedLanes`); a lane that waits for its next
attempt occupies no place.

Lanes serve one assignment. When it is over (a stop, a lost partition, a cut connection) the adapter
drains them and makes new ones for the next. What they had not settled by then is handed back.
"""

from __future__ import annotations

from collections.abc import Callable

from pyfly_messaging.delivery.ending import CANCEL_AGAIN_AFTER
from pyfly_messaging.delivery.lanes.batch import Batch, Run
from pyfly_messaging.delivery.lanes.interrupted import Interrupted
from pyfly_messaging.delivery.lanes.keyed import KeyedLanes
from pyfly_messaging.delivery.lanes.lanes import Lanes
from pyfly_messaging.delivery.lanes.single import SingleLane

__all__ = [
    "CANCEL_AGAIN_AFTER",
    "Batch",
    "Interrupted",
    "KeyedLanes",
    "Lanes",
    "Run",
    "SingleLane",
    "lanes_for",
]


def lanes_for(
    name: str, concurrency: int, on_idle: Callable[[], None] | None = None
) -> SingleLane | KeyedLanes:
    """Return the lanes for a concurrency: a single one for 1, keyed ones for more."""
    if concurrency == 1:
        return SingleLane(name, on_idle)
    return KeyedLanes(name, concurrency, on_idle)
