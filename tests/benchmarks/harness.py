"""Interleaved rounds, medians, ratios."""

import asyncio
import statistics
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field

VALUE = b"x" * 100


class Clock:
    """What a contestant uses to say when the measured part begins and ends."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def start(self) -> None:
        """Begin to count."""
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """End the count."""
        self.wall, self.cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu


Run = Callable[[Clock, int], Coroutine[None, None, None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One way to do it: takes a clock and how many messages."""

    name: str
    run: Run
    messages: int | None = None
    """Fewer than the contest's, for one that would take minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """The same work done in several ways; the first one is the measure of the others."""

    name: str
    messages: int
    contestants: Sequence[Contestant]


@dataclass(slots=True)
class Figures:
    """What was measured of one contestant."""

    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Messages per second, median."""
        return statistics.median(self.rates)

    @property
    def cpu_per_thousand(self) -> float:
        """CPU seconds of this process per 1,000 messages, median."""
        return statistics.median(self.cpu)


def measure(contest: Contest, rounds: int, progress: Callable[[str], None]) -> dict[str, Figures]:
    """Run the contestants in turn, ``rounds`` times; return their figures by name."""
    figures = {contestant.name: Figures() for contestant in contest.contestants}
    for number in range(1, rounds + 1):
        for contestant in contest.contestants:
            progress(f"{contest.name}, round {number} of {rounds}: {contestant.name}")
            count, clock = contestant.messages or contest.messages, Clock()
            asyncio.run(contestant.run(clock, count))
            figures[contestant.name].rates.append(count / clock.wall)
            figures[contestant.name].cpu.append(clock.cpu / count * 1000)
    return figures
