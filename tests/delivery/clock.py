"""An event loop whose clock is its own: what waits for half a minute takes no time.

Only timers move the clock. When nothing is ready to run, it jumps to the next timer, so the order
of events is the same in every run and a pause of 30 s can be asserted exactly. When there is no
timer either, nothing would ever happen again: that is reported as a deadlock instead of hanging.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Deadlock(AssertionError):
    """Nothing is ready and no timer is set: whatever is awaited will never come."""


class _JumpingSelector(selectors.DefaultSelector):
    """Moves a clock ahead where a selector would wait."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("every task waits for something that nothing will bring")
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a clock that jumps; it notes what nobody caught."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self.uncaught: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.uncaught.append(context))

    def time(self) -> float:
        return self._jumping.now

    def timers(self) -> list[asyncio.TimerHandle]:
        """Return the timers that are set."""
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        return [timer for timer in scheduled if not timer.cancelled()]


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on virtual time; it may leave no task, no timer and nothing uncaught."""
    loop = VirtualLoop()

    async def checked() -> T:
        result = await main
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"left running: {left}"
        assert not loop.timers(), f"left waiting: {loop.timers()}"
        return result

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        result = runner.run(checked())
    assert not loop.uncaught, f"nobody caught: {loop.uncaught}"
    return result


def on_virtual_time(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Turn an async test into one that runs on virtual time."""

    @functools.wraps(test)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        return run(test(*args, **kwargs))

    return wrapper


async def turns(number: int = 10) -> None:
    """Let everything that is ready run, without moving the clock."""
    for _ in range(number):
        await asyncio.sleep(0)
