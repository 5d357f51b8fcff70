"""Several messages that are sent together and confirmed in one round."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from pyfly_messaging.adapters.kafka.codec import Record


class SentBatch:
    """What became of each message of a batch.

    Args:
        records: The messages, in order.

    Attributes:
        failed: Position and error of each message that is not taken, as far as is known.

    """

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self.failed: dict[int, BaseException] = {}
        self._sent: dict[int, asyncio.Future[Any]] = {}

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics of the messages, each once."""
        return tuple(dict.fromkeys(record.topic for record in self.records))

    def fail_topic(self, topic: str, error: BaseException) -> None:
        """Count all messages of a topic as failed; they are not sent."""
        for position, record in enumerate(self.records):
            if record.topic == topic:
                self.failed[position] = error

    async def send(self, producer: AIOKafkaProducer) -> None:
        """Send what has not failed, in order, and wait for every confirmation."""
        for position, record in enumerate(self.records):
            if position not in self.failed:
                try:
                    self._sent[position] = await record.send(producer)
                except KafkaError as refusal:
                    self.failed[position] = refusal
        if self._sent:
            await asyncio.wait(self._sent.values())
        for position, sent in self._sent.items():
            if (error := sent.exception()) is not None:
                self.failed[position] = error

    def failures(self) -> Iterator[tuple[int, Record, BaseException]]:
        """Yield position, message and error of each failed one, in order."""
        for position in sorted(self.failed):
            yield position, self.records[position], self.failed[position]

    def give_up(self, error: BaseException) -> None:
        """Count as failed whatever is not confirmed by now."""
        for position in range(len(self.records)):
            sent = self._sent.get(position)
            if position in self.failed or (sent is not None and _is_taken(sent)):
                continue
            self.failed[position] = error


def _is_taken(sent: asyncio.Future[Any]) -> bool:
    """Tell whether a message is confirmed; one that is not is no longer waited for."""
    sent.cancel()
    return not sent.cancelled() and sent.exception() is None
