"""The end of a load: what pydantic refused, what is wrong between settings, and the report."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel, ValidationError

from pyfly_messaging.errors import ConfigurationError
from pyfly_messaging.settings.catalogue.display import attribute, value_at
from pyfly_messaging.settings.catalogue.masking import hides
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic
from pyfly_messaging.settings.diagnostics.origins import Entry, Path, Provenance
from pyfly_messaging.settings.diagnostics.report import render_report
from pyfly_messaging.settings.loading import Load
from pyfly_messaging.settings.models.base import Section
from pyfly_messaging.settings.models.whole import WholeSettings
from pyfly_messaging.settings.text.secrets import MASK
from pyfly_messaging.settings.validation.checks import run_checks


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
    _conceal(settings, load)
    return Loaded(load.provenance, tuple(found), load.files.profiles)


def _conceal(settings: WholeSettings, load: Load) -> None:
    """Tell each section which of its values came from a secret: their types do not say it."""
    for path, entries in load.provenance.entries.items():
        if not _is_from_secret(path, entries[0], load):
            continue
        owners = ((value_at(settings, path[:end]), path[end:]) for end in range(len(path)))
        owner, rest = [pair for pair in owners if isinstance(pair[0], WholeSettings | Section)][-1]
        owner._concealed.add((attribute(owner, str(rest[0])), *rest[1:]))


def _is_from_secret(path: Path, entry: Entry, load: Load) -> bool:
    """Tell whether a value came from a secret: a placeholder, a file, the alias of one."""
    if MASK not in str(entry.shown):
        return False
    origin = entry.origin
    if origin.via or origin.kind == "secret-file":
        return True
    setting = load.root.find(path)
    return (
        origin.kind == "file" and entry.shown == MASK and setting is not None and not hides(setting)
    )


def _rest(
    settings_cls: type[WholeSettings], load: Load, refused: ValidationError
) -> WholeSettings | None:
    """Report what was refused; return settings of all the rest, so that it is checked as well."""
    from pyfly_messaging.settings.validation.refusals import explain_errors, prune

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
