"""Dead letters that are too large for the producer, or for their topic with our headers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from aiokafka.errors import KafkaError

from pyfly_messaging.adapters.kafka import errors
from pyfly_messaging.adapters.kafka.client import Client
from pyfly_messaging.adapters.kafka.closing import end_producer
from pyfly_messaging.adapters.kafka.codec import encode_headers
from pyfly_messaging.adapters.kafka.producer import connect
from pyfly_messaging.delivery import dead_letter
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.errors import BrokerError, PublishError
from pyfly_messaging.message import Message

logger = logging.getLogger("pyfly_messaging.kafka")


async def publish_large(client: Client, letter: Message, timeout: float) -> None:
    """Publish a dead letter that the ordinary producer could not, and wait for its confirmation.

    Here the broker decides what is too large. For a message that just fitted into its own topic
    our headers are too much: the exception's text is left out, and if need be all of them.

    Args:
        client: How to connect.
        letter: The dead letter.
        timeout: Seconds for all of it.

    Raises:
        PublishError: Not confirmed within the timeout, or refused.

    """
    topic, deadline = letter.topic, Deadline(timeout)
    try:
        await client.reach(deadline)
        producer = client.producer_without_limit()
        await connect(client, producer, deadline)
        try:
            async with asyncio.timeout(deadline.left()):
                for headers in _fewer_and_fewer(letter.headers):
                    try:
                        await producer.send_and_wait(
                            topic, letter.value, letter.key, headers=encode_headers(headers)
                        )
                    except errors.TOO_LARGE as error:
                        refusal = error
                    else:
                        _tell(letter, headers)
                        return
                raise refusal
        finally:
            await end_producer(producer, 1.0)
    except TimeoutError as error:
        raise PublishError(
            f"publish to {topic!r} was not confirmed within {timeout:g} s (publish-timeout)"
        ) from error
    except KafkaError as error:
        raise errors.publishing(error, topic) from error
    except BrokerError as error:
        raise PublishError(f"publish to {topic!r} failed: {error}") from error


def _fewer_and_fewer(headers: dict[str, str]) -> Iterator[dict[str, str]]:
    """Yield the headers, then without the longest of ours, then without any of ours."""
    yield headers
    yield {name: text for name, text in headers.items() if name != dead_letter.EXCEPTION_MESSAGE}
    yield {name: text for name, text in headers.items() if name not in dead_letter.OURS}


def _tell(letter: Message, headers: dict[str, str]) -> None:
    if left_out := sorted(letter.headers.keys() - headers.keys()):
        logger.warning(
            "Kafka: the dead letter to %s was too large for it with the headers %s: left out",
            letter.topic,
            ", ".join(left_out),
        )
