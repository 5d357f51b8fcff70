"""``config validate``: is the configuration good, without connecting to anything."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Annotated

import typer

from pyfly_messaging.cli.console import complain, put, wants_colour
from pyfly_messaging.cli.options import NO_VALUE, AsJson, File, Profiles, split
from pyfly_messaging.cli.reading import BAD_CONFIGURATION, complain_of, read
from pyfly_messaging.cli.tables import facts, headline
from pyfly_messaging.settings import MessagingSettings
from pyfly_messaging.settings.diagnostics.origins import OriginKind
from pyfly_messaging.settings.sources.discovery import PLACES
from pyfly_messaging.settings.validate import Validation
from pyfly_messaging.settings.validation.checks import effective_provider

_SOURCES: dict[OriginKind, str] = {
    "file": "in files",
    "environment": "in the environment",
    "dotenv": "in .env",
    "secret-file": "in secret files",
}


def validate(
    path: File = None,
    profile: Profiles = None,
    strict: Annotated[
        bool, typer.Option("--strict", metavar=NO_VALUE, help="Let warnings count as errors.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check the configuration, without connecting to anything.

    Exits with 0 and says what was read, or with 78 and a report on stderr that shows every
    mistake at its place. With --json the report goes to stdout, in both cases.
    """
    validation = read(path, split(profile))
    warned = any(found.severity == "warning" for found in validation.diagnostics)
    bad = not validation.ok or (strict and warned)
    if as_json:
        sys.stdout.write(f"{validation.to_json()}\n")
    elif bad:
        complain_of(validation)
    else:
        _praise(validation)
    raise typer.Exit(BAD_CONFIGURATION if bad else 0)


def _praise(validation: Validation) -> None:
    assert validation.settings is not None  # noqa: S101 - a good validation has settings
    if validation.diagnostics:
        complain(validation.render(colour=wants_colour(sys.stderr)) + "\n")
    settings = validation.settings
    files = settings.provenance.files
    read_from = ", ".join(files) or f"no file ({' or '.join(PLACES)})"
    put(headline("valid", read_from), facts(_facts(settings, validation)))


def _facts(settings: MessagingSettings, validation: Validation) -> list[tuple[str, str]]:
    provider = effective_provider(settings)
    warnings = sum(found.severity == "warning" for found in validation.diagnostics)
    return [
        ("provider", provider if provider == settings.provider else f"{provider} (auto)"),
        ("profiles", ", ".join(settings.profiles) or "none"),
        ("settings", _given(settings)),
        ("warnings", str(warnings or "none")),
    ]


def _given(settings: MessagingSettings) -> str:
    """Return how many settings are given, and where."""
    given = settings.provenance.entries
    found = Counter(
        entries[0].origin.kind
        for path, entries in given.items()
        if not any(path[:end] in given for end in range(1, len(path)))
    )
    places = [f"{found[kind]} {where}" for kind, where in _SOURCES.items() if found[kind]]
    return f"{', '.join(places)}" if places else "all at their defaults"
