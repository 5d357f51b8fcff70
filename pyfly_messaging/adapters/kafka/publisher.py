"""Publishing: send, and wait for the confirmation within one time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerClosed

from pyfly_messaging.adapters.kafka import errors
from pyfly_messaging.adapters.kafka.alone import SendAlone
from pyfly_messaging.adapters.kafka.batch import SentBatch
from pyfly_messaging.adapters.kafka.client import Client
from pyfly_messaging.adapters.kafka.codec import Record, encode_headers
from pyfly_messaging.adapters.kafka.producer import Producer
from pyfly_messaging.adapters.kafka.topics import Topics
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.expiry import Expiry
from pyfly_messaging.errors import BatchPublishError, BrokerError, NotStartedError, PublishError

# What was not written may be sent once more. A producer that was replaced answers ProducerClosed.
_SEND_AGAIN = (ProducerClosed, *errors.SPOILT, *errors.TOO_LARGE)


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
        self._alone = SendAlone(client.settings.options)

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
        self._alone = SendAlone(self._client.settings.options)  # its lock is of one event loop
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
                    await self._again(producer, Record(topic, value, key, encoded), error)
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
            batch.give_up(end)
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
                    await self._again(producer, record, error)
                except (KafkaError, PublishError) as final:
                    batch.failed[position] = final
                else:
                    del batch.failed[position]

    async def _again(
        self, producer: AIOKafkaProducer, record: Record, error: BaseException
    ) -> None:
        """Send a message again that was not written: by another producer, or alone."""
        alone = False
        while True:
            if not isinstance(error, errors.TOO_LARGE):
                producer = await self._other_than(producer)
            elif alone or not self._alone.may_help(record, error):
                raise error
            else:
                alone = True
            try:
                if alone:
                    async with self._alone.turn:
                        producer = self.current()
                        await self._alone(producer, record)
                else:
                    await (await record.send(producer))
            except _SEND_AGAIN as refused:
                error = refused
            else:
                return

    async def _other_than(self, spoilt: AIOKafkaProducer) -> AIOKafkaProducer:
        try:
            await self._producer.replace(spoilt)
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
        if isinstance(error, (TimeoutError, *errors.GONE)):
            self._topics.forget(topic)
        if not isinstance(error, TimeoutError):
            return errors.publishing(error, topic)
        self._producer.doubtful = True
        return PublishError(
            f"publish to {topic!r} was not confirmed by Kafka at {self._client.address} within"
            f" {self._limit.seconds:g} s (publish-timeout); whether it was written is unknown"
        )
