"""Publishing dead letters, those that are too large for their topic too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from uuid import uuid4

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, UnknownError
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.structs import ConsumerRecord

from pyfly_messaging.adapters.kafka import errors, internals
from pyfly_messaging.adapters.kafka.assignment import handling
from pyfly_messaging.adapters.kafka.client import Client
from pyfly_messaging.adapters.kafka.codec import encode
from pyfly_messaging.adapters.kafka.producer import connect
from pyfly_messaging.adapters.kafka.publisher import Publisher
from pyfly_messaging.adapters.kafka.shutdown import end_producer
from pyfly_messaging.delivery import dead_letter
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.errors import BrokerError, PublishError
from pyfly_messaging.logs import get_logger
from pyfly_messaging.message import Message, derived

logger = get_logger("pyfly_messaging.kafka.messages")

# A dead letter from this size on goes by a producer of its own: after a refusal the one of all
# messages would have to be replaced. Bytes.
_LARGE_BYTES = 16 * 1024
# What a broker takes at most as one request (``socket.request.max.bytes``; of a larger one it
# closes the connection without an answer), less what is around the message. Bytes.
_LARGEST_REQUEST_BYTES = 100 * 1024 * 1024 - 4096
# From this size on a batch is built in a thread: compression takes long. Bytes.
_BUILT_IN_A_THREAD_BYTES = 256 * 1024
# For a producer that is replaced to close. Seconds.
_CLOSE_TIMEOUT_S = 1.0


class DeadLetters:
    """Publishes dead letters, and has health tell of those that are not confirmed.

    Args:
        client: How to connect.
        publisher: What publishes a letter that is not large.
        timeout: Seconds for one publish.

    """

    def __init__(self, client: Client, publisher: Publisher, timeout: float) -> None:
        self._publisher = publisher
        self._large = LargeDeadLetters(client, timeout)
        self._refusing: set[str] = set()  # topics that have refused a letter that is not large

    async def __call__(self, letter: Message, error: BaseException) -> None:
        """Publish a letter, or what can be kept of it, and wait for its confirmation.

        Raises:
            NotStartedError: Not started, or stopped.
            PublishError: Not confirmed within the timeout, or refused.

        """
        assignment = handling.get()
        try:
            await self._publish(letter)
        except PublishError as refusal:
            if assignment is not None:
                assignment.note_dead_letter(letter, refusal)
            raise
        if assignment is not None:
            assignment.note_dead_letter(letter, None)

    async def stop(self, deadline: Deadline) -> None:
        """Disconnect."""
        await self._large.stop(deadline)

    async def _publish(self, letter: Message) -> None:
        if letter.topic not in self._refusing and _size(letter) < _LARGE_BYTES:
            try:
                await self._publisher.publish(
                    letter.topic, letter.value, letter.key, letter.headers
                )
            except PublishError as error:
                if not _is_refused(error, letter):
                    raise
                self._refusing.add(letter.topic)
            else:
                return
        self._publisher.current()
        await self._large.publish(letter)


def _size(letter: Message) -> int:
    headers = sum(len(name) + len(text) for name, text in letter.headers.items())
    return len(letter.value) + len(letter.key or b"") + headers


def _is_refused(error: PublishError, letter: Message) -> bool:
    """Tell whether the broker takes less of a letter, or with a key."""
    cause = error.__cause__
    return isinstance(cause, errors.TOO_LARGE) or (
        isinstance(cause, UnknownError) and letter.key is None
    )


class LargeDeadLetters:
    """Publishes dead letters with a producer of its own, each in a batch of its own.

    What can be kept of a letter is kept: all of it, compressed if need be; then without some of our
    headers, without all of them; at last a note of where the message is. The producer is not
    idempotent, because a refusal would end it, and has no limit: the broker decides what is too
    large. It is connected for the first letter, and kept until it fails or `stop`.

    Args:
        client: How to connect.
        timeout: Seconds for one letter.

    """

    def __init__(self, client: Client, timeout: float) -> None:
        self._client = client
        self._timeout = timeout
        self._producer: AIOKafkaProducer | None = None
        self._stale = False  # whether the producer is replaced before it is used again
        self._turn = asyncio.Lock()
        partitioner = client.settings.options.get("partitioner")
        self._partition: Callable[..., int] = partitioner or DefaultPartitioner()

    async def publish(self, letter: Message) -> None:
        """Publish what can be kept of a dead letter, and wait for its confirmation.

        Raises:
            PublishError: Not confirmed within the timeout, or refused to the last.

        """
        topic, deadline = letter.topic, Deadline(self._timeout)
        try:
            async with asyncio.timeout(self._timeout), self._turn:
                await self._in_steps(await self._connected(deadline), letter)
        except TimeoutError as error:
            self._stale = True
            raise PublishError(
                f"publish to {topic!r} was not confirmed within {self._timeout:g} s"
                " (publish-timeout)"
            ) from error
        except KafkaError as error:
            self._stale = not isinstance(error, (*errors.UNWRITABLE, UnknownError))
            raise errors.publishing(error, topic) from error
        except BrokerError as error:
            raise PublishError(f"publish to {topic!r} failed: {error}") from error

    async def stop(self, deadline: Deadline) -> None:
        """Close the producer."""
        await self._end(max(_CLOSE_TIMEOUT_S, deadline.left()))
        self._turn = asyncio.Lock()  # one that was waited for serves no other event loop

    async def _connected(self, deadline: Deadline) -> AIOKafkaProducer:
        if self._stale:
            await self._end(_CLOSE_TIMEOUT_S)
        if self._producer is None:
            await self._client.bootstrap(deadline)
            producer = self._client.producer_without_limit()
            await connect(self._client, producer, deadline)
            self._producer = producer
        return self._producer

    async def _end(self, timeout: float) -> None:
        if (producer := self._producer) is not None:
            try:
                await end_producer(producer, timeout)
            finally:  # cancelled, it is closed too
                self._producer, self._stale = None, False

    async def _in_steps(self, producer: AIOKafkaProducer, letter: Message) -> None:
        """Send less and less of a letter until the broker takes it."""
        smallest, refusal = _LARGEST_REQUEST_BYTES, None
        for candidate, codec, what in _steps(letter):
            batch = await _build(candidate, codec)
            size = batch.size()
            if size >= smallest:  # would be refused like the last one
                continue
            try:
                try:
                    await self._send(producer, candidate, batch)
                except UnknownError:  # a compacted topic takes nothing without a key
                    if candidate.key is not None:
                        raise
                    keyed = _with_a_key(candidate)
                    await self._send(producer, keyed, await _build(keyed, codec))
            except errors.TOO_LARGE as error:
                smallest, refusal = size, error
                logger.warning(
                    "Kafka: a dead letter %s is too large for %s (%d bytes)",
                    what,
                    letter.topic,
                    smallest,
                )
            else:
                if candidate is not letter or codec:
                    logger.warning("Kafka: a dead letter went to %s %s", letter.topic, what)
                return
        raise refusal or errors.TOO_LARGE[0](f"larger than {_LARGEST_REQUEST_BYTES} bytes")

    async def _send(self, producer: AIOKafkaProducer, letter: Message, batch: BatchBuilder) -> None:
        partitions = sorted(await producer.partitions_for(letter.topic))
        partition = self._partition(letter.key, partitions, partitions)
        await (await producer.send_batch(batch, letter.topic, partition=partition))


async def _build(letter: Message, codec: int) -> BatchBuilder:
    """Return a batch of one dead letter, ready to be sent."""
    record, batch = encode(letter), BatchBuilder(0, codec)
    batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers or [])
    if len(record.value) < _BUILT_IN_A_THREAD_BYTES:
        internals.build(batch)
    else:
        await asyncio.to_thread(internals.build, batch)
    return batch


def _with_a_key(letter: Message) -> Message:
    """Return a dead letter with a key of its own, so that compaction keeps it."""
    where = "-".join(position(letter).values()) or uuid4().hex
    key = f"{letter.headers.get(dead_letter.ORIGINAL_TOPIC, letter.topic)}-{where}".encode()
    return derived(letter, letter.topic, letter.value, key, letter.headers)


def _steps(letter: Message) -> Iterator[tuple[Message, int, str]]:
    """Yield what to try: a dead letter, its codec, and what it is called."""
    gzip = DefaultRecordBatch.CODEC_GZIP
    yield letter, 0, "as it is"
    yield letter, gzip, "compressed"
    *fewer, note = dead_letter.reduced(letter, position(letter))
    for candidate in fewer:
        left_out = ", ".join(sorted(letter.headers.keys() - candidate.headers.keys()))
        yield candidate, 0, f"without {left_out}"
        yield candidate, gzip, f"compressed, without {left_out}"
    where = " ".join(position(letter).values())
    yield note, 0, f"as a note without its {note.headers[dead_letter.OMITTED]} (at {where})"
    yield note, gzip, f"as a compressed note (at {where})"
    yield _headers_alone(letter, position(letter)), 0, f"as its position alone (at {where})"
    yield _headers_alone(letter, {}), 0, f"as an empty record (for the message at {where})"


def _headers_alone(letter: Message, headers: dict[str, str]) -> Message:
    return derived(letter, letter.topic, b"", None, headers)


def position(letter: Message) -> dict[str, str]:
    """Return headers that say where the message of a dead letter is."""
    record = letter.origin
    if not isinstance(record, ConsumerRecord):
        return {}
    return {
        dead_letter.ORIGINAL_PARTITION: str(record.partition),
        dead_letter.ORIGINAL_OFFSET: str(record.offset),
    }
