"""Errors that are found after loading, at the place of the setting they are about."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pyfly_messaging.errors import ConfigurationError
from pyfly_messaging.settings.diagnostics.codes import CODES
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic, ExcerptLine
from pyfly_messaging.settings.diagnostics.origins import Origin
from pyfly_messaging.settings.root import MessagingSettings
from pyfly_messaging.settings.text.local_files import read_file
from pyfly_messaging.settings.text.names import canonical, canonical_name, full
from pyfly_messaging.settings.text.phrases import one_of


def unknown_listener_diagnostics(
    settings: MessagingSettings, known: Iterable[str]
) -> tuple[Diagnostic, ...]:
    """Return an error for each name below ``listeners:`` that no listener of the program has.

    Args:
        settings: The loaded settings.
        known: The names of all listeners, also of those that are switched off.

    """
    names = list(dict.fromkeys(known))
    same = {canonical_name(name) for name in names}
    return tuple(
        _unknown_listener(settings, name, names) for name in settings.listeners if name not in same
    )


def check_listener_names(settings: MessagingSettings, known: Iterable[str]) -> None:
    """Refuse names below ``listeners:`` that no listener of the program has.

    Raises:
        ConfigurationError: With all of them, each at its place with a suggestion.

    """
    found = unknown_listener_diagnostics(settings, known)
    if found:
        from pyfly_messaging.settings.diagnostics.report import render_report

        raise ConfigurationError(render_report(found), found)


def located_error(
    settings: MessagingSettings,
    setting: str,
    message: str,
    *,
    label: str = "",
    help: str = "",  # noqa: A002 - the field's name
    code: str = "CFG217",
) -> ConfigurationError:
    """Return an error about one setting at the place where it is written.

    For what only others can know, such as the signature of a client that ``kafka.options`` must
    fit.

    Args:
        settings: The loaded settings.
        setting: Dotted name below ``pyfly.messaging``, as ``kafka.options.max_poll_records``.
        message: What is wrong.
        label: What to say at the place.
        help: What to do.
        code: The code.

    """
    path = tuple(canonical(part) for part in setting.split("."))
    origin = settings.provenance.origin(path)
    found = Diagnostic(
        code=code,
        message=message,
        setting=full(path),
        origin=origin,
        label=label,
        help=help or CODES[code].cure,
    )
    from pyfly_messaging.settings.diagnostics.report import render_report

    return ConfigurationError(render_report([found]), [found])


def _unknown_listener(settings: MessagingSettings, name: str, names: list[str]) -> Diagnostic:
    from pyfly_messaging.settings.text.suggest import closest

    place = settings.provenance.places.get(("listeners", name))
    if place is None:
        place = settings.provenance.origin(("listeners", name))
        below = next(settings.provenance.below(("listeners", name)), None)
        if below is not None:
            place = settings.provenance.origin(below)
    near = closest(name, names)
    if near is not None:
        help_ = f'did you mean "{near}"?'
    elif names:
        help_ = f"the listeners are: {one_of(names[:8])}"
    else:
        help_ = "the program has no listeners"
    label = "no listener has this name"
    return Diagnostic(
        code="CFG213",
        message=f"listeners.{name} matches no listener",
        setting=full(("listeners", name)),
        origin=place,
        label=label,
        help=help_,
        excerpt=_key_excerpt(place, name, label),
    )


def _key_excerpt(origin: Origin, name: str, label: str) -> tuple[ExcerptLine, ...]:
    """Return the line of a key as far as the key reaches, if the file still has it there."""
    if origin.kind != "file" or not origin.line:
        return ()
    try:
        lines = read_file(Path(origin.name)).decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError):
        return ()
    line = lines[origin.line - 1] if origin.line <= len(lines) else ""
    key = line[origin.column - 1 : origin.end_column - 1]
    if canonical_name(key.strip("'\"")) != name:
        return ()
    text = " " * (origin.column - 1) + key + ":"
    return (
        ExcerptLine(
            number=origin.line, text=text, start=origin.column - 1, width=len(key), label=label
        ),
    )
