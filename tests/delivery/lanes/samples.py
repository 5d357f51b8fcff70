"""Lanes in front of a handler, and handlers that can be watched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pyfly_messaging.delivery.lanes import Batch, lanes_for
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.message import Message
from pyfly_messaging.ports import MessageHandler
from tests.delivery.clock import VirtualLoop
from tests.delivery.samples import Graveyard, message, settlement


class Listener:
    """Lanes in front of a handler, and what became of the messages."""

    def __init__(
        self,
        handler: MessageHandler,
        *,
        concurrency: int = 1,
        on_idle: Callable[[], None] | None = None,
        **policy: Any,
    ) -> None:
        self.settled: list[str] = []
        self.graveyard = Graveyard()
        self.route = Route("orders", "group")
        self.route.add(settlement(handler, self.graveyard.bury, **policy))
        self.lanes = lanes_for("listener", concurrency, on_idle)

    def batch(self, *values: str, key: str | None = None) -> Batch[str]:
        """Return a batch; each token is the message's value."""
        coded = None if key is None else key.encode()
        messages = [message(value.encode(), key=coded) for value in values]
        return Batch(self.route, messages, values, self.settled.append)

    def submit(self, *values: str, key: str | None = None) -> None:
        """Submit a batch."""
        self.lanes.submit(self.batch(*values, key=key))

    async def drain(
        self, timeout: float | None = None, *, caller: asyncio.Task[Any] | None = None
    ) -> list[str]:
        """Drain; return the tokens that were handed back."""
        back = await self.lanes.drain(timeout, caller=caller)
        assert [message.value.decode() for message, _ in back] == [token for _, token in back]
        return [token for _, token in back]


class Script:
    """A handler that writes down what it does, and waits for permission where it is told to."""

    def __init__(self, *slow: str) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.running = 0
        self.at_once = 0
        self.gates = {value: asyncio.Event() for value in slow}

    async def __call__(self, message: Message) -> None:
        value = message.value.decode()
        self.begun.append(value)
        self.running += 1
        self.at_once = max(self.at_once, self.running)
        try:
            if value in self.gates:
                await self.gates[value].wait()
        finally:
            self.running -= 1
        self.ended.append(value)

    def let(self, *values: str) -> None:
        """Let handlers finish."""
        for value in values:
            self.gates[value].set()


def now() -> float:
    return asyncio.get_running_loop().time()


def timers() -> list[asyncio.TimerHandle]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.timers()


def workers() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "pyfly listener listener"]
