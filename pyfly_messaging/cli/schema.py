"""``config schema``: the JSON Schema of the file, for editors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyfly_messaging.cli.console import say
from pyfly_messaging.cli.options import is_stdout, write
from pyfly_messaging.settings.views.schema import schema_text


def schema(
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE", help="Where to; - is the standard output.")
    ] = Path("-"),
) -> None:
    """Write the schema of pyfly.yaml, for editors.

    It is JSON Schema, draft 7. A file names its schema in its first line:

    # yaml-language-server: $schema=./pyfly.schema.json
    """
    write(output, schema_text())
    if not is_stdout(output):
        say(f"wrote {output}")
