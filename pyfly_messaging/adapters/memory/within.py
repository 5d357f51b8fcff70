"""Steps of a delivery that workers make, in the context of the publication that set it off."""

from __future__ import annotations

from collections.abc import Awaitable

from pyfly_messaging.adapters.memory.publication import Publication, current
from pyfly_messaging.delivery.lanes import Batch
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.delivery.settlement import Retry
from pyfly_messaging.message import Message


def batch_of(message: Message, publication: Publication, route: Route) -> Batch[Publication]:
    """Return a message as lanes take it."""
    run = RunWithin(publication, route)
    return Batch(run, (message,), (publication,), Publication.settle)


class RunWithin:
    """Runs a route in the context of the publication that set it off."""

    __slots__ = ("_publication", "_route")

    def __init__(self, publication: Publication, route: Route) -> None:
        self._publication = publication
        self._route = route

    async def attempt(self, message: Message) -> Retry | None:
        return await _within(self._publication, self._route.attempt(message))

    async def failed(self, message: Message, error: BaseException) -> Retry | None:
        return await _within(self._publication, self._route.failed(message, error))


class RetryWithin:
    """A later attempt in the context of the publication that set it off."""

    __slots__ = ("_publication", "_retry", "delay")

    def __init__(self, publication: Publication, retry: Retry) -> None:
        self.delay = retry.delay
        self._publication = publication
        self._retry = retry

    async def __call__(self) -> Retry | None:
        return await _within(self._publication, self._retry())

    async def failed(self, error: BaseException) -> Retry | None:
        return await _within(self._publication, self._retry.failed(error))


async def _within(publication: Publication, step: Awaitable[Retry | None]) -> Retry | None:
    current.set(publication)
    publication.holders += 1
    try:
        retry = await step
    finally:
        publication.holders -= 1
    return None if retry is None else RetryWithin(publication, retry)
