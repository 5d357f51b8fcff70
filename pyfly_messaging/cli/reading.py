"""The configuration as the commands read it: with everything there is to say about it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from pyfly_messaging.cli.console import complain, wants_colour
from pyfly_messaging.settings import MessagingSettings
from pyfly_messaging.settings.diagnostics.codes import CODES
from pyfly_messaging.settings.verdict import Verdict
from pyfly_messaging.settings.verdict import validate as read

__all__ = ["BAD_CONFIGURATION", "complain_of", "read", "settings_or_exit"]

BAD_CONFIGURATION = 78
"""The exit code for a wrong configuration: EX_CONFIG of sysexits.h."""


def settings_or_exit(
    path: Path | None, profiles: Sequence[str] | None, *, as_json: bool
) -> MessagingSettings:
    """Return the settings.

    Raises:
        typer.Exit: They are wrong; the report was printed.

    """
    verdict = read(path, profiles)
    if verdict.settings is not None:
        return verdict.settings
    if as_json:
        sys.stdout.write(f"{verdict.to_json()}\n")
    else:
        complain_of(verdict)
    raise typer.Exit(BAD_CONFIGURATION)


def complain_of(verdict: Verdict) -> None:
    """Print the report, and where to read more."""
    complain(verdict.render(colour=wants_colour(sys.stderr)))
    errors = [found.code for found in verdict.diagnostics if found.severity == "error"]
    if ours := [code for code in errors if code in CODES]:
        complain(f"\n`pyfly-messaging config explain {ours[0]}` tells more about a code")
