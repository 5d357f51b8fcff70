"""Who runs a message in a lane without being one of its workers."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol


class Guest(Protocol):
    """Who runs a message in a `SingleLane` in its own task, and waits for something meanwhile.

    Attributes:
        task: Its task.
        left: Done when it has left the lane.

    """

    @property
    def task(self) -> asyncio.Task[Any]: ...
    @property
    def left(self) -> asyncio.Future[None]: ...

    def interrupt(self) -> None:
        """Cancel what it runs."""
        ...
