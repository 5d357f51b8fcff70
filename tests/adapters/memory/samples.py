"""Handlers, policies and running brokers that the tests of the in-memory broker are made of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from pyfly_messaging.adapters.memory import InMemoryMessageBroker
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy

STOPPED = "the broker was stopped before every handler had settled the message"


class Wrecked(BaseException):
    """An exception that is no `Exception`."""


class Service:
    """A handler that keeps what it gets, and does something about it."""

    def __init__(self, act: Callable[[Message], Any] | None = None) -> None:
        self.got: list[Message] = []
        self.running = 0
        self.at_once = 0
        self._act = act

    async def on_message(self, message: Message) -> None:
        self.got.append(message)
        self.running += 1
        self.at_once = max(self.at_once, self.running)
        try:
            if self._act is not None:
                result = self._act(message)
                if result is not None:
                    await result
        finally:
            self.running -= 1

    @property
    def values(self) -> list[str]:
        return [message.value.decode() for message in self.got]


def policy(**fields: Any) -> ListenerPolicy:
    """Return a policy without jitter."""
    return ListenerPolicy(**{"retry_jitter": 0.0, **fields})


@asynccontextmanager
async def running(
    broker: InMemoryMessageBroker | None = None, **options: Any
) -> AsyncIterator[InMemoryMessageBroker]:
    """Start a broker, and stop it afterwards."""
    options.setdefault("policy", policy())
    broker = broker or InMemoryMessageBroker(**options)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


def fails(*errors: BaseException) -> Callable[[Message], None]:
    """Return what raises these errors, one at each call, and then nothing."""
    left = list(errors)

    def act(message: Message) -> None:
        if left:
            raise left.pop(0)

    return act


def now() -> float:
    return asyncio.get_running_loop().time()


def others() -> set[asyncio.Task[Any]]:
    """Return the tasks beside the one that runs."""
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


def this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task
