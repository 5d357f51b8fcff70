"""``run``: an application as a program, with signals."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pyfly_messaging.bootstrap.application import Application
from pyfly_messaging.errors import ConfigurationError
from pyfly_messaging.logs import get_logger

logger = get_logger("pyfly_messaging")

_DEFAULTS: dict[signal.Signals, Callable[..., Any] | signal.Handlers] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}

# A SystemExit stops the event loop in the task that raises it, and again in each that waits for it.
_STOPPED_LOOPS = 100


def run_application(application: Application) -> None:
    """Run an application as `run` describes."""
    _check_place()
    # None is a handler that was not set by Python, and that Python cannot set.
    previous = {n: now for n in _DEFAULTS if (now := signal.getsignal(n)) is not None}
    try:
        forced_by = _Program(application).run()
    except ConfigurationError as error:
        # The report names the place of the mistake; the way it took through here only hides it.
        raise error.with_traceback(None) from None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if forced_by is not None:
        raise SystemExit(128 + forced_by)


class _Program:
    """One run: start, wait for a signal, stop; a second signal ends it at once."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._asked = asyncio.Event()
        self._starting = True
        self._forced_by: int | None = None
        self._life: asyncio.Task[None] | None = None

    def run(self) -> int | None:
        """Run until it is over; return the signal that forced the end, or None."""
        with asyncio.Runner() as runner:
            try:
                return runner.run(self._serve())
            except (SystemExit, KeyboardInterrupt) as wish:
                # A handler raised it. It stopped the event loop, and with it all that runs.
                logger.info("%s: stopping", type(wish).__name__)
                self._asked.set()
                for _ in range(_STOPPED_LOOPS):
                    with suppress(SystemExit, KeyboardInterrupt):
                        runner.run(self._end())
                        break
                raise

    async def _serve(self) -> int | None:
        self._listen()
        # One task for all of it: a bean may hold what must be left where it was entered, such as a
        # TaskGroup.
        self._life = asyncio.create_task(self._live(), name="pyfly application")
        try:
            await self._end()
        finally:
            self._listen_no_more()
        return self._forced_by

    async def _end(self) -> None:
        """Wait for the end."""
        if self._life is None:
            return
        try:
            await self._life
        except asyncio.CancelledError:
            if self._forced_by is None:
                raise

    async def _live(self) -> None:
        try:
            await self._application.start()
        except asyncio.CancelledError:
            if not self._asked.is_set() or self._forced_by is not None:
                raise
            logger.info("stopped before the start was complete")
            return
        finally:
            self._starting = False
        await self._asked.wait()
        await self._application.stop()

    def _received(self, number: int) -> None:
        name = signal.Signals(number).name
        if not self._asked.is_set():
            logger.info("%s: stopping; once more ends it at once", name)
            self._asked.set()
            if self._starting:
                self._cancel()
        else:
            logger.warning("%s again: cancelling what still runs", name)
            self._forced_by = number
            self._listen_no_more()  # the next one ends the process
            self._cancel()

    def _cancel(self) -> None:
        if self._life is not None:
            self._life.cancel()

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in _DEFAULTS:
            try:
                loop.add_signal_handler(number, self._received, number)
            except NotImplementedError:  # Windows
                signal.signal(number, lambda got, _: loop.call_soon_threadsafe(self._received, got))

    def _listen_no_more(self) -> None:
        loop = asyncio.get_running_loop()
        for number, default in _DEFAULTS.items():
            with suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            signal.signal(number, default)


def _check_place() -> None:
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("run() gets its signals in the main thread only: use bootstrap() here")
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("run() blocks, and an event loop runs here: use bootstrap() instead")
