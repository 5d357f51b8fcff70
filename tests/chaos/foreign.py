"""Messages that a foreign producer can send, as bytes that no client of ours would write.

Each strategy makes what looks right in most places and is wrong in a few: names that are no text,
lengths that lie, tables in tables in tables, headers that claim to be ours. What the broker itself
refuses never reaches a consumer.
"""

import gzip
import struct
from dataclasses import dataclass
from typing import Any

import aiokafka.codec
from aiokafka.record.util import calc_crc32c
from aiormq import spec
from hypothesis import strategies as st

_OURS = [
    b"x-pyfly-key",
    b"x-pyfly-key'",
    b"x-pyfly-original-topic",
    b"x-pyfly-original-group",
    b"x-pyfly-attempts",
    b"x-pyfly-exception-message",
    b"x-pyfly-omitted",
    b"x-delivery-count",
    b"x-death",
    b"content-type",
    b"\x1b[31mred\x1b[0m",
    b"line\r\nbreak\x00",
    b"\xe2\x80\xae",
]
NAMES = st.one_of(
    st.sampled_from(_OURS), st.binary(max_size=40), st.binary(min_size=120, max_size=255)
)
BODIES = st.one_of(
    st.binary(max_size=60),
    st.integers(1, 200_000).map(bytes),
    st.just(b"\x1b]0;title\x07" * 100),
)


@dataclass(frozen=True)
class Change:
    """A byte that is another one on the wire."""

    at: float  # as a share of the whole
    to: int

    def __call__(self, content: bytes) -> bytes:
        changed = bytearray(content)
        if changed:
            changed[min(int(self.at * len(changed)), len(changed) - 1)] = self.to
        return bytes(changed)


CHANGES: st.SearchStrategy[list[Change]] = st.one_of(
    st.just([]),
    st.lists(st.builds(Change, st.floats(0, 1), st.integers(0, 255)), max_size=3),
)


def changed(content: bytes, changes: list[Change]) -> bytes:
    """Return content with some of its bytes changed."""
    for change in changes:
        content = change(content)
    return content


# AMQP 0-9-1


class RawProperties(spec.Basic.Properties):
    """Properties as bytes that the client itself would never send."""

    def __init__(self, flags: int, content: bytes) -> None:
        super().__init__(message_id="m")
        self.raw = struct.pack(">H", flags) + content

    def marshal(self) -> bytes:
        return self.raw


@dataclass(frozen=True)
class AmqpMessage:
    """A message to RabbitMQ."""

    flags: int
    content: bytes
    body: bytes

    @property
    def properties(self) -> spec.Basic.Properties:
        return RawProperties(self.flags, self.content)


def _long(content: bytes, lie: int = 0) -> bytes:
    return struct.pack(">I", max(0, len(content) + lie)) + content


def _short(content: bytes) -> bytes:
    return bytes((min(len(content), 255),)) + content[:255]


def _table(entries: list[tuple[bytes, bytes]], lie: int = 0) -> bytes:
    return _long(b"".join(_short(name) + value for name, value in entries), lie)


def _nested(depth: int, kind: bytes) -> bytes:
    """Return a value that holds a value that holds a value …"""
    value = b"S" + _long(b"deep")
    for _ in range(depth):
        content = value if kind == b"A" else _short(b"n") + value
        value = kind + _long(content)
        if len(value) > 100_000:
            break
    return value


_FIXED = {
    **dict.fromkeys(b"tbB", 1),
    **dict.fromkeys(b"su", 2),
    **dict.fromkeys(b"Iif", 4),
    ord("D"): 5,
    **dict.fromkeys(b"lLdT", 8),
    ord("V"): 0,
}
_LIES = st.one_of(st.just(0), st.integers(-4, 70_000))
_FLAT = st.one_of(
    st.binary(max_size=50).map(lambda text: b"S" + _long(text)),
    st.binary(max_size=50).map(lambda data: b"x" + _long(data)),
    st.binary(min_size=8, max_size=8).flatmap(
        lambda data: st.sampled_from(
            [bytes((code,)) + data[:size] for code, size in _FIXED.items()]
        )
    ),
    st.integers(0, 255).map(lambda code: bytes((code,)) + b"\x00" * 4),
    st.builds(_nested, st.sampled_from([1, 3, 100, 600, 3000]), st.sampled_from([b"F", b"A"])),
    st.integers(1, 30_000).map(lambda count: b"A" + _long(b"t\x01" * count)),
    st.just(b"S" + _long(b"x" * 129_000)),
)
_VALUES = st.recursive(
    _FLAT,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda values: b"A" + _long(b"".join(values))),
        st.builds(
            lambda entries, lie: b"F" + _table(entries, lie),
            st.lists(st.tuples(NAMES, inner), max_size=4),
            _LIES,
        ),
    ),
    max_leaves=6,
)
_HEADERS = st.one_of(
    st.builds(_table, st.lists(st.tuples(NAMES, _VALUES), max_size=6), _LIES),
    st.integers(1, 5_000).map(
        lambda count: _table([(b"h%d" % n, b"S" + _long(b"v")) for n in range(count)])
    ),
)
_SHORT = st.one_of(st.binary(max_size=20), st.binary(min_size=255, max_size=255)).map(_short)
_EIGHT = st.binary(min_size=8, max_size=8)
# In the order of their flags, from the highest bit down.
_PROPERTIES: list[st.SearchStrategy[bytes]] = [
    _SHORT,  # content type
    _SHORT,  # content encoding
    _HEADERS,
    st.sampled_from([b"\x01", b"\x02", b"\xff"]),  # delivery mode
    st.binary(min_size=1, max_size=1),  # priority
    _SHORT,  # correlation id
    _SHORT,  # reply to
    st.sampled_from([_short(b"600000"), _short(b"soon")]),  # expiration
    _SHORT,  # message id
    _EIGHT,  # timestamp
    _SHORT,  # type
    st.just(_short(b"guest")),  # user id
    _SHORT,  # app id
    _SHORT,  # cluster id
]


@st.composite
def amqp_messages(draw: st.DrawFn) -> AmqpMessage:
    """Make messages to RabbitMQ."""
    chosen = draw(st.sets(st.integers(0, len(_PROPERTIES) - 1), max_size=5))
    if draw(st.booleans()):
        chosen |= {2}
    content = b"".join(draw(_PROPERTIES[number]) for number in sorted(chosen))
    flags = sum(1 << (15 - number) for number in chosen) | draw(st.sampled_from([0, 0, 0, 0, 1]))
    return AmqpMessage(flags, changed(content, draw(CHANGES))[:130_000], draw(BODIES))


# Apache Kafka, record batches of format 2


@dataclass(frozen=True)
class KafkaBatch:
    """A batch of records for one partition, as bytes."""

    raw: bytes


def _varint(number: int) -> bytes:
    """Return a number as Kafka writes it: zigzag, seven bits in a byte, the lowest first."""
    zigzag, encoded = number << 1 ^ number >> 63, bytearray()
    while zigzag > 0x7F:
        encoded.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes((*encoded, zigzag))


def _sized(content: bytes | None) -> bytes:
    return _varint(-1) if content is None else _varint(len(content)) + content


def _record(
    number: int,
    key: bytes | None,
    value: bytes | None,
    headers: list[tuple[bytes, bytes | None]],
) -> bytes:
    content = b"\x00" + _varint(0) + _varint(number) + _sized(key) + _sized(value)
    content += _varint(len(headers))
    content += b"".join(_sized(name) + _sized(text) for name, text in headers)
    return _sized(content)


_COMPRESS: dict[int, Any] = {
    0: bytes,
    1: gzip.compress,
    2: aiokafka.codec.snappy_encode,
    3: aiokafka.codec.lz4_encode,
    4: aiokafka.codec.zstd_encode,
}
_OPTIONAL = st.one_of(st.none(), st.binary(max_size=50))
_KAFKA_VALUES = st.one_of(
    st.none(), BODIES, st.sampled_from([900_000, 1_500_000, 5_000_000]).map(bytes)
)
_KAFKA_HEADERS: st.SearchStrategy[list[tuple[bytes, bytes | None]]] = st.one_of(
    st.lists(st.tuples(NAMES, _OPTIONAL), max_size=6),
    st.integers(1, 10_000).map(lambda count: [(b"h", b"v")] * count),
)


@st.composite
def kafka_batches(draw: st.DrawFn) -> KafkaBatch:
    """Make record batches."""
    codec = draw(st.sampled_from(list(_COMPRESS)))
    count = draw(st.integers(1, 4))
    records = b"".join(
        _record(number, draw(_OPTIONAL), draw(_KAFKA_VALUES), draw(_KAFKA_HEADERS))
        for number in range(count)
    )
    if draw(st.booleans()):
        records = changed(records, draw(CHANGES))
    compressed = _COMPRESS[codec](records)
    if draw(st.booleans()):
        compressed = changed(compressed, draw(CHANGES))
    now = 1_700_000_000_000
    checked = struct.pack(
        ">hiqqqhii",
        draw(st.sampled_from([codec, codec, codec, codec | 1 << 7])),
        count - 1,
        draw(st.sampled_from([now, now, -1, 0])),
        now,
        -1,
        -1,
        -1,
        count,
    )
    checked += compressed
    head = struct.pack(">ibI", -1, 2, calc_crc32c(checked))
    return KafkaBatch(struct.pack(">qi", 0, len(head) + len(checked)) + head + checked)
