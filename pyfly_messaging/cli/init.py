"""``config init``: a first configuration, with every setting and a comment for each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyfly_messaging.cli.console import complain, say
from pyfly_messaging.cli.options import NO_VALUE, complete_provider, is_stdout, write
from pyfly_messaging.settings.models.provider import BUILT_IN, CLIENTS, has_client, providers
from pyfly_messaging.settings.plugins.installed import problem_of, usable_entry_points
from pyfly_messaging.settings.sources.discovery import PLACES
from pyfly_messaging.settings.text.suggest import closest
from pyfly_messaging.settings.views.reference import must_be_given, reference_yaml
from pyfly_messaging.settings.views.schema import schema_text

SCHEMA = "pyfly.schema.json"
_HEADER = """\
# Every setting at its default. What you do not need may be removed.
# Above this file: pyfly-{profile}.yaml, the secrets directory, .env, the environment
# (PYFLY_MESSAGING__KAFKA__CLIENT_ID=shop), arguments in code. A value may be ${NAME},
# ${NAME:default} or ${file:/run/secrets/name}. Durations: seconds, or 500ms, 10s, 5m, 1h.
# pyfly-messaging config validate | show --origin | explain kafka.acks
"""


def _provider(name: str | None) -> str | None:
    if name is None or name in BUILT_IN:
        return name
    if name in providers():
        if (problem := problem_of(name)) is not None:
            raise typer.BadParameter(str(problem))
        return name
    near = closest(name, providers())
    hint = f'did you mean "{near}"?' if near else f"there are: {', '.join(providers())}"
    raise typer.BadParameter(f"there is no provider {name!r}; {hint}")


def _help() -> str:
    others = ", ".join(point.name for point in usable_entry_points())
    return (
        "kafka, rabbitmq, memory or auto: with the sections of this broker alone. "
        "Without it: memory, and the sections of all brokers."
        + (f" Installed as well: {others}." if others else "")
    )


def init(
    provider: Annotated[
        str | None,
        typer.Option(
            "--provider",
            callback=_provider,
            autocompletion=complete_provider,
            metavar="NAME",
            help=_help(),
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE", help="Where to; - is the standard output.")
    ] = Path(PLACES[0]),
    force: Annotated[
        bool, typer.Option("--force", metavar=NO_VALUE, help="Overwrite the file.")
    ] = False,
) -> None:
    """Write a commented pyfly.yaml with every setting at its default.

    Beside it goes the schema by which editors complete and check it. A file that exists is not
    overwritten.
    """
    if is_stdout(output):
        write(output, initial_text(provider))
        return
    if output.exists() and not force:
        complain(f"{output} exists; --force overwrites it, --output writes elsewhere")
        raise typer.Exit(1)
    write(output, initial_text(provider))
    write(output.with_name(SCHEMA), schema_text())
    _say_what_is_next(output, provider)


def initial_text(provider: str | None = None) -> str:
    """Return the text of a first configuration; without a provider, it has every setting."""
    modeline, _, rest = reference_yaml(provider, schema=f"./{SCHEMA}").partition("\n")
    return f"{modeline}\n{_HEADER}{rest}"


def _say_what_is_next(output: Path, provider: str | None) -> None:
    say(f"wrote {output}: every setting{f' for {provider}' if provider else ''} at its default")
    say(f"wrote {output.with_name(SCHEMA)}: with it an editor completes and checks the file")
    package, extra = CLIENTS.get(provider or "", ("", ""))
    if package and not has_client(package):
        say(f'next: pip install "pyfly-messaging[{extra}]", which brings {package}')
    for setting in must_be_given(provider):
        say(f"next: give {setting} a value in {output}, which it has no default for")
    found = output.as_posix() in PLACES
    say("next: pyfly-messaging config validate" + ("" if found else f" {output}"))
