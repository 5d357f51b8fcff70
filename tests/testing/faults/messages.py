"""Faults of what is carried."""

from .base import Fault, Headers, Outgoing


class DropsHeaders(Fault):
    """Carries no headers."""

    def outgoing(self, value: bytes, key: bytes | None, headers: Headers) -> Outgoing:
        return value, key, None


class TakesValuesForText(Fault):
    """Decodes and encodes values, whatever they are."""

    def outgoing(self, value: object, key: bytes | None, headers: Headers) -> Outgoing:
        text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        return text.encode(), key, headers


class TakesEmptyForNone(Fault):
    """Takes an empty key for none."""

    def outgoing(self, value: bytes, key: bytes | None, headers: Headers) -> Outgoing:
        return value, key or None, headers
