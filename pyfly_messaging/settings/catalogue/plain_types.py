"""The types of single values that the sections of others have, in words and with an example."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import PurePath
from re import Pattern
from typing import Any, get_origin
from uuid import UUID

from pydantic import ByteSize

from pyfly_messaging.settings.text.plain import is_url_type


@dataclass(frozen=True, slots=True)
class PlainType:
    """What a type is for people.

    Attributes:
        label: In words.
        example: A value as it is written in a file.
        as_written: Whether a scalar counts as it is written, whatever YAML would make of it.

    """

    label: str
    example: str
    as_written: bool = True


_URL = PlainType("URL", "https://host:443/path")
_PATH = PlainType("path", "/var/lib/app")
_ADDRESS = PlainType("IP address", "192.0.2.1")
_NETWORK = PlainType("IP network", "192.0.2.0/24")
_INTERFACE = PlainType("IP interface", "192.0.2.1/24")
_TYPES: dict[Any, PlainType] = {
    bool: PlainType("true or false", "true", as_written=False),
    ByteSize: PlainType("size in bytes", "10MiB"),
    int: PlainType("whole number", "1", as_written=False),
    float: PlainType("number", "1.5", as_written=False),
    str: PlainType("text", "text"),
    bytes: PlainType("text", "text"),
    timedelta: PlainType("duration", "10s", as_written=False),
    datetime: PlainType("date and time", "2030-01-31T12:00:00Z"),
    date: PlainType("date", "2030-01-31"),
    time: PlainType("time of day", "12:00:00"),
    Decimal: PlainType("decimal number", "0.1"),
    UUID: PlainType("UUID", "123e4567-e89b-12d3-a456-426614174000"),
    IPv4Address: _ADDRESS,
    IPv6Address: _ADDRESS,
    IPv4Network: _NETWORK,
    IPv6Network: _NETWORK,
    IPv4Interface: _INTERFACE,
    IPv6Interface: _INTERFACE,
    Pattern: PlainType("regular expression", '"[a-z]+"'),
}


def plain_type(base: Any) -> PlainType | None:
    """Return what a type of single values is for people, None for any other type."""
    cls = get_origin(base) or base
    if not isinstance(cls, type):
        return None
    if is_url_type(cls):
        return _URL
    return _PATH if issubclass(cls, PurePath) else _TYPES.get(cls)
