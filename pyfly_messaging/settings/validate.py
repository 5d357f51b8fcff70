"""Validation without an exception: for ``config validate`` and for tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyfly_messaging.errors import ConfigurationError
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic
from pyfly_messaging.settings.root import MessagingSettings
from pyfly_messaging.settings.sources.inputs import StrPath, current_inputs


@dataclass(frozen=True, slots=True)
class Validation:
    """The result of a validation.

    Attributes:
        settings: The settings, None when there is an error.
        diagnostics: Everything found, warnings and notes included.

    """

    settings: MessagingSettings | None
    diagnostics: tuple[Diagnostic, ...]

    @property
    def ok(self) -> bool:
        """Whether the configuration can be used."""
        return self.settings is not None

    def render(self, *, colour: bool = False) -> str:
        """Return the report as text; colour is for terminals only."""
        from pyfly_messaging.settings.diagnostics.report import render_report

        return render_report(self.diagnostics, colour=colour)

    def to_json(self) -> str:
        """Return the report as JSON."""
        from pyfly_messaging.settings.diagnostics.report import report_json

        return report_json(self.diagnostics)


def validate(
    path: StrPath | None = None,
    profiles: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    settings_cls: type[MessagingSettings] = MessagingSettings,
    **overrides: Any,
) -> Validation:
    """Load and check a configuration as `MessagingSettings.load` does, without raising or logging.

    Nothing is connected.
    """
    inputs = replace(current_inputs(), log=False)
    try:
        settings = settings_cls.load(path, profiles, environ, _inputs=inputs, **overrides)
    except ConfigurationError as error:
        return Validation(None, error.diagnostics)
    return Validation(settings, settings.notes)
