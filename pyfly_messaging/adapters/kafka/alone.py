"""Sending one message in a batch of its own.

aiokafka fills batches up to 16 KiB and fails all messages of a batch that the broker refuses as too
large, although on a topic with a small ``max.message.bytes`` each of them may fit.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner

from pyfly_messaging.adapters.kafka.codec import Record

_DEFAULT_BATCH_SIZE = 16384


class SendAlone:
    """Sends messages that may have been refused for the company they were in.

    Args:
        options: ``kafka.options``; those of batches and partitions count here too.

    Attributes:
        turn: To be held while sending.

    """

    def __init__(self, options: dict[str, Any]) -> None:
        # One at a time: whoever waits for a free place in aiokafka's queue of batches is counted
        # all the time that others have waited (0.14).
        self.turn = asyncio.Lock()
        self._batch_size = options.get("max_batch_size", _DEFAULT_BATCH_SIZE)
        self._partition = options.get("partitioner") or DefaultPartitioner()

    def may_help(self, record: Record, error: BaseException) -> bool:
        """Tell whether a refused message may have been in a batch with others.

        One that the client itself refuses (its error has a text) was in none, and one that fills
        a batch has it for itself.
        """
        size = len(record.value) + len(record.key or b"")
        return not error.args and size < self._batch_size

    async def __call__(self, producer: AIOKafkaProducer, record: Record) -> None:
        """Send a message alone and wait for its confirmation."""
        partitions = sorted(await producer.partitions_for(record.topic))
        batch = producer.create_batch()
        batch.append(
            timestamp=None, key=record.key, value=record.value, headers=record.headers or []
        )
        batch.close()
        partition = self._partition(record.key, partitions, partitions)
        await (await producer.send_batch(batch, record.topic, partition=partition))
