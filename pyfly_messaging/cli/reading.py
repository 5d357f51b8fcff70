"""The configuration as the commands read it: with everything there is to say about it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from pyfly_messaging.cli.console import complain, wants_colour
from pyfly_messaging.settings import MessagingSettings
from pyfly_messaging.settings.diagnostics.codes import CODES
from pyfly_messaging.settings.validate import Validation
from pyfly_messaging.settings.validate import validate as read

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
    validation = read(path, profiles)
    if validation.settings is not None:
        return validation.settings
    if as_json:
        sys.stdout.write(f"{validation.to_json()}\n")
    else:
        complain_of(validation)
    raise typer.Exit(BAD_CONFIGURATION)


def complain_of(validation: Validation) -> None:
    """Print the report, and where to read more."""
    complain(validation.render(colour=wants_colour(sys.stderr)))
    errors = [found.code for found in validation.diagnostics if found.severity == "error"]
    if ours := [code for code in errors if code in CODES]:
        complain(f"\n`pyfly-messaging config explain {ours[0]}` tells more about a code")
