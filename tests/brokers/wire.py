"""The few bytes of the Kafka and AMQP protocols by which a server says that it is ready.

The tests ask without a client library, so that a broker's readiness never depends on the code that
is tested against it.
"""

import socket
import ssl
import struct

_TIMEOUT = 5.0
_METADATA, _FIND_COORDINATOR, _API_VERSIONS = 3, 10, 18


def kafka_brokers(host: str, port: int) -> set[int]:
    """Return the ids of the brokers that are alive, as one of them sees it."""
    answer = _Reader(_ask_kafka(host, port, _METADATA, 1, struct.pack(">i", 0)))
    brokers: set[int] = set()
    for _ in range(answer.number(">i")):
        brokers.add(answer.number(">i"))
        answer.skip(answer.number(">h"))
        answer.skip(4)
        answer.skip(max(0, answer.number(">h")))
    return brokers


def kafka_coordinates(host: str, port: int) -> bool:
    """Whether the cluster can tell the coordinator of a consumer group.

    The first such question makes Kafka create the topic in which it keeps the offsets.
    """
    answer = _Reader(_ask_kafka(host, port, _FIND_COORDINATOR, 0, _text("readiness")))
    return answer.number(">h") == 0


def kafka_metadata_version(host: str, port: int) -> int | None:
    """Return the level of the feature `metadata.version`, the nearest Kafka has to a version."""
    body = _compact("tests") + _compact("1") + b"\0"
    answer = _Reader(_ask_kafka(host, port, _API_VERSIONS, 3, body))
    if answer.number(">h") != 0:
        return None
    for _ in range(answer.varint() - 1):
        answer.skip(7)
    answer.skip(4)
    for _ in range(answer.varint()):
        tag, size = answer.varint(), answer.varint()
        field = _Reader(answer.take(size))
        if tag != 2:
            continue
        for _ in range(field.varint() - 1):
            name = field.take(field.varint() - 1).decode()
            level = field.number(">h")
            field.skip(3)
            if name == "metadata.version":
                return level
    return None


def rabbitmq_version(host: str, port: int, tls: ssl.SSLContext | None = None) -> str:
    """Return the version that the server puts into its greeting.

    Raises OSError when nothing answers, and ValueError when something other than AMQP does.
    """
    with socket.create_connection((host, port), _TIMEOUT) as plain:
        plain.settimeout(_TIMEOUT)
        if tls is None:
            return _greeting(plain)
        with tls.wrap_socket(plain, server_hostname=host) as secured:
            return _greeting(secured)


def _greeting(connection: socket.socket) -> str:
    connection.sendall(b"AMQP\x00\x00\x09\x01")
    kind, _channel, size = struct.unpack(">BHI", _receive(connection, 7))
    frame = _Reader(_receive(connection, size + 1))
    if kind != 1 or frame.take(4) != b"\x00\x0a\x00\x0a":
        raise ValueError("the answer is not AMQP's Connection.Start")
    frame.skip(2)
    return frame.table().get("version", "unknown")


def _ask_kafka(host: str, port: int, api: int, version: int, body: bytes) -> bytes:
    header = struct.pack(">hhi", api, version, 1) + _text("tests")
    if api == _API_VERSIONS:
        header += b"\0"
    with socket.create_connection((host, port), _TIMEOUT) as connection:
        connection.settimeout(_TIMEOUT)
        connection.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
        (size,) = struct.unpack(">i", _receive(connection, 4))
        return _receive(connection, size)[4:]


def _receive(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        chunk = connection.recv(size - len(received))
        if not chunk:
            raise ConnectionResetError("the server closed the connection")
        received += chunk
    return received


def _text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


def _compact(value: str) -> bytes:
    return bytes([len(value) + 1]) + value.encode()


class _Reader:
    """Takes values off the front of a message."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        if self._at + size > len(self._data):
            raise ValueError("the answer is shorter than it says")
        self._at += size
        return self._data[self._at - size : self._at]

    def skip(self, size: int) -> None:
        self.take(size)

    def number(self, form: str) -> int:
        (value,) = struct.unpack(form, self.take(struct.calcsize(form)))
        assert isinstance(value, int)
        return value

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.number(">B")
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def table(self) -> dict[str, str]:
        """Return the texts of an AMQP table; RabbitMQ's greeting has texts, tables and booleans."""
        end = self.number(">I") + self._at
        texts: dict[str, str] = {}
        while self._at < end:
            name = self.take(self.number(">B")).decode()
            kind = self.take(1)
            if kind == b"S":
                texts[name] = self.take(self.number(">I")).decode()
            elif kind == b"F":
                self.skip(self.number(">I"))
            elif kind == b"t":
                self.skip(1)
            else:
                raise ValueError(f"unexpected type {kind!r} in the server's properties")
        return texts
