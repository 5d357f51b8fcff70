"""The moments at which a call is cancelled, drawn by a seed."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass

from pyfly_messaging.errors import MessagingError

# The first steps of a call follow each other without a pause; time alone would miss them. In the
# first turn the call begins: cancelled before that, it is never made.
_TURNS = (1, 2, 3, 4, 5, 7, 9, 12, 16, 24, 40)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When a call is cancelled, counted from its begin.

    Attributes:
        seed: What the moment was drawn with.
        number: Its place among those of the seed.
        turns: Turns of the event loop until the call is cancelled; None if ``seconds`` counts.
        seconds: Seconds until the call is cancelled.
        again: Turns until it is cancelled a second time, or None.

    """

    seed: int
    number: int
    turns: int | None = None
    seconds: float = 0.0
    again: int | None = None

    def __str__(self) -> str:
        when = f"{self.seconds * 1000:.3f} ms" if self.turns is None else f"{self.turns} turns"
        twice = "" if self.again is None else f" and again {self.again} turns later"
        return f"cancelled after {when}{twice} (seed {self.seed}, moment {self.number})"

    async def cancel(self, call: asyncio.Task[None]) -> None:
        """Wait until the moment has come, and cancel the call."""
        if self.turns is None:
            await asyncio.wait({call}, timeout=self.seconds)
        await _turns(self.turns or 0, call)
        call.cancel()
        if self.again is not None:
            await _turns(self.again, call)
            call.cancel()

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Name the moment in what fails at it.

        Raises:
            AssertionError: Something failed; it begins with the moment.

        """
        __tracebackhide__ = True
        try:
            yield
        except (AssertionError, MessagingError, ValueError) as error:
            raise AssertionError(f"{self}: {error}") from error


def moments(seed: int, longest: float, count: int, *, twice: bool = False) -> Iterator[Moment]:
    """Draw moments: half by turns of the event loop, half by time.

    Args:
        seed: The same seed gives the same moments.
        longest: Seconds that the call takes when it is not cancelled.
        count: How many moments.
        twice: Cancel a second time, some turns after the first.

    """
    chance = random.Random(seed)  # noqa: S311 - no secret
    for number in range(count):
        again = chance.choice(_TURNS) if twice else None
        turns, seconds = chance.choice(_TURNS), chance.uniform(0, longest)
        yield Moment(
            seed=seed,
            number=number,
            turns=turns if number % 2 == 0 else None,
            seconds=seconds,
            again=again,
        )


async def _turns(count: int, call: asyncio.Task[None]) -> None:
    for _ in range(count):
        if call.done():
            return
        await asyncio.sleep(0)
