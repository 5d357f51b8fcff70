"""What a listener passes over because it cannot be read, and the note of it."""

from __future__ import annotations

from aiokafka.structs import TopicPartition

from pyfly_messaging.adapters.kafka import errors
from pyfly_messaging.adapters.kafka.unreadable import Hole
from pyfly_messaging.delivery import dead_letter
from pyfly_messaging.delivery.dead_letter import PublishDeadLetter
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.logs import get_logger
from pyfly_messaging.message import Message

logger = get_logger("pyfly_messaging.kafka")


class Skips:
    """Leaves a note on the dead-letter topics of a route, and counts.

    Args:
        route: Whose records they are.
        publish: How to publish a dead letter.

    Attributes:
        count: Offsets that were skipped.

    """

    def __init__(self, route: Route, publish: PublishDeadLetter) -> None:
        self.count = 0
        self._route = route
        self._publish = publish

    async def __call__(self, partition: TopicPartition, hole: Hole) -> None:
        """Return when the note is confirmed; with ``dead_letter: false`` there is only a log.

        Raises:
            BrokerError: It is not confirmed.

        """
        policies = (subscription.policy for subscription in self._route.subscriptions)
        topics = {policy.dead_letter_topic_for(partition.topic) for policy in policies} - {None}
        for topic in sorted(filter(None, topics)):
            await self._publish(self._note(topic, partition, hole), hole.error)
        self.count += hole.last + 1 - hole.first
        logger.error(
            "Kafka: listener %s: offsets %d to %d of partition %s-%d cannot be read and are skipped"
            " (kafka.unreadable: skip); %s; %d in all since the start: %s",
            self._route.name,
            hole.first,
            hole.last,
            *partition,
            f"a note went to {', '.join(sorted(filter(None, topics)))}" if topics else "no note",
            self.count,
            errors.describe(hole.error),
        )

    def _note(self, topic: str, partition: TopicPartition, hole: Hole) -> Message:
        unread = dead_letter.dead_letter(
            Message(partition.topic, b""),
            topic,
            group=self._route.group,
            attempts=0,
            error=hole.error,
        )
        where = {
            dead_letter.ORIGINAL_PARTITION: str(partition.partition),
            dead_letter.ORIGINAL_OFFSET: str(hole.first),
        }
        headers = dead_letter.note(unread, where).headers
        headers[dead_letter.ORIGINAL_SIZE] = str(hole.size)
        headers[dead_letter.OMITTED] = "value,key,headers"
        if hole.last > hole.first:
            text = f"offsets {hole.first} to {hole.last}: {headers[dead_letter.EXCEPTION_MESSAGE]}"
            headers[dead_letter.EXCEPTION_MESSAGE] = text
        return Message(topic, b"", None, headers)
