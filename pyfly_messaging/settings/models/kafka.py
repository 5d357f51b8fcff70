"""The settings of the Kafka adapter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from pyfly_messaging.settings.models.base import Conflict, Section
from pyfly_messaging.settings.models.security import SaslSettings, TlsSettings
from pyfly_messaging.settings.models.types import (
    Acks,
    Deadline,
    Duration,
    Flag,
    Servers,
    Size,
    Text,
    Whole,
)


class KafkaSettings(Section):
    """How to reach Kafka, and with which guarantees. Durations are seconds."""

    bootstrap_servers: Servers = Field(
        default=("localhost:9092",),
        description="The brokers to ask first: host:port, several as a list or with commas.",
    )
    client_id: Text = Field(default="pyfly", description="Name of this client in Kafka's logs.")
    acks: Annotated[Literal["all", 1, 0], Acks] = Field(
        default="all",
        description="Who must have a message before a publish returns: all in-sync replicas, "
        "the leader (1), nobody (0).",
    )
    idempotence: Flag = Field(
        default=True, description="Keep retries of the producer from writing a message twice."
    )
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        default="none", description="Compression of what is published."
    )
    linger: Duration = Field(
        default=0.0, description="How long the producer waits to fill a batch."
    )
    session_timeout: Deadline = Field(
        default=45.0, description="Without a heartbeat for so long, a consumer has left its group."
    )
    max_poll_interval: Deadline = Field(
        default=300.0, description="Longest pause between two fetches of a consumer in a group."
    )
    auto_offset_reset: Literal["earliest", "latest"] = Field(
        default="earliest",
        description="Where a named group begins that has committed nothing yet.",
    )
    commit_interval: Deadline = Field(
        default=0.1, description="Settled offsets are committed at least this often."
    )
    commit_count: Annotated[Whole, Field(ge=1)] = Field(
        default=1000, description="Settled offsets are committed after so many records, too."
    )
    max_in_flight: Annotated[Whole, Field(ge=1)] = Field(
        default=500, description="Records that a listener may hold before its intake pauses."
    )
    max_in_flight_bytes: Annotated[Size, Field(ge=1)] = Field(
        default=64 * 1024 * 1024,
        description="Bytes of keys, values and headers that a listener may hold before its intake "
        "pauses; a larger record is handled alone.",
    )
    unreadable: Literal["block", "skip"] = Field(
        default="block",
        description="What to do about a record that cannot be read (a broken checksum, a codec "
        "that is not installed, a header name that is not UTF-8): block its partition until it "
        "can be, or skip it, with a note of where it is on the dead-letter topic.",
    )
    topics: Literal["create", "verify", "ignore"] = Field(
        default="create",
        description="What to do about a topic that is missing at start: create it, "
        "fail (verify), or nothing (ignore).",
    )
    partitions: Annotated[Whole, Field(ge=1)] | None = Field(
        default=None, description="Partitions of a created topic; the broker's default otherwise."
    )
    replication_factor: Annotated[Whole, Field(ge=1, le=32767)] | None = Field(
        default=None, description="Replicas of a created topic; the broker's default otherwise."
    )
    tls: TlsSettings = Field(
        default_factory=TlsSettings, description="Encryption of the connection."
    )
    sasl: SaslSettings = Field(default_factory=SaslSettings, description="Who connects.")
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Further arguments of aiokafka's clients, checked against their signatures.",
    )

    def conflicts(self) -> Iterator[Conflict]:
        """Yield what Kafka would refuse, or would silently not do."""
        if self.idempotence and self.acks != "all":
            yield Conflict(
                code="CFG206",
                fields=("acks", "idempotence"),
                message=f"acks {self.acks} and idempotence exclude each other",
                help="use acks: all, or set idempotence: false",
            )
        if not self.tls.enabled and self.tls.given:
            yield tls_is_off(self.tls)


def tls_is_off(tls: TlsSettings) -> Conflict:
    """Return the conflict of TLS files with a connection that is not encrypted."""
    return Conflict(
        code="CFG207",
        fields=(f"tls.{tls.given[0]}", "tls.enabled"),
        message=f"{tls.given[0].replace('_', '-')} has no effect while TLS is off",
        help="set tls.enabled: true, or remove it",
    )
