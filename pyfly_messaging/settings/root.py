"""The settings as a whole: `MessagingSettings`, which loads itself.

All of `settings` meets here. What loads is imported by the first load, though: who only imports
this package does not pay for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

from pydantic import PrivateAttr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pyfly_messaging.settings.models.whole import WholeSettings

if TYPE_CHECKING:
    from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic
    from pyfly_messaging.settings.diagnostics.origins import Origin, Provenance
    from pyfly_messaging.settings.sources.inputs import StrPath
    from pyfly_messaging.settings.validation.judge import Loaded


class MessagingSettings(WholeSettings, BaseSettings):
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
        # Of its bases, pydantic takes the last one's word: what BaseSettings changes is set again.
        validate_default=False,
    )

    _loaded: Any = PrivateAttr(default=None)

    def __init__(self, **values: Any) -> None:
        from pyfly_messaging.settings.loading import begin
        from pyfly_messaging.settings.text.suggest import bounded
        from pyfly_messaging.settings.validation.judge import judge

        with bounded():
            load = begin(type(self), values)
            # The sections of adapters by others are fields of a class that is made for the load.
            extended = cast("type[Self]", load.settings_cls)
            whole = self if extended is type(self) else extended.__new__(extended)
            with load.validating():
                super(MessagingSettings, whole).__init__(**load.arguments)
            loaded = judge(whole, load)
        if whole is not self:
            self._take(whole)
        self._loaded = loaded

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
        from pyfly_messaging.settings.sources.inputs import current_inputs, with_changes

        names = None if profiles is None else tuple(profiles)
        inputs = overrides.pop("_inputs", None) or current_inputs()
        inputs = with_changes(inputs, path=path, profiles=names, environ=environ)
        return cls(_inputs=inputs, **overrides)

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
        from pyfly_messaging.settings.loading import layer_sources

        return layer_sources(settings_cls, getattr(dotenv_settings, "env_file", None))

    def origin(self, setting: str) -> Origin:
        """Return where a setting's value comes from, by its dotted name (``kafka.client-id``).

        Raises:
            LookupError: There is no such setting.

        """
        from pyfly_messaging.settings.catalogue.lookup import setting_path
        from pyfly_messaging.settings.plugins.extension import describing

        return self.provenance.effective(setting_path(setting, describing(self)))

    def _take(self, whole: MessagingSettings) -> None:
        """Take over what was validated; the sections of others are no fields here."""
        own, given = type(self).model_fields, whole.model_fields_set
        others = {name: value for name, value in vars(whole).items() if name not in own}
        values = {name: value for name, value in vars(whole).items() if name in own}
        object.__setattr__(self, "__dict__", values)
        object.__setattr__(self, "__pydantic_fields_set__", given - others.keys())
        object.__setattr__(self, "__pydantic_extra__", whole.__pydantic_extra__)
        object.__setattr__(self, "__pydantic_private__", whole.__pydantic_private__)
        self._others = others

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
        from pyfly_messaging.settings.validation.judge import Loaded

        # Nothing is known about what `model_construct` made.
        return self._loaded if isinstance(self._loaded, Loaded) else Loaded()
