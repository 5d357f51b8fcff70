"""What the adapter of another distribution is to this library: its settings, and how it is built.

A distribution offers one by an entry point, whose name is the provider and the section::

    [project.entry-points."pyfly_messaging.adapters"]
    sqlite = "sqlite_adapter:PLUGIN"

``docs/writing-an-adapter.md`` is the guide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from pydantic import BaseModel

from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.ports import MessageBrokerPort

SettingsT = TypeVar("SettingsT", bound=BaseModel)
GivenT_contra = TypeVar("GivenT_contra", bound=BaseModel, contravariant=True)


class BuildsBroker(Protocol[GivenT_contra]):
    """A function, class or method that makes a broker from the settings of its section."""

    def __call__(
        self, settings: GivenT_contra, /, *, timeouts: Timeouts, policy: ListenerPolicy
    ) -> MessageBrokerPort:
        """Return a broker that is not started.

        Args:
            settings: The section ``pyfly: messaging: <name>:``, checked.
            timeouts: Of publish, start and stop.
            policy: Of subscriptions that come without one: the section ``listener:``.

        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterPlugin(Generic[SettingsT]):
    """An adapter of others: the object that an entry point names.

    Attributes:
        settings: The model of its section. A `Section` is the best base for it: frozen, strict
            about unknown keys, and silent about secrets. With a default for every field the
            adapter can be chosen without a section.
        build: Makes the broker.
        description: What the section is for, in one sentence, for ``explain`` and for editors.

    Raises:
        TypeError: ``settings`` is no model, or ``build`` cannot be called.

    """

    settings: type[SettingsT]
    build: BuildsBroker[SettingsT]
    description: str = ""

    def __post_init__(self) -> None:
        if not (isinstance(self.settings, type) and issubclass(self.settings, BaseModel)):
            raise TypeError(f"settings must be a pydantic model, got {self.settings!r:.80}")
        if not callable(self.build):
            raise TypeError(f"build must be callable, got {self.build!r:.80}")
