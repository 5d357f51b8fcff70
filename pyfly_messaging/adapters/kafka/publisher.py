"""Publishing: send, and wait for the confirmation within one time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerClosed
from aiokafka.partitioner import DefaultPartitioner

from pyfly_messaging.adapters.kafka import errors
from pyfly_messaging.adapters.kafka.client import Client
from pyfly_messaging.adapters.kafka.codec import Record, encode_headers
from pyfly_messaging.adapters.kafka.producer import Producer
from pyfly_messaging.adapters.kafka.topics import Topics
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.expiry import Expiry
from pyfly_messaging.errors import BatchPublishError, BrokerError, NotStartedError, PublishError

# What was not written may be sent once more. A producer that was replaced answers ProducerClosed.
_SEND_AGAIN = (ProducerClosed, *errors.UNUSABLE_PRODUCER, *errors.TOO_LARGE)
_DEFAULT_BATCH_SIZE = 16384


class Publisher:
    """Sends messages and waits for their confirmation.

    Args:
        client: How to connect.
        topics: Makes sure that a topic exists before it is written to.
        timeout: Seconds by which a publish is confirmed or raises.

    """

    def __init__(self, client: Client, topics: Topics, timeout: float) -> None:
        self._client = client
        self._topics = topics
        self._known = topics.known
        self._limit = Expiry(timeout)
        self._producer = Producer(client, topics, timeout)
        self._single_batch = SingleBatch(client.settings.options)

    @property
    def connected(self) -> bool:
        """Whether a publish can reach a broker now, as far as is known."""
        return self._producer.connected

    async def start(self, deadline: Deadline) -> None:
        """Connect.

        Raises:
            BrokerUnavailableError: Not connected by the deadline.
            AuthenticationError: The broker refused.

        """
        self._single_batch = SingleBatch(
            self._client.settings.options
        )  # its lock is of one event loop
        await self._producer.start(deadline)

    async def stop(self, deadline: Deadline) -> None:
        """Flush what is being sent and disconnect; never hangs on a dead broker."""
        await self._producer.stop(deadline)

    async def publish(
        self, topic: str, value: bytes, key: bytes | None, headers: dict[str, str] | None
    ) -> None:
        """Send a message and wait for its confirmation.

        Raises:
            NotStartedError: Not started, or stopped.
            PublishError: Not confirmed within the timeout, or refused.

        """
        encoded = encode_headers(headers) if headers else None
        try:
            with self._limit:
                if topic not in self._known:
                    await self._ensure(topic, Deadline(self._limit.left()))
                if (producer := self._producer.current) is None:
                    raise NotStartedError
                try:
                    await (await producer.send(topic, value, key, headers=encoded))
                except _SEND_AGAIN as error:
                    await self._send_again(producer, Record(topic, value, key, encoded), error)
        except (TimeoutError, KafkaError) as error:
            raise self._failure(error, topic) from error

    async def publish_many(self, records: Sequence[Record]) -> None:
        """Send messages one after the other, then wait for all confirmations.

        Raises:
            NotStartedError: Not started, or stopped.
            BatchPublishError: Some were not confirmed within the timeout, or were refused.

        """
        self.current()
        batch = SentBatch(records)
        try:
            async with asyncio.timeout(self._limit.seconds):
                await self._send_batch(batch, Deadline(self._limit.seconds))
        except (TimeoutError, NotStartedError) as end:
            batch.fail_rest(end)
        if batch.failed:
            failed = []
            for position, record, error in batch.failures():
                failure = self._failure(error, record.topic)
                if failure is not error:
                    failure.__cause__ = error
                failed.append((position, failure))
            raise BatchPublishError(failed, len(records)) from failed[0][1]

    async def _send_batch(self, batch: SentBatch, deadline: Deadline) -> None:
        for topic in batch.topics:
            if topic not in self._known:
                try:
                    await self._ensure(topic, deadline)
                except PublishError as missing:
                    batch.fail_topic(topic, missing)
        producer = self.current()
        await batch.send(producer)
        for position, record, error in tuple(batch.failures()):
            if isinstance(error, _SEND_AGAIN):
                try:
                    await self._send_again(producer, record, error)
                except (KafkaError, PublishError) as final:
                    batch.failed[position] = final
                else:
                    del batch.failed[position]

    async def _send_again(
        self, producer: AIOKafkaProducer, record: Record, error: BaseException
    ) -> None:
        """Send a message again that was not written: by another producer, or alone."""
        alone = False
        while True:
            if not isinstance(error, errors.TOO_LARGE):
                producer = await self._other_than(producer)
            elif alone or not self._single_batch.may_help(record, error):
                raise error
            else:
                alone = True
            try:
                if alone:
                    async with self._single_batch.turn:
                        producer = self.current()
                        await self._single_batch(producer, record)
                else:
                    await (await record.send(producer))
            except _SEND_AGAIN as refused:
                error = refused
            else:
                return

    async def _other_than(self, unusable: AIOKafkaProducer) -> AIOKafkaProducer:
        try:
            await self._producer.replace(unusable)
        except BrokerError as error:
            raise PublishError(f"the producer could not be replaced: {error}") from error
        return self.current()

    def current(self) -> AIOKafkaProducer:
        """Return the producer that is to be used now.

        Raises:
            NotStartedError: Not started, or stopped.

        """
        if (producer := self._producer.current) is None:
            raise NotStartedError
        return producer

    async def _ensure(self, topic: str, deadline: Deadline) -> None:
        self.current()
        try:
            await self._topics.ensure((topic,), deadline)
        except BrokerError as error:
            raise PublishError(f"publish to {topic!r} failed: {error}") from error

    def _failure(self, error: BaseException, topic: str) -> BrokerError:
        """Return what a publish raises; a topic that took nothing is looked for the next time."""
        if isinstance(error, BrokerError):
            return error
        if isinstance(error, (TimeoutError, *errors.TOPIC_GONE)):
            self._topics.forget(topic)
        if not isinstance(error, TimeoutError):
            return errors.publishing(error, topic)
        self._producer.suspect = True
        return PublishError(
            f"publish to {topic!r} was not confirmed by Kafka at {self._client.address} within"
            f" {self._limit.seconds:g} s (publish-timeout); whether it was written is unknown"
        )


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

    def fail_rest(self, error: BaseException) -> None:
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


class SingleBatch:
    """Sends a message in a batch of its own, when it was refused in a batch with others.

    aiokafka fills batches up to 16 KiB and fails all messages of a batch that the broker refuses as
    too large, although on a topic with a small ``max.message.bytes`` each of them may fit.

    Args:
        options: ``kafka.options``; those of batches and partitions count here too.

    Attributes:
        turn: To be held while sending.

    """

    def __init__(self, options: dict[str, Any]) -> None:
        # One at a time: a message that waits for a free place in aiokafka's queue of batches is
        # charged the time that others have waited (0.14).
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
