"""The assignments of one consumer: the one that holds, and what still ends of those before it."""

from __future__ import annotations

import asyncio
from typing import Any

from pyfly_messaging.adapters.kafka.assignment import Assignment, Commit
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.settings import KafkaSettings


class Assignments:
    """Begins an `Assignment` when partitions are assigned, and ends it when they are revoked.

    Args:
        route: Where the messages go.
        settings: See `Assignment`.
        commit: How to commit.

    Attributes:
        current: The assignment whose records are handled; while it ends it is closed.

    """

    def __init__(self, route: Route, settings: KafkaSettings, commit: Commit) -> None:
        self.current: Assignment | None = None
        self._route = route
        self._settings = settings
        self._commit = commit
        self._there = asyncio.Event()
        self._ending: list[Assignment] = []
        self._last = False

    @property
    def are_there(self) -> bool:
        """Whether partitions are assigned, be it none."""
        return self._there.is_set()

    @property
    def in_flight(self) -> int:
        """How many messages are not settled."""
        return 0 if self.current is None else self.current.in_flight

    @property
    def error(self) -> str | None:
        """Why a dead letter is not confirmed; None when none is late."""
        return None if self.current is None else self.current.error

    async def wait(self) -> None:
        """Wait until partitions are assigned."""
        await self._there.wait()

    def begin(self) -> None:
        """Begin with what was assigned, unless the last one was announced."""
        if self._last:
            return
        self.current = Assignment(self._route, self._settings, self._commit)
        if self._route.group is not None:
            self.current.begin()
        self._there.set()

    async def end(self, deadline: Deadline, caller: asyncio.Task[Any] | None = None) -> None:
        """End the one that holds; see `Assignment.end`."""
        assignment = self.current
        if assignment is None:
            return
        self._there.clear()
        await assignment.end(deadline, caller)
        if assignment is self.current:
            self.current = None
            self._ending = [each for each in (*self._ending, assignment) if not each.is_drained]

    def announce_last(self) -> None:
        """Begin no other from now on: the consumer leaves."""
        self._last = True

    async def drained(self) -> None:
        """Wait until no handler of those that have ended runs; see `Assignment.drained`."""
        for assignment in self._ending:
            await assignment.drained()
