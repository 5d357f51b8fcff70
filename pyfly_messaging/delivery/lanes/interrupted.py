"""What follows an attempt that ended together with the task that ran it."""

from __future__ import annotations

from pyfly_messaging.delivery.lanes.batch import Run
from pyfly_messaging.delivery.settlement import Retry
from pyfly_messaging.message import Message


class Interrupted:
    """The next step after an attempt ended together with the task that ran it.

    Args:
        run: Where the message goes.
        message: The message.
        retry: The attempt that it was, or None if it was the first.
        error: What ended it.

    """

    __slots__ = ("_error", "_message", "_retry", "_run", "delay")

    def __init__(
        self, run: Run, message: Message, retry: Retry | None, error: BaseException
    ) -> None:
        self.delay = 0.0
        self._run = run
        self._message = message
        self._retry = retry
        self._error = error

    async def __call__(self) -> Retry | None:
        if self._retry is None:
            return await self._run.failed(self._message, self._error)
        return await self._retry.failed(self._error)

    async def failed(self, error: BaseException) -> Retry | None:
        return self
