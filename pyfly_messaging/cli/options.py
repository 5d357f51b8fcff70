"""The options that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from pyfly_messaging.settings.models.provider import providers
from pyfly_messaging.settings.sources.discovery import PLACES

NO_VALUE = ""
"""What an option takes that is only there or not: help pages would say <bool>."""


def _profiles(incomplete: str) -> Iterator[str]:
    """Yield the profiles that have a file, for completion."""
    for place in map(Path, PLACES):
        for path in sorted(place.parent.glob(f"{place.stem}-*{place.suffix}")):
            name = path.stem.removeprefix(f"{place.stem}-")
            if name.startswith(incomplete):
                yield name


def complete_provider(incomplete: str) -> list[str]:
    """Return the providers that begin so."""
    return [name for name in providers() if name.startswith(incomplete)]


File = Annotated[
    Path | None,
    typer.Argument(
        metavar="PATH",
        help="The file. Without it: PYFLY_CONFIG, else config/pyfly.yaml, else pyfly.yaml.",
        show_default=False,
    ),
]
Profiles = Annotated[
    list[str] | None,
    typer.Option(
        "--profile",
        "-p",
        metavar="NAME",
        help="A profile, instead of PYFLY_PROFILES_ACTIVE; for several, give it again.",
        autocompletion=_profiles,
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", metavar=NO_VALUE, help="Print JSON.")]


def split(profiles: list[str] | None) -> list[str] | None:
    """Return the profiles, also those that were given with commas; None when none was given."""
    if not profiles:
        return None
    return [name for given in profiles for name in given.split(",")]


def is_stdout(path: Path) -> bool:
    """Tell whether a path stands for the standard output."""
    return str(path) == "-"


def write(path: Path, text: str) -> None:
    """Write a file, and the directories it is in; ``-`` is the standard output.

    Raises:
        typer.Exit: It cannot be written; the reason is on stderr.

    """
    if is_stdout(path):
        sys.stdout.write(text)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        sys.stderr.write(f"{path} cannot be written: {error.strerror or error}\n")
        raise typer.Exit(1) from None
