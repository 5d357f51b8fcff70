"""``config explain``: everything about a setting, a section, a variable or a code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from pyfly_messaging.cli.codes import code_data, is_code, print_code, unknown_code
from pyfly_messaging.cli.console import complain, put, say_json
from pyfly_messaging.cli.options import AsJson, Profiles, split
from pyfly_messaging.cli.reading import read
from pyfly_messaging.cli.tables import facts, indented, plain, rows
from pyfly_messaging.policy import POLICY_FIELDS
from pyfly_messaging.settings import MessagingSettings
from pyfly_messaging.settings.catalogue.tree import ANY_NAME, catalogue
from pyfly_messaging.settings.diagnostics.codes import CODES
from pyfly_messaging.settings.plugins.extension import with_adapters
from pyfly_messaging.settings.text.names import PREFIX, canonical
from pyfly_messaging.settings.views.explain import Explanation
from pyfly_messaging.settings.views.explain import explain as look_up

_NOT_THERE = 2
_ROOT = PREFIX.split(".")


def _complete(incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield the settings that begin so, with their meaning, for completion."""
    for leaf in catalogue(with_adapters(MessagingSettings)).leaves():
        name = leaf.dotted.replace(ANY_NAME, "<name>")
        if name.startswith(incomplete):
            yield name, leaf.description


def explain(
    setting: Annotated[
        str,
        typer.Argument(
            metavar="SETTING",
            help="kafka.acks, a section as kafka.tls, a variable, or a code as CFG102.",
            autocompletion=_complete,
            show_default=False,
        ),
    ] = "",
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="PATH", help="The file that the current value is from."),
    ] = None,
    profile: Profiles = None,
    as_json: AsJson = False,
) -> None:
    """Explain a setting, a section, a variable or the code of a problem.

    Says what a setting takes and means, its default, its variable and its place in a file, and
    what it is now and why. What does not exist exits with 2 and a suggestion.
    """
    if is_code(setting):
        _code(setting.upper(), as_json=as_json)
        return
    validation = read(file, split(profile))
    try:
        found = look_up(setting, validation.settings)
    except LookupError as unknown:
        complain(f"error: {unknown}")
        raise typer.Exit(_NOT_THERE) from None
    if as_json:
        say_json(found.as_dict() | {"setting": _name(found)})
        return
    put(plain(_name(found), "bold cyan"))
    if found.meaning:
        put(indented(plain(found.meaning)))
    put("", facts(_facts(found, valid=validation.ok)))
    if found.children:
        put("", indented(rows(_children(found), flexible=2)))


def _name(found: Explanation) -> str:
    name = found.setting.removeprefix(PREFIX).lstrip(".") or PREFIX
    return name.replace(f".{ANY_NAME}", ".<name>")


def _facts(found: Explanation, *, valid: bool) -> Iterator[tuple[str, str | Text]]:
    yield "type", _type(found)
    if found.default:
        yield "default", _default(found)
    if found.deprecated:
        yield "deprecated", found.deprecated
    if found.current:
        yield "current", Text.assemble(plain(found.current, "bold"), plain(f"  ({found.origin})"))
        for origin, value in found.overridden:
            yield "overrides", f"{value}  ({origin})"
    elif not valid and found.variable and ANY_NAME not in found.setting:
        yield "current", "unknown: `pyfly-messaging config validate` says why"
    if found.variable:
        yield "variable", found.variable
    yield "YAML", _yaml(found)


def _type(found: Explanation) -> str:
    none = ", or none" if found.optional and "none" not in found.type else ""
    limits = f" ({' and '.join(found.limits)})" if found.limits else ""
    return f"{found.type}{none}{limits}"


def _default(found: Explanation) -> str:
    return f"the code, else listener.{found.yaml[-1]}" if _is_in_code(found) else found.default


def _is_in_code(found: Explanation) -> bool:
    """Tell whether it belongs to one listener, whose code says what it is by default."""
    return found.yaml[len(_ROOT)] == "listeners" and canonical(found.yaml[-1]) in POLICY_FIELDS


def _yaml(found: Explanation) -> Text:
    """Return where the setting stands in a file, with a value that it takes where one is known."""
    lines = [f"{'  ' * depth}{key}:" for depth, key in enumerate(found.yaml)]
    if found.default not in {"", '""', "none", "must be given"} and not found.secret:
        lines[-1] += f" {found.default}"
    elif found.choices:
        lines[-1] += f" {found.choices[0]}"
    return Text("\n").join(map(plain, lines))


def _children(found: Explanation) -> Iterator[list[Text]]:
    inside = {"sections by name": ".<name>", "list of sections": "[]"}.get(found.type, "")
    for name, meaning in found.children:
        child = look_up(f"{found.setting}{inside}.{name}")
        if child.children:
            value = plain("section", "dim")
        else:
            value = plain("the code" if _is_in_code(child) else child.default)
        yield [plain(name, "cyan"), value, plain(meaning)]


def _code(name: str, *, as_json: bool) -> None:
    if name not in CODES:
        complain(f"error: {unknown_code(name)}")
        raise typer.Exit(_NOT_THERE)
    if as_json:
        say_json(code_data(name))
    else:
        print_code(name)
