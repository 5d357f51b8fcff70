"""The settings as a whole: `MessagingSettings`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar, overload

from pydantic import AliasGenerator, BaseModel, BeforeValidator, Field, PrivateAttr
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.settings.models import (
    GuardrailSettings,
    KafkaSettings,
    ListenerOverride,
    ListenerSettings,
    MemorySettings,
    RabbitSettings,
    ShutdownSettings,
    StartupSettings,
)
from pyfly_messaging.settings.models.base import frozen, kebab, quiet
from pyfly_messaging.settings.models.types import Deadline, Kind
from pyfly_messaging.settings.provider import BUILT_IN, is_provider, providers

# What loads is imported by the first load: who only imports this package does not pay for it.
if TYPE_CHECKING:
    from pyfly_messaging.settings.diagnostics import Diagnostic
    from pyfly_messaging.settings.inputs import StrPath
    from pyfly_messaging.settings.judgement import Loaded
    from pyfly_messaging.settings.origins import Origin, Provenance

SectionT = TypeVar("SectionT", bound=BaseModel)


def _provider(value: object) -> object:
    if isinstance(value, str) and is_provider(value):
        return value
    raise PydanticCustomError(
        "provider",
        "expected one of: {known}",
        {"known": ", ".join(providers()), "providers": providers()},
    )


_PROVIDER = Kind(
    f"one of: {', '.join(BUILT_IN)}, or the name of an installed adapter",
    {"type": "string"},
    as_written=True,
)


class MessagingSettings(BaseSettings):
    """All settings of the library, loaded and checked.

    ``MessagingSettings()`` reads, the highest precedence first: keyword arguments, the environment
    (``PYFLY_MESSAGING__…``), ``.env``, the directory ``PYFLY_SECRETS_DIR``, the files of the active
    profiles (``PYFLY_PROFILES_ACTIVE``) and ``pyfly.yaml`` (``PYFLY_CONFIG``, else in ``config/``,
    else in the working directory). All durations are seconds.

    Raises:
        ConfigurationError: Anything is wrong. ``str()`` is the whole report, ``.diagnostics`` the
            list; neither holds a secret.

    """

    model_config = SettingsConfigDict(
        env_prefix="PYFLY_MESSAGING__",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        validate_default=False,
        hide_input_in_errors=True,
        defer_build=True,
        alias_generator=AliasGenerator(serialization_alias=kebab),
    )

    provider: Annotated[str, BeforeValidator(_provider), _PROVIDER] = Field(
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

    _loaded: Any = PrivateAttr(default=None)

    def __init__(self, **values: Any) -> None:
        from pyfly_messaging.settings.judgement import judge
        from pyfly_messaging.settings.sources import begin

        load = begin(type(self), values)
        if load.settings_cls is not type(self):
            # The sections of adapters by others are fields of a class that was made for them.
            object.__setattr__(self, "__class__", load.settings_cls)
        with load.validating():
            super().__init__(**load.arguments)
        self._loaded = judge(self, load)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in type(self).model_fields:
            raise frozen(type(self).__name__, name)
        super().__setattr__(name, value)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        return quiet(super().__repr_args__())

    @classmethod
    def load(
        cls,
        path: StrPath | None = None,
        profiles: Sequence[str] | None = None,
        environ: Mapping[str, str] | None = None,
        **overrides: Any,
    ) -> Self:
        """Load with explicit inputs; what is not given is found as ``MessagingSettings()`` does.

        Args:
            path: The file, instead of ``PYFLY_CONFIG`` and the usual places.
            profiles: The active profiles, instead of ``PYFLY_PROFILES_ACTIVE``.
            environ: The environment, instead of the process's own.
            **overrides: Settings that win over everything else.

        Raises:
            ConfigurationError: Anything is wrong.

        """
        from pyfly_messaging.settings.inputs import current_inputs, reading, with_changes

        names = None if profiles is None else tuple(profiles)
        with reading(with_changes(current_inputs(), path=path, profiles=names, environ=environ)):
            return cls(**overrides)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources, the highest precedence first.

        A subclass may put its own before, after or in between. Those of pydantic-settings itself
        are not used: they cannot say where a value comes from.
        """
        from pyfly_messaging.settings.sources import layer_sources

        return layer_sources(settings_cls)

    def timeouts(self) -> Timeouts:
        """Return the deadlines of the broker, in seconds."""
        return Timeouts(
            publish=self.publish_timeout,
            startup=self.startup.timeout,
            shutdown=self.shutdown.timeout,
        )

    def override_for(self, name: str) -> ListenerOverride | None:
        """Return what is set for one listener. Case, ``-`` and ``_`` in names do not count."""
        from pyfly_messaging.settings.catalogue import canonical_name

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
        sections = {
            name: value
            for name in type(self).model_fields
            if isinstance(value := getattr(self, name, None), BaseModel)
        }
        for name, value in sections.items():
            if name == which.replace("-", "_") if isinstance(which, str) else type(value) is which:
                return value
        label = which if isinstance(which, str) else which.__name__
        raise LookupError(f"there is no section {label}; there are {', '.join(sections)}")

    def origin(self, setting: str) -> Origin:
        """Return where a setting's value comes from, by its dotted name (``kafka.client-id``).

        Raises:
            LookupError: There is no such setting.

        """
        from pyfly_messaging.settings.explain import setting_path

        return self.provenance.effective(setting_path(setting, type(self)))

    @property
    def provenance(self) -> Provenance:
        """For each setting, the values that were given for it. Secrets are masked."""
        return self._result.provenance

    @property
    def notes(self) -> tuple[Diagnostic, ...]:
        """The warnings and notes of the load."""
        return self._result.notes

    @property
    def profiles(self) -> tuple[str, ...]:
        """The profiles that were active."""
        return self._result.profiles

    @property
    def _result(self) -> Loaded:
        from pyfly_messaging.settings.judgement import Loaded

        # Nothing is known about what `model_construct` made.
        return self._loaded if isinstance(self._loaded, Loaded) else Loaded()
