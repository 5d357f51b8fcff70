"""The names of adapters of others: those that none can have, and what follows from a name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint

from pydantic_settings import BaseSettings

from pyfly_messaging.settings.models.provider import BUILT_IN, entry_points_by_name
from pyfly_messaging.settings.models.whole import WholeSettings
from pyfly_messaging.settings.plugins.unusable import UnusableAdapterError

_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_OF_A_LOAD = {"load", "notes", "origin", "profiles", "provenance"}
"""What `MessagingSettings`, which stands above this module, adds; a test holds it complete."""


@dataclass(frozen=True, slots=True)
class Clash:
    """An installed adapter of a name that none can have.

    What such a name means in a configuration is never the adapter of others.

    Attributes:
        name: The name.
        problem: What is wrong with it.

    """

    name: str
    problem: UnusableAdapterError


def clashes() -> list[Clash]:
    """Return the installed adapters of impossible names: taken by this library, or no names."""
    found = [point for points in entry_points_by_name().values() for point in points]
    return [Clash(point.name, _clash(point)) for point in found if is_impossible(point.name)]


def usable_entry_points() -> list[EntryPoint]:
    """Return the entry points that can be providers, without importing anything of them."""
    found = [point for points in entry_points_by_name().values() for point in points]
    return [point for point in found if not is_impossible(point.name)]


def field_name(name: str) -> str:
    """Return the name of an adapter as that of a field: ``my-broker`` is ``my_broker``."""
    return name.replace("-", "_").lower()


def distribution(point: EntryPoint) -> str:
    """Return the name of the distribution that an entry point belongs to, as people know it."""
    return f"the distribution {point.dist.name}" if point.dist is not None else point.value


def is_impossible(name: str) -> bool:
    """Tell whether no adapter can have a name."""
    return _NAME.fullmatch(name) is None or field_name(name) in reserved()


def can_be_field(name: str) -> bool:
    """Tell whether a section of this name could stand among the settings."""
    field = field_name(name)
    return field.isidentifier() and not field.startswith("_") and field not in reserved()


def _clash(point: EntryPoint) -> UnusableAdapterError:
    return UnusableAdapterError(
        f"{distribution(point)} offers an adapter of the impossible name {point.name!r}",
        "this library uses the name itself"
        if _NAME.fullmatch(point.name)
        else "a name has lower-case letters and digits, with '-' or '_' in between",
        f"uninstall {distribution(point)}, and ask its authors for another name",
    )


@lru_cache(maxsize=1)
def reserved() -> frozenset[str]:
    """Return the names that are taken: all that `MessagingSettings` has."""
    inherited = {*WholeSettings.model_fields, *dir(WholeSettings), *dir(BaseSettings)}
    return frozenset({*BUILT_IN, *inherited, *_OF_A_LOAD})
