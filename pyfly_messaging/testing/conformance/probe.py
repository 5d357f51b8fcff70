"""A handler that notes what it is given, for whoever waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from pyfly_messaging.message import Message
from pyfly_messaging.testing.conformance.compare import shown


class Probe:
    """A handler that notes every attempt, and does ``then``.

    Args:
        then: What the handler does; its failure is the attempt's failure.
        deadline: Seconds for each wait.

    Attributes:
        called: The message of every attempt, in the order in which they began.
        done: The messages of the attempts that succeeded, in the order in which they ended.
        running: Attempts that run now.
        most: The most attempts that ever ran at once.
        cancelled: Attempts that were cancelled.

    """

    def __init__(
        self, then: Callable[[Message], Awaitable[object]] | None = None, *, deadline: float = 30.0
    ) -> None:
        self.called: list[Message] = []
        self.done: list[Message] = []
        self.running = 0
        self.most = 0
        self.cancelled = 0
        self._then = then
        self._deadline = deadline
        self._news = asyncio.Event()

    @property
    def values(self) -> list[bytes]:
        """The values of the messages that were handled, in that order."""
        return [message.value for message in self.done]

    async def __call__(self, message: Message) -> None:
        self.called.append(message)
        self.running += 1
        self.most = max(self.most, self.running)
        self._news.set()
        try:
            if self._then is not None:
                await self._then(message)
            self.done.append(message)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
            self._news.set()

    async def began(self, count: int) -> list[Message]:
        """Wait for ``count`` attempts; return the messages of all."""
        __tracebackhide__ = True
        await self.until(lambda: len(self.called) >= count, f"{count} attempts")
        return self.called

    async def handled(self, count: int = 1) -> list[Message]:
        """Wait for ``count`` messages to be handled; return all."""
        __tracebackhide__ = True
        await self.until(lambda: len(self.done) >= count, f"{count} handled messages")
        return self.done

    async def saw(self, value: bytes) -> None:
        """Wait until a message with this value is handled."""
        __tracebackhide__ = True
        await self.until(lambda: value in self.values, f"the message {value!r}")

    async def saw_all(self, values: Iterable[bytes]) -> None:
        """Wait until each of the values is handled, in whatever order, however often.

        Raises:
            AssertionError: Some are not by the deadline; it says which.

        """
        __tracebackhide__ = True
        wanted = set(values)
        try:
            await self._when(lambda: wanted <= set(self.values))
        except TimeoutError:
            missing = sorted(wanted - set(self.values))
            raise AssertionError(
                f"waited {self._deadline:g} s:"
                f" {len(missing)} of {len(wanted)} missing: {shown(missing)}"
            ) from None

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until a condition holds that an attempt brings about.

        Raises:
            AssertionError: It does not by the deadline.

        """
        __tracebackhide__ = True
        try:
            await self._when(condition)
        except TimeoutError:
            raise AssertionError(
                f"waited {self._deadline:g} s for {what}; there were {len(self.called)} attempts"
                f" and {len(self.done)} handled messages: {shown(self.values)}"
            ) from None

    async def _when(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(self._deadline):
            while not condition():
                self._news.clear()
                await self._news.wait()
