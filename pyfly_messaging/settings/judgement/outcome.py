"""The verdict on a load: what pydantic refused, and what is wrong between settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel, ValidationError

from pyfly_messaging.errors import ConfigurationError
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic
from pyfly_messaging.settings.diagnostics.origins import Provenance
from pyfly_messaging.settings.diagnostics.report import render_report
from pyfly_messaging.settings.judgement.checks import run_checks
from pyfly_messaging.settings.loading.load import Load
from pyfly_messaging.settings.models.whole import WholeSettings


@dataclass(frozen=True, slots=True)
class Loaded:
    """What stays known about a load once it has succeeded.

    Attributes:
        provenance: Where each value comes from. It does not count when settings are compared.
        notes: Warnings and notes.
        profiles: The active profiles.

    """

    provenance: Provenance = field(default_factory=Provenance)
    notes: tuple[Diagnostic, ...] = field(default=(), compare=False)
    profiles: tuple[str, ...] = field(default=(), compare=False)


def judge(settings: WholeSettings, load: Load) -> Loaded:
    """Complete the diagnostics of a load, log what is no error, and return what stays known.

    Raises:
        ConfigurationError: Anything is wrong.

    """
    whole: WholeSettings | None = settings
    if load.refused is not None:
        whole = _rest(type(settings), load, load.refused)
    if whole is not None and not load.lost:
        run_checks(whole, load)
    found = load.finish()
    load.refused = None
    if load.failed:
        raise ConfigurationError(render_report(found), found)
    load.warn(found)
    return Loaded(load.provenance, tuple(found), load.files.profiles)


def _rest(
    settings_cls: type[WholeSettings], load: Load, refused: ValidationError
) -> WholeSettings | None:
    """Report what was refused; return settings of all the rest, so that it is checked as well."""
    from pyfly_messaging.settings.judgement.refusals import explain_errors, prune

    error: ValidationError | None = refused
    values = load.merged()
    for _ in range(8):
        if error is None:
            break
        values = prune(values, explain_errors(error, load))
        rest = settings_cls.__new__(settings_cls)
        try:
            BaseModel.__init__(rest, **values)
        except ValidationError as again:
            error = again
        else:
            return rest
    return None
