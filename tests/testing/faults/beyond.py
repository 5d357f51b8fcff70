"""Faults of what goes beyond the port: batches and health."""

from collections.abc import Iterable
from dataclasses import replace

from pyfly_messaging.errors import BatchPublishError
from pyfly_messaging.health import Health
from pyfly_messaging.message import Message

from .base import Fault


class LosesTheEndOfABatch(Fault):
    """Leaves the last message of a batch out."""

    async def publish_many(self, messages: Iterable[Message]) -> None:
        await self.inner.publish_many(list(messages)[:-1])


class TurnsBatchesRound(Fault):
    """Publishes the last message of a batch first."""

    async def publish_many(self, messages: Iterable[Message]) -> None:
        await self.inner.publish_many(list(messages)[::-1])


class SendsHalfABatch(Fault):
    """Finds a wrong message only when it comes to it."""

    async def publish_many(self, messages: Iterable[Message]) -> None:
        for message in messages:
            await self.inner.publish_many([message])


class HidesRefusals(Fault):
    """Does not tell which messages of a batch were refused."""

    async def publish_many(self, messages: Iterable[Message]) -> None:
        try:
            await self.inner.publish_many(messages)
        except BatchPublishError:
            return


class SaysThatAllIsWell(Fault):
    """Is healthy, whatever it is."""

    def health(self) -> Health:
        return replace(self.inner.health(), started=True, publishing=True)


class CountsNothingInFlight(Fault):
    """Knows nothing of what is in flight."""

    def health(self) -> Health:
        health = self.inner.health()
        consumers = tuple(replace(consumer, in_flight=0) for consumer in health.consumers)
        return replace(health, consumers=consumers)
