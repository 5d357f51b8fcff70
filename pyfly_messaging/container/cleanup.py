"""What is to be undone at the end: in reverse order, and all of it whatever fails on the way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.logs import get_logger

logger = get_logger("pyfly_messaging.container")

# What a step gets when the deadline is over already: enough to close a connection. Seconds.
_GRACE = 1.0

Step = Callable[[], Awaitable[object]]


class Cleanups:
    """Steps that undo what was done, the last one first."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, Step, bool]] = []

    def add(self, name: str, step: Step, *, bounded: bool = True) -> None:
        """Add a step.

        Args:
            name: What messages call it.
            step: Called without arguments, once.
            bounded: Cancel it when the deadline is over. False for what keeps a deadline itself.

        """
        self._steps.append((name, step, bounded))

    async def run(self, within: float) -> None:
        """Run every step that is left.

        Args:
            within: Seconds for all steps; one that begins later still gets a second.

        Raises:
            ExceptionGroup: What the steps raised, each with a note that names the step.

        """
        deadline = Deadline(within)
        errors: list[Exception] = []
        interrupted: asyncio.CancelledError | None = None
        while self._steps:
            name, step, bounded = self._steps.pop()
            try:
                await (_limited(name, step, max(deadline.left(), _GRACE)) if bounded else step())
            except asyncio.CancelledError as error:
                interrupted = error  # ends this step; what is left is undone nevertheless
            except Exception as error:  # noqa: BLE001 - the other steps come first
                with contextlib.suppress(Exception):  # an exception may take no notes
                    error.add_note(f"raised while {name} was stopped")
                errors.append(error)
        if interrupted is not None:
            _log(errors, interrupted)
            raise interrupted
        if errors:
            raise ExceptionGroup("not everything could be stopped cleanly", errors)

    async def run_after(self, failure: BaseException, within: float) -> None:
        """Run every step after ``failure``, which is what counts: what they raise is logged."""
        try:
            await self.run(within)
        except ExceptionGroup as group:
            _log(group.exceptions, failure)


async def _limited(name: str, step: Step, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds) as limit:
            await step()
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise TimeoutError(
            f"{name} was not stopped within {seconds:.3g} s (shutdown.timeout)"
        ) from error


def _log(errors: list[Exception] | tuple[Exception, ...], after: BaseException) -> None:
    for error in errors:
        logger.error("a cleanup failed, after %s", type(after).__name__, exc_info=error)
