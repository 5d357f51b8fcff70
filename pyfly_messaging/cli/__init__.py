"""The command `pyfly-messaging`. It needs the extra ``cli``; importing this module does not."""

from __future__ import annotations

import sys
from io import TextIOWrapper

_NEEDED = {"typer", "rich", "click"}
_HINT = 'pyfly-messaging needs typer and rich for this: pip install "pyfly-messaging[cli]"\n'


def main() -> None:
    """Run the command line and exit: 0 good, 1 not done, 2 wrong usage, 78 wrong configuration."""
    try:
        from pyfly_messaging.cli.app import app
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in _NEEDED:
            raise
        sys.stderr.write(_HINT)
        sys.exit(1)
    if isinstance(sys.stdout, TextIOWrapper):
        # A character that the terminal's encoding lacks is no reason to fail.
        sys.stdout.reconfigure(errors="backslashreplace")
    app(prog_name="pyfly-messaging")
