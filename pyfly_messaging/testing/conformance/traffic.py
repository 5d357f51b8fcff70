"""Messages that go on while something else happens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from pyfly_messaging.delivery import end_task
from pyfly_messaging.ports import MessageBrokerPort

_PAUSE_S = 0.002
_KEYS = 8


class Traffic:
    """Publishes to topics, one message after the other to each, while the context lasts.

    Attributes:
        confirmed: For each topic the values whose publish returned.

    """

    def __init__(self, broker: MessageBrokerPort, topics: Iterable[str]) -> None:
        self.confirmed: dict[str, list[bytes]] = {topic: [] for topic in topics}
        self._broker = broker
        self._ended = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._publish(topic)) for topic in self.confirmed]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End.

        Raises:
            AssertionError: A publish raised.

        """
        __tracebackhide__ = True
        self._ended = True
        endless = await end_task(*self._tasks) if error is not None else set()
        ended = (task for task in self._tasks if task not in endless)
        outcomes = await asyncio.gather(*ended, return_exceptions=True)
        for outcome in outcomes:
            if error is None and outcome is not None:
                raise AssertionError(f"a publish raised {outcome!r}") from outcome

    async def _publish(self, topic: str) -> None:
        number = 0
        while not self._ended:
            value = b"%d" % number
            await self._broker.publish(topic, value, key=b"%d" % (number % _KEYS))
            self.confirmed[topic].append(value)
            number += 1
            await asyncio.sleep(_PAUSE_S)
