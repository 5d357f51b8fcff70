"""The setting ``provider``: which names it takes, and which one ``auto`` means."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from pyfly_messaging.settings.models.types import Kind

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

BUILT_IN = ("memory", "kafka", "rabbitmq", "auto")
ENTRY_POINTS = "pyfly_messaging.adapters"
CLIENTS = {"kafka": ("aiokafka", "kafka"), "rabbitmq": ("aio_pika", "rabbitmq")}
"""For each provider with a client library: its import name, and the extra that brings it."""


def providers() -> tuple[str, ...]:
    """Return the names that ``provider`` takes: the built-in ones, then those of entry points."""
    return (*BUILT_IN, *(name for name in entry_point_names() if name not in BUILT_IN))


def is_provider(name: str) -> bool:
    """Tell whether ``provider`` takes a name, without a look at entry points for a built-in one."""
    return name in BUILT_IN or name in entry_point_names()


def has_client(package: str) -> bool:
    """Tell whether a client library can be imported, without importing it."""
    from importlib.util import find_spec

    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def choose() -> tuple[str, str]:
    """Return the provider that ``auto`` means here, and why: Kafka, else RabbitMQ, else memory."""
    found = [name for name, (package, _) in CLIENTS.items() if has_client(package)]
    packages = [CLIENTS[name][0] for name in found]
    if not found:
        return "memory", "neither aiokafka nor aio_pika is installed"
    if len(found) > 1:
        return found[0], f"{' and '.join(packages)} are installed, and {packages[0]} comes first"
    return found[0], f"{packages[0]} is installed"


def entry_point_names() -> tuple[str, ...]:
    """Return the names of all entry points for adapters, without importing anything of them."""
    return tuple(entry_points_by_name())


def entry_points_by_name() -> dict[str, tuple[EntryPoint, ...]]:
    """Return the entry points for adapters by their names, in order."""
    return _entry_points(tuple(sys.path))


@lru_cache(maxsize=4)
def _entry_points(path: tuple[str, ...]) -> dict[str, tuple[EntryPoint, ...]]:
    """Look them up, which takes milliseconds, once for each search path of modules."""
    from importlib.metadata import entry_points

    found = sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name)
    return {
        name: tuple(point for point in found if point.name == name)
        for name in dict.fromkeys(point.name for point in found)
    }


def _read(value: object) -> object:
    if isinstance(value, str) and is_provider(value):
        return value
    raise PydanticCustomError(
        "provider",
        "expected one of: {known}",
        {"known": ", ".join(providers()), "providers": providers()},
    )


Provider = Annotated[
    str,
    BeforeValidator(_read),
    Kind(
        f"one of: {', '.join(BUILT_IN)}, or the name of an installed adapter",
        {"type": "string"},
        as_written=True,
    ),
]
