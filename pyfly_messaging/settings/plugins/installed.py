"""The adapters of others that are installed: found by their entry points, imported when asked for.

Also the names that none can have, and what is said about one that cannot be used. Nothing here
runs as long as every provider and every section that is named is one of ours.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_settings import BaseSettings

from pyfly_messaging.errors import ConfigurationError, MessagingError
from pyfly_messaging.logs import get_logger, raw_text_of, text_of
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.ports import MessageBrokerPort
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic, Severity
from pyfly_messaging.settings.diagnostics.origins import Origin
from pyfly_messaging.settings.models.provider import (
    BUILT_IN,
    entry_point_names,
    entry_points_by_name,
)
from pyfly_messaging.settings.models.whole import WholeSettings
from pyfly_messaging.settings.plugins.plugin import AdapterPlugin
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


CODE = "CFG218"


class UnusableAdapterError(Exception):
    """An entry point that no adapter can be had from.

    Attributes:
        message: Which adapter, of which distribution.
        reason: Why.
        help: What to do.

    """

    def __init__(self, message: str, reason: str, help_: str) -> None:
        super().__init__(f"{message}: {reason}")
        self.message = message
        self.reason = reason
        self.help = help_

    def diagnostic(
        self, setting: str = "", origin: Origin | None = None, severity: Severity = "error"
    ) -> Diagnostic:
        """Return the problem, with the setting that asked for the adapter and its place."""
        return Diagnostic(
            code=CODE,
            severity=severity,
            message=self.message,
            setting=setting,
            origin=origin,
            label=self.reason,
            help=self.help,
        )

    def error(self, origin: Origin) -> ConfigurationError:
        """Return the problem as an error of its own, of a provider that was set somewhere."""
        from pyfly_messaging.settings.diagnostics.report import render_report

        found = [self.diagnostic("pyfly.messaging.provider", origin)]
        return ConfigurationError(render_report(found), found)
