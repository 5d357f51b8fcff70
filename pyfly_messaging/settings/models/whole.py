"""All sections under one root, as plain values: what `MessagingSettings` loads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, TypeVar, overload

from pydantic import AliasGenerator, BaseModel, ConfigDict, Field, PrivateAttr

from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.settings.models.base import Concealed, frozen, quiet
from pyfly_messaging.settings.models.guardrails import GuardrailSettings
from pyfly_messaging.settings.models.kafka import KafkaSettings
from pyfly_messaging.settings.models.lifecycle import (
    MemorySettings,
    ShutdownSettings,
    StartupSettings,
)
from pyfly_messaging.settings.models.listener import ListenerOverride, ListenerSettings
from pyfly_messaging.settings.models.provider import Provider
from pyfly_messaging.settings.models.rabbitmq import RabbitSettings
from pyfly_messaging.settings.models.types import Deadline
from pyfly_messaging.settings.text.names import canonical_name, kebab

SectionT = TypeVar("SectionT", bound=BaseModel)


class WholeSettings(BaseModel):
    """All settings of the library, wherever they come from. All durations are seconds.

    It knows nothing of files and variables, so that what loads and checks can depend on it, and
    `MessagingSettings`, which loads itself, on them.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        defer_build=True,
        alias_generator=AliasGenerator(serialization_alias=kebab),
    )

    provider: Provider = Field(
        default="memory", description="Which broker carries the messages; auto: what is installed."
    )
    publish_timeout: Deadline = Field(
        default=30.0, description="A publish that is not confirmed by then raises."
    )
    startup: StartupSettings = Field(
        default_factory=StartupSettings, description="How a broker starts."
    )
    shutdown: ShutdownSettings = Field(
        default_factory=ShutdownSettings, description="How the broker stops."
    )
    listener: ListenerSettings = Field(
        default_factory=ListenerSettings, description="The defaults for all listeners."
    )
    listeners: dict[str, ListenerOverride] = Field(
        default_factory=dict, description="What an operator sets for one listener, by its name."
    )
    kafka: KafkaSettings = Field(
        default_factory=KafkaSettings,
        description="How to reach Apache Kafka, and with which guarantees.",
    )
    rabbitmq: RabbitSettings = Field(
        default_factory=RabbitSettings,
        description="How to reach RabbitMQ, and with which guarantees.",
    )
    memory: MemorySettings = Field(
        default_factory=MemorySettings, description="The broker in memory."
    )
    guardrails: GuardrailSettings = Field(
        default_factory=GuardrailSettings,
        description="Exceptions from what the profile production does not allow.",
    )

    _concealed: Concealed = PrivateAttr(default_factory=Concealed)
    _others: dict[str, Any] = PrivateAttr(default_factory=dict)
    """The sections of adapters by others."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in type(self).model_fields:
            raise frozen(type(self).__name__, name)
        super().__setattr__(name, value)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        return quiet(chain(super().__repr_args__(), self._others.items()), self._concealed)

    def timeouts(self) -> Timeouts:
        """Return the deadlines of the broker, in seconds."""
        return Timeouts(
            publish=self.publish_timeout,
            startup=self.startup.timeout,
            shutdown=self.shutdown.timeout,
        )

    def override_for(self, name: str) -> ListenerOverride | None:
        """Return what is set for one listener. Case, ``-`` and ``_`` in names do not count."""
        return self.listeners.get(canonical_name(name))

    def policy_for(self, name: str, topic: str, overrides: Mapping[str, object]) -> ListenerPolicy:
        """Return the policy of a listener.

        From lowest to highest: the built-in default, ``listener:``, the arguments of the decorator
        (``overrides``), ``listeners: <name>:`` (only what is really set there).

        Raises:
            TypeError: An override has an unknown name or the wrong type.
            ValueError: An override is out of range, or the dead-letter topic is ``topic`` itself.

        """
        changes: dict[str, Any] = dict(overrides)
        if (override := self.override_for(name)) is not None:
            changes |= override.changes()
        policy = self.listener.policy().replace(**changes)
        policy.dead_letter_topic_for(topic)
        return policy

    @overload
    def section(self, which: type[SectionT]) -> SectionT: ...

    @overload
    def section(self, which: str) -> BaseModel: ...

    def section(self, which: str | type[BaseModel]) -> BaseModel:
        """Return a section by its name (``kafka``) or, so that a type checker knows it, its model.

        An installed adapter has a section when it is the provider, or when its section is given.

        Raises:
            LookupError: There is no such section.

        """
        own = ((name, getattr(self, name, None)) for name in type(self).model_fields)
        sections = {
            name: value
            for name, value in chain(own, self._others.items())
            if isinstance(value, BaseModel)
        }
        for name, value in sections.items():
            if name == which.replace("-", "_") if isinstance(which, str) else type(value) is which:
                return value
        label = which if isinstance(which, str) else which.__name__
        raise LookupError(f"there is no section {label}; there are {', '.join(sections)}")
