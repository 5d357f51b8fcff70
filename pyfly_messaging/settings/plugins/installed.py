"""The adapters of others that are installed: found by their entry points, imported when asked for.

Nothing here runs as long as every provider and every section that is named is one of ours.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint
from typing import Any

from pydantic_settings import BaseSettings

from pyfly_messaging.errors import ConfigurationError
from pyfly_messaging.ports import MessageBrokerPort
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic
from pyfly_messaging.settings.diagnostics.origins import Origin
from pyfly_messaging.settings.models.provider import (
    BUILT_IN,
    entry_point_names,
    entry_points_by_name,
)
from pyfly_messaging.settings.models.whole import WholeSettings
from pyfly_messaging.settings.plugins.plugin import AdapterPlugin
from pyfly_messaging.settings.text.secrets import mask_url

log = logging.getLogger("pyfly_messaging.settings")

CODE = "CFG218"
_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_OF_A_LOAD = {"load", "notes", "origin", "profiles", "provenance"}
"""What `MessagingSettings`, which stands above this module, adds; a test holds it complete."""


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

    def diagnostic(self, setting: str = "", origin: Origin | None = None) -> Diagnostic:
        """Return the problem, with the setting that asked for the adapter and its place."""
        return Diagnostic(
            code=CODE,
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


def field_name(name: str) -> str:
    """Return the name of an adapter as that of a field: ``my-broker`` is ``my_broker``."""
    return name.replace("-", "_").lower()


def adapters(names: Iterable[str] | None = None) -> tuple[Adapter, ...]:
    """Return the installed adapters with one of these names, however they are spelled; or all.

    One that cannot be imported, or is none, says so in its ``problem``; one whose name is taken by
    this library is left out (see `clashes`).
    """
    wanted = None if names is None else {field_name(name) for name in names}
    taken = {point.name for point in _clashing()}
    return tuple(
        _adapter(name)
        for name in entry_point_names()
        if name not in taken and (wanted is None or field_name(name) in wanted)
    )


def adapter_plugin(name: str) -> AdapterPlugin[Any]:
    """Return an installed adapter.

    Raises:
        UnusableAdapterError: It cannot be used, or there is none of this name.

    """
    points = entry_points_by_name().get(name, ())
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
        reason = mask_url(f"{point.value}: {type(error).__name__}: {error}")
        raise UnusableAdapterError(message, reason[:300], help_) from None
    if not isinstance(loaded, AdapterPlugin):
        reason = f"{point.value} is of the type {type(loaded).__name__}, not an AdapterPlugin"
        raise UnusableAdapterError(message, reason, help_)
    return loaded


def check_broker(name: str, broker: object) -> None:
    """Refuse what an adapter has built if it is no broker.

    Raises:
        UnusableAdapterError: It lacks a method of the port.

    """
    if not isinstance(broker, MessageBrokerPort):
        owners = " and ".join(distribution(point) for point in entry_points_by_name()[name])
        raise UnusableAdapterError(
            f"the adapter {name!r} of {owners} cannot be used",
            f"its build gave {type(broker).__name__}, which is no MessageBrokerPort",
            f"repair or uninstall {owners}, or choose another provider",
        )


def clashes() -> list[UnusableAdapterError]:
    """Return what is wrong with the names of installed adapters: each one that this library uses.

    What such a name means in a configuration is never the adapter of others.
    """
    return [
        UnusableAdapterError(
            f"{distribution(point)} offers an adapter of the impossible name {point.name!r}",
            "this library uses the name itself"
            if _NAME.fullmatch(point.name)
            else "a name has lower-case letters and digits, with '-' or '_' in between",
            f"uninstall {distribution(point)}, and ask its authors for another name",
        )
        for point in _clashing()
    ]


def distribution(point: EntryPoint) -> str:
    """Return the name of the distribution that an entry point belongs to, as people know it."""
    return f"the distribution {point.dist.name}" if point.dist is not None else point.value


def _adapter(name: str) -> Adapter:
    try:
        return Adapter(name, adapter_plugin(name))
    except UnusableAdapterError as problem:
        return Adapter(name, problem=problem)


def _clashing() -> list[EntryPoint]:
    found = [point for points in entry_points_by_name().values() for point in points]
    return [
        point
        for point in found
        if _NAME.fullmatch(point.name) is None or field_name(point.name) in reserved()
    ]


@lru_cache(maxsize=1)
def reserved() -> frozenset[str]:
    """Return the names that are taken: all that `MessagingSettings` has."""
    inherited = {*WholeSettings.model_fields, *dir(WholeSettings), *dir(BaseSettings)}
    return frozenset({*BUILT_IN, *inherited, *_OF_A_LOAD})
