"""Whether records can arrive at a consumer, judged by what its connections do."""

from __future__ import annotations

import time

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from pyfly_messaging.adapters.kafka import internals

# How long a partition may have no answer: ten times as long as a broker by default waits
# before it answers that there is nothing new. Milliseconds.
_SILENCE_MS = 5000


class Liveness:
    """Tells whether brokers answer one consumer.

    aiokafka says of a partition when it was last answered for; its assignment stays as it is when
    the brokers are gone, or when the group has given the partitions to others.

    Args:
        consumer: The consumer.
        longest_wait: Milliseconds for which a broker may hold back an answer.

    """

    def __init__(self, consumer: AIOKafkaConsumer[bytes, bytes], longest_wait: int) -> None:
        self._consumer = consumer
        self._silence = max(_SILENCE_MS, 3 * longest_wait)
        self._reset_at = 0.0

    def reset(self) -> None:
        """Begin to count silence now: until now nothing was polled."""
        self._reset_at = _now()

    @property
    def connected(self) -> bool:
        """Whether there is a connection to any broker."""
        return any(
            connection.connected()
            for connection in internals.connections(internals.client_of(self._consumer))
        )

    @property
    def alive(self) -> bool:
        """Whether answers come for at least one partition."""
        silent = self._silent()
        return self._reachable() and (not silent or len(silent) < len(self._consumer.assignment()))

    @property
    def error(self) -> str | None:
        """Which partitions get no answers; None when all do."""
        if not self._reachable():
            return "no connection to the brokers"
        if silent := self._silent():
            names = ", ".join(f"{p.topic}-{p.partition}" for p in sorted(silent))
            return f"no answer for {names}"
        return None

    def _reachable(self) -> bool:
        if not self.connected:
            return False
        # A member without partitions is known only to the coordinator of its group.
        if self._consumer.assignment():
            return True
        coordinator = internals.coordinator_of(self._consumer)
        return coordinator is None or coordinator.coordinator_id is not None

    def _silent(self) -> list[TopicPartition]:
        since = _now() - self._silence
        if self._reset_at > since:
            return []
        polled = self._consumer.last_poll_timestamp
        return [p for p in self._consumer.assignment() if (polled(p) or 0) < since]


def _now() -> float:
    return time.time() * 1000
