"""How a broker and its consumers are, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

ConsumerState: TypeAlias = Literal["running", "reconnecting", "stopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerHealth:
    """How one consumer is.

    Attributes:
        name: The names of its listeners.
        topic: What it consumes.
        group: The consumer group, or None.
        state: ``running`` only while messages can arrive.
        assigned: What it reads now: the partitions (Kafka), or its queue. A member of a group that
            has more members than partitions runs with none.
        in_flight: Messages that arrived and are not settled.
        error: The last error, as text without secrets; None since it was overcome.
        skipped: Messages that could not be read and were passed over since the start (Kafka, with
            ``kafka.unreadable: skip``).

    """

    name: str
    topic: str
    group: str | None
    state: ConsumerState
    assigned: tuple[str, ...] = ()
    in_flight: int = 0
    error: str | None = None
    skipped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a broker is.

    Attributes:
        started: Between a start that succeeded and the next stop.
        publishing: Whether a publish can reach the broker now.
        consumers: One for each (topic, group), and for each listener without a group, in the order
            of their subscription.

    """

    started: bool
    publishing: bool
    consumers: tuple[ConsumerHealth, ...] = ()

    @property
    def healthy(self) -> bool:
        """Started, able to publish, and every consumer running."""
        return (
            self.started
            and self.publishing
            and all(consumer.state == "running" for consumer in self.consumers)
        )
