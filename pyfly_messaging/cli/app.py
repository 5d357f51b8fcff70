"""The tree of commands and their help; every subcommand is added here."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from inspect import getdoc
from typing import Annotated

import typer

from pyfly_messaging.cli.codes import codes
from pyfly_messaging.cli.console import say
from pyfly_messaging.cli.explain import explain
from pyfly_messaging.cli.init import init
from pyfly_messaging.cli.options import NO_VALUE
from pyfly_messaging.cli.schema import schema
from pyfly_messaging.cli.show import show
from pyfly_messaging.cli.validate import validate

_HELP = {"help_option_names": ["-h", "--help"]}
_CLIENTS = ("aiokafka", "aio-pika")


def _examples(*commands: str) -> str:
    """Return examples as the end of a help page. Typer wants an empty line between lines."""
    return "\n\n".join(["[dim]Examples[/dim]", *commands])


app = typer.Typer(
    name="pyfly-messaging",
    help="Messaging for asyncio on memory, Kafka and RabbitMQ.",
    epilog=_examples("pyfly-messaging config init", "pyfly-messaging config validate"),
    context_settings=_HELP,
    no_args_is_help=True,
    rich_markup_mode="rich",
    # A traceback with local variables could show a secret.
    pretty_exceptions_enable=False,
)
config = typer.Typer(
    help="Write, check and understand [bold]pyfly.yaml[/bold] and the environment.",
    context_settings=_HELP,
    no_args_is_help=True,
    rich_markup_mode="rich",
)
app.add_typer(config, name="config")


def _add(panel: str, command: Callable[..., None], *examples: str) -> None:
    """Add a command; its docstring is the help, with each paragraph wrapped anew."""
    paragraphs = (getdoc(command) or "").split("\n\n")
    config.command(
        help="\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs),
        rich_help_panel=panel,
        epilog=_examples(*(f"pyfly-messaging config {example}" for example in examples)),
    )(command)


_WRITE, _CHECK, _UNDERSTAND = "Write", "Check", "Understand"
_add(_WRITE, init, "init --provider kafka", "init --output -")
_add(_WRITE, schema, "schema --output config/pyfly.schema.json")
_add(
    _CHECK,
    validate,
    "validate",
    "validate --profile production",
    "validate deploy/pyfly.yaml --strict --json",
)
_add(_UNDERSTAND, show, "show --origin", "show --given --profile production")
_add(
    _UNDERSTAND,
    explain,
    "explain kafka.sasl.mechanism",
    "explain 'listeners.<name>.retries'",
    "explain CFG102",
)
_add(_UNDERSTAND, codes, "codes", "explain CFG102")


def _version(wanted: bool) -> None:
    if not wanted:
        return
    around = [f"Python {platform.python_version()}"]
    for name in _CLIENTS:
        try:
            around.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            around.append(f"no {name}")
    say(f"pyfly-messaging {version('pyfly-messaging')} ({', '.join(around)})")
    raise typer.Exit


@app.callback()
def _root(
    wanted: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            metavar=NO_VALUE,
            help="Show the version, and those of the client libraries.",
        ),
    ] = False,
) -> None:
    pass
