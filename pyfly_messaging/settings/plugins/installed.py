"""The adapters of others that are installed: found by their entry points, imported when asked for.

Nothing here runs as long as every provider and every section that is named is one of ours.
"""

from __future__ import annotations

import traceback
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pyfly_messaging.errors import MessagingError
from pyfly_messaging.logs import get_logger, raw_text_of, text_of
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.ports import MessageBrokerPort
from pyfly_messaging.settings.models.provider import entry_point_names, entry_points_by_name
from pyfly_messaging.settings.plugins.names import (
    can_be_field,
    clashes,
    distribution,
    field_name,
    is_impossible,
)
from pyfly_messaging.settings.plugins.plugin import AdapterPlugin
from pyfly_messaging.settings.plugins.unusable import UnusableAdapterError
from pyfly_messaging.settings.text.secrets import mask_url

log = get_logger("pyfly_messaging.settings")


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter as far as it is known.

    Attributes:
        name: The provider, as the entry point writes it.
        plugin: The adapter, None when it cannot be used.
        problem: Why it cannot be used.

    """

    name: str
    plugin: AdapterPlugin[Any] | None = None
    problem: UnusableAdapterError | None = None

    @property
    def field(self) -> str:
        """The name of its section, as a field."""
        return field_name(self.name)


def adapters(names: Iterable[str] | None = None) -> tuple[Adapter, ...]:
    """Return the installed adapters with one of these names, however they are spelled; or all.

    One that cannot be imported, or is none, says so in its ``problem``. So does one of an
    impossible name that is asked for; among all it is left out, as is always one whose name is
    taken by this library (see `clashes`).
    """
    clashing = {clash.name: clash for clash in clashes()}
    if names is None:
        return tuple(_adapter(name) for name in entry_point_names() if name not in clashing)
    wanted = {field_name(name) for name in names}
    named = [name for name in entry_point_names() if field_name(name) in wanted]
    good = {field_name(name): _adapter(name) for name in named if name not in clashing}
    bad = {
        field_name(name): Adapter(name, problem=clashing[name].problem)
        for name in named
        if name in clashing and can_be_field(name)
    }
    return tuple((bad | good).values())


def adapter_plugin(name: str) -> AdapterPlugin[Any]:
    """Return an installed adapter.

    Raises:
        UnusableAdapterError: It cannot be used, or there is none of this name.

    """
    points = _same_section(name)
    if not points:
        raise UnusableAdapterError(
            f"there is no adapter {name!r}",
            "no installed distribution has an entry point of this name",
            "install the distribution that brings it, or choose another provider",
        )
    owners = " and ".join(sorted(distribution(point) for point in points))
    if len(points) > 1:
        raise UnusableAdapterError(
            f"the adapter {name!r} is offered by {owners}",
            "only one of them can be meant",
            "uninstall all but one of them",
        )
    point, message = points[0], f"the adapter {name!r} of {owners} cannot be used"
    help_ = f"repair or uninstall {owners}, or choose another provider"
    try:
        loaded = point.load()
    except Exception as error:  # what others do at import can be anything
        # The chained error would show the frames of others, with whatever is in them.
        log.debug("importing %s failed", point.value, exc_info=True)
        reason = mask_url(f"{point.value}: {type(error).__name__}: {text_of(error)}")
        raise UnusableAdapterError(message, reason[:300], help_) from None
    if not isinstance(loaded, AdapterPlugin):
        reason = f"{point.value} is of the type {type(loaded).__name__}, not an AdapterPlugin"
        raise UnusableAdapterError(message, reason, help_)
    return loaded


def build(
    name: str,
    section: BaseModel,
    timeouts: Timeouts,
    policy: ListenerPolicy,
    hidden: Collection[str] = (),
) -> MessageBrokerPort:
    """Return the broker that an installed adapter builds.

    Args:
        name: The adapter.
        section: Its settings.
        timeouts: Of publish, start and stop.
        policy: Of subscriptions that come without one.
        hidden: What must not be shown, and may be in the text of an error.

    Raises:
        UnusableAdapterError: It fails, or what it gives lacks a method of the port.
        MessagingError: What the adapter itself has to say.

    """
    plugin = adapter_plugin(name)
    try:
        broker: object = plugin.build(section, timeouts=timeouts, policy=policy)
    except MessagingError:
        raise
    except Exception as error:  # noqa: BLE001 - what others do can be anything
        # The chained error would show the frames of others, with whatever is in them.
        raise _build_failed(name, error, hidden) from None
    if not isinstance(broker, MessageBrokerPort):
        what = f"its build gave {type(broker).__name__}, which is no MessageBrokerPort"
        raise _unusable(name, what)
    return broker


def _build_failed(name: str, error: Exception, hidden: Collection[str]) -> UnusableAdapterError:
    frames = traceback.extract_tb(error.__traceback__)
    places = (f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
    log.debug("building %s failed: %s", name, ", ".join(places))
    text, kind = mask_url(text_of(error)), type(error).__name__
    said = raw_text_of(error).lower()
    repeats = any(secret.lower() in said for secret in hidden)
    reason = kind if repeats or not text else f"{kind}: {text[:300]}"
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})"
    return _unusable(name, f"its build failed with {reason}{place}")


def _unusable(name: str, reason: str) -> UnusableAdapterError:
    owners = " and ".join(sorted(distribution(point) for point in _same_section(name)))
    return UnusableAdapterError(
        f"the adapter {name!r} of {owners} cannot be used",
        reason,
        f"repair or uninstall {owners}, or choose another provider",
    )


def problem_of(name: str) -> UnusableAdapterError | None:
    """Return why an installed adapter cannot be used, None when it can."""
    for clash in clashes():
        if clash.name == name:
            return clash.problem
    return _adapter(name).problem


def _adapter(name: str) -> Adapter:
    try:
        return Adapter(name, adapter_plugin(name))
    except UnusableAdapterError as problem:
        return Adapter(name, problem=problem)


def _same_section(name: str) -> list[EntryPoint]:
    """Return the entry points with the section of a name, each object once."""
    found: dict[str, EntryPoint] = {}
    if name in entry_points_by_name():
        for other, points in entry_points_by_name().items():
            if field_name(other) == field_name(name) and not is_impossible(other):
                found |= {f"{distribution(point)} {point.value}": point for point in points}
    return list(found.values())
