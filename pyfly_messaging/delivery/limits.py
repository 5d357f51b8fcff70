"""The limits of a handler: the time of an attempt, and how many attempts run at once."""

from __future__ import annotations

import asyncio

from pyfly_messaging.message import Message
from pyfly_messaging.ports import MessageHandler


def within(handler: MessageHandler, seconds: float) -> MessageHandler:
    """Return the handler with a limit for each call, after which it is cancelled."""

    async def limited(message: Message) -> None:
        async with asyncio.timeout(seconds):
            await handler(message)

    return limited


def at_most(handler: MessageHandler, calls: int) -> MessageHandler:
    """Return the handler with a limit for calls at once; others wait, the first to come first."""
    # A semaphore serves one event loop, and a broker may be started again on another.
    loop: asyncio.AbstractEventLoop | None = None
    places = asyncio.Semaphore(calls)

    async def limited(message: Message) -> None:
        nonlocal loop, places
        if loop is not (running := asyncio.get_running_loop()):
            loop, places = running, asyncio.Semaphore(calls)
        async with places:
            await handler(message)

    return limited
