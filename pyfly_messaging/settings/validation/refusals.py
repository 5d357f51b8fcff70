"""What pydantic refused, in the words of this library and at the place where it was written."""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, takewhile
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import ValidationError

from pyfly_messaging.settings.catalogue.annotations import UNIONS, choices_of, unwrap
from pyfly_messaging.settings.catalogue.masking import hides
from pyfly_messaging.settings.catalogue.plain_types import plain_type
from pyfly_messaging.settings.catalogue.tree import Setting
from pyfly_messaging.settings.catalogue.wording import ANYTHING, expectation, type_label
from pyfly_messaging.settings.diagnostics.codes import CODES
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic, Related
from pyfly_messaging.settings.diagnostics.origins import Entry, Path
from pyfly_messaging.settings.loading import Load
from pyfly_messaging.settings.models.base import CONFLICT, Conflict
from pyfly_messaging.settings.text.names import full, kebab
from pyfly_messaging.settings.text.phrases import got, one_of
from pyfly_messaging.settings.text.secrets import MASK
from pyfly_messaging.settings.text.suggest import closest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_CODES = {
    "literal_error": "CFG102", "enum": "CFG102", "provider": "CFG102",
    "whole_number": "CFG103", "number": "CFG103", "boolean": "CFG103", "text": "CFG103",
    "list": "CFG103",
    "greater_than_equal": "CFG104", "greater_than": "CFG104", "less_than_equal": "CFG104",
    "less_than": "CFG104", "string_too_long": "CFG104", "string_too_short": "CFG104",
    "too_long": "CFG104", "too_short": "CFG104",
    "duration": "CFG105", "time_delta_parsing": "CFG105", "time_delta_type": "CFG105",
    "size": "CFG115",
    "server": "CFG106", "server_url": "CFG106", "port": "CFG106", "host": "CFG106",
    "host_port": "CFG106", "amqp_url": "CFG106", "secret_url": "CFG106",
    "path": "CFG026", "topic": "CFG107", "dead_letter_loop": "CFG214", "empty": "CFG108",
    "exception_name": "CFG111", "exception_unknown": "CFG111", "broken_json": "ENV006",
    "missing": "CFG112", "extra_forbidden": "CFG101",
}  # fmt: skip
_OURS = {
    "server", "server_url", "port", "host", "host_port", "amqp_url", "secret_url",
    "dead_letter_loop", "topic", "path", "exception_name", "exception_unknown", "broken_json",
}  # fmt: skip
"""What our own readers refuse with a sentence that repeats no value."""
_WORDED = {"value_error": "Value error, ", "assertion_error": "Assertion failed, "}
"""What pydantic puts before the words of a validator."""


def explain_errors(error: ValidationError, load: Load) -> list[Path]:
    """Report what pydantic refused; return the paths of the invalid settings."""
    paths: list[Path] = []
    for line in _likely(error.errors(include_url=False, include_input=False), load):
        path, kind, message = known_path(load, line["loc"])[0], line["type"], line["msg"]
        context: Mapping[str, Any] = line.get("ctx") or {}
        if kind == "missing" and path[-1:] != line["loc"][-1:]:
            kind, message = "incomplete", f"{line['loc'][-1]} is missing"
        if kind == CONFLICT:
            for conflict in context["conflicts"]:
                report_conflict(conflict, path, load)
        elif kind != "missing" or not _is_misspelt(path, load):
            load.report(Refusal(load, path, kind, message, context).diagnostic())
        paths.append(path)
    return paths


def _likely(lines: list[ErrorDetails], load: Load) -> list[ErrorDetails]:
    """Return one mistake for each value: where there are several types, the one that is nearest.

    Pydantic refuses each of the types of a union by itself, with its name in the location.
    """
    types: dict[Path, dict[object, list[ErrorDetails]]] = {}
    for line in lines:
        around, name = known_path(load, line["loc"])[1:]
        types.setdefault(around, {}).setdefault(name, []).append(line)
    likely = {
        id(line)
        for around, found in types.items()
        for line in (min(found.values(), key=len) if around else chain(*found.values()))
    }
    return [line for line in lines if id(line) in likely]


def _is_misspelt(path: Path, load: Load) -> bool:
    """Tell whether a setting that is missing is most likely there under a wrong name."""
    if load.broken(path):
        return True
    unknown = [found.setting for found in load.diagnostics if found.code in {"CFG101", "ENV001"}]
    return any(
        name.rpartition(".")[0] == full(path[:-1])
        or any(_is_slip(name, path[:end]) for end in range(1, len(path)))
        for name in unknown
    )


def _is_slip(name: str, section: Path) -> bool:
    """Tell whether the name of a setting that does not exist begins with that of a section."""
    around, own = f"{full(section[:-1])}.", kebab(str(section[-1]))
    word = name.removeprefix(around).partition(".")[0]
    return name.startswith(around) and closest(kebab(word), [own]) == own


def report_conflict(conflict: Conflict, section: Path, load: Load) -> None:
    """Report settings that do not go together, unless a part of them is wrong by itself."""
    if load.broken(section):
        return
    paths: list[Path] = [(*section, *name.split(".")) for name in conflict.fields] or [section]
    first = load.provenance.origin(paths[0])
    related = [
        Related(origin=entry.origin, label=f"{kebab(str(path[-1]))} is set here")
        for path in paths[1:]
        if (entry := load.provenance.winner(path)) is not None and entry.origin != first
    ]
    load.report(
        Diagnostic(
            code=conflict.code,
            message=f"{full(section)}: {load.safe(conflict.message)}",
            setting=full(paths[0]),
            origin=first,
            help=load.safe(conflict.help, CODES["CFG100"].cure),
            related=tuple(related),
        )
    )


def known_path(load: Load, loc: tuple[int | str, ...]) -> tuple[Path, Path, object]:
    """Return the part of a location of pydantic that is a path of settings, or of what was given.

    The names of types and of functions are in it as well: the first of these is returned, too, and
    the path of the value that it is about. Without one, that path is empty.
    """
    path: Path = ()
    around: Path = ()
    name: object = None
    node: Setting | None = load.root
    for part in loc:
        inner = (*path, part)
        shape = node.shape if node is not None else "any"
        if shape in {"section", "named"} or inner in load.provenance.entries:
            node = node.find((part,)) if node is not None else None
        elif shape in {"list", "items"} and isinstance(part, int):
            node = None if node is None else node.element
        else:
            around, name = around or path, part if name is None else name
            continue
        path = inner
    return path, around, name


class Refusal:
    """One value that pydantic refused."""

    def __init__(
        self, load: Load, path: Path, kind: str, message: str, context: Mapping[str, Any]
    ) -> None:
        self.load, self.path, self.kind, self.context = load, path, kind, context
        self.message = message.removeprefix(_WORDED.get(kind, ""))
        found = (load.root.find(path[:end]) for end in range(len(path), 0, -1))
        self.setting = next((setting for setting in found if setting is not None), load.root)
        self.entry: Entry | None = load.provenance.winner(path)
        self.origin = load.provenance.origin(path)
        around = load.provenance.winner(path[:-1])
        if self.entry is None and around is not None and isinstance(around.shown, str):
            # An item of a list in one text has no place of its own.
            self.entry = around
            self.origin = load.narrowed(self.origin, str(self._value()))

    def diagnostic(self) -> Diagnostic:
        """Return the refusal with its place and a way out."""
        name = full(self.path)
        code = self._code()
        message = f"invalid value for {name}"
        if code == "CFG108":
            message = f"{name} is empty"
        elif code == "CFG112":
            message = f"{name} is missing"
        elif code == "CFG101":
            message = f"unknown setting {name}"
        return Diagnostic(
            code=code,
            message=message,
            setting=name,
            origin=self.origin,
            label=self._label(),
            help=self._help() or CODES[code].cure,
        )

    def _code(self) -> str:
        return _CODES.get(self.kind, "CFG103" if self._is_of_type() else "CFG100")

    def _is_of_type(self) -> bool:
        """Tell whether the value is of another type, in the words of pydantic."""
        return self.kind.endswith(("_type", "_parsing")) or self.kind.startswith("ip_")

    def _value(self) -> Any:
        """Return the value as it may be shown; of a list in one text, the item that is wrong.

        What came through a placeholder is not shown: it may be a secret, whatever it sets.
        """
        if self.entry is None or self.entry.origin.via:
            return MASK
        shown = self.entry.shown
        if isinstance(shown, str) and isinstance(self.path[-1], int):
            items = [item.strip() for item in shown.split(",")]
            if self.path[-1] < len(items):
                return items[self.path[-1]]
        return shown

    def _label(self) -> str:
        expected = self._expected()
        value = self._value()
        if self.entry is not None and (via := self.entry.origin.via):
            found = f"got the value of {one_of(via)}"
            return f"{expected}, {found}" if expected else found
        if value == MASK or self.kind in {"missing", "extra_forbidden", "empty", "path"}:
            return expected
        return f"{expected}, got {got(value)}" if expected else f"got {got(value)}"

    def _expected(self) -> str:
        if self.kind in {"missing", "extra_forbidden"}:
            return ""
        if self.kind == "provider":
            return f"expected one of: {one_of(self.context['providers'])}"
        if self.kind in _OURS:
            return self.load.safe(self.message)
        if self.kind in {"duration", "size"} and not self.message.startswith("expected a "):
            return self.load.safe(self.message)
        if self.setting.shape != "any" and (self.kind in _CODES or self._is_worded()):
            return f"expected {expectation(self.setting)}"
        return self._reason()

    def _is_worded(self) -> bool:
        """Tell whether the type of the setting says all that pydantic says, and better."""
        return self._is_of_type() and type_label(self.setting) != ANYTHING and not self.setting.url

    def _reason(self) -> str:
        """Return the words of pydantic, or of a validator, which may repeat the value."""
        entry = self.entry
        masked = entry is not None and (entry.origin.via or MASK in str(entry.shown))
        return "not valid" if masked or hides(self.setting) else self.load.safe(self.message)

    def _help(self) -> str:
        if self.kind == "missing":
            return self._how_to_set()
        if get_origin(self.setting.base) in UNIONS:
            return one_of_several(str(self._value()), self.setting)
        known = cure(self.kind, str(self._value()), self.setting, self.context)
        plain = plain_type(self.setting.base)
        return known or (f"for example {plain.example}" if plain and self._is_of_type() else "")

    def _how_to_set(self) -> str:
        """Return how to set what is missing; no variable is for one part of a list alone."""
        around = self.path[: next((n for n, p in enumerate(self.path) if isinstance(p, int)), None)]
        variable = self.load.naming.variable(around)
        if around == self.path:
            return f"set it in the file, or as {variable}"
        return f"set it in the file, or in the JSON of {variable}"


def prune(values: dict[str, Any], paths: Iterable[Path]) -> dict[str, Any]:
    """Take invalid settings out of nested data, a list as a whole."""
    for path in paths:
        parent: Any = values
        names = list(takewhile(lambda part: isinstance(part, str), path))
        for part in names[:-1]:
            parent = parent.get(part) if isinstance(parent, dict) else None
        if isinstance(parent, dict) and names:
            parent.pop(names[-1], None)
    return values


_TRUE = {"yes", "y", "on", "enable", "enabled", "t", "1"}
_FALSE = {"no", "n", "off", "disable", "disabled", "f", "0", "none"}
_LARGE = 1e15
_UNITS = (
    ("ms", ("ms", "msec", "millis", "milliseconds", "millisecond")),
    ("s", ("s", "sec", "secs", "second", "seconds")),
    ("m", ("m", "min", "mins", "minute", "minutes")),
    ("h", ("h", "hr", "hrs", "hour", "hours")),
    ("d", ("d", "day", "days")),
)


@dataclass(frozen=True, slots=True)
class _Refused:
    kind: str
    setting: Setting
    context: Mapping[str, Any]


def cure(kind: str, value: str, setting: Setting, context: Mapping[str, Any]) -> str:
    """Return what to do about a value, empty when there is nothing better than the code's own cure.

    Args:
        kind: The type of pydantic's error.
        value: The value as it may be shown.
        setting: The setting it was given for.
        context: The context of pydantic's error.

    """
    helper = _HELPERS.get(kind)
    return helper(_Refused(kind, setting, context), value) if helper is not None else ""


def one_of_several(value: str, setting: Setting) -> str:
    """Return what to do about a value that is of none of several types."""
    choices = [str(c) for each in get_args(setting.base) for c in choices_of(unwrap(each)[0])]
    near = closest(value.strip("'\" "), choices)
    return f'did you mean "{near}"?' if near else ""


def _help_choice(refusal: _Refused, value: str) -> str:
    choices = refusal.context.get("providers") or refusal.setting.choices
    words = [str(choice) for choice in choices]
    near = closest(value.strip("'\" "), words)
    return f'did you mean "{near}"?' if near else f"use one of: {one_of(words)}"


def _help_number(refusal: _Refused, value: str) -> str:
    if value in {"True", "False"}:
        return "write a number, not true or false"
    try:
        number = float(value.strip("'\" ").replace(",", ".").replace("_", ""))
    except ValueError:
        return f"write digits only, for example {refusal.context.get('example', _example(refusal))}"
    if not abs(number) < _LARGE:
        return "write a plain number, not larger than needed"
    whole = int(number)
    return f"did you mean {whole}?" if refusal.kind == "whole_number" else "write a plain number"


def _example(refusal: _Refused) -> str:
    default = refusal.setting.default
    return str(default) if isinstance(default, int | float) else "1"


def _help_boolean(refusal: _Refused, value: str) -> str:
    word = value.strip("'\" ").lower()
    if word in _TRUE or closest(word, ["true"]):
        return "did you mean true?"
    if word in _FALSE or closest(word, ["false"]):
        return "did you mean false?"
    return "write true or false"


def _help_duration(refusal: _Refused, value: str) -> str:
    match = re.fullmatch(r"\s*(\d+(?:[.,]\d+)?)\s*([a-zA-Z]+)\s*", value)
    if match:
        number, unit = match[1].replace(",", "."), match[2].lower()
        for short, words in _UNITS:
            if unit in words and value != f"{number}{short}":
                return f'did you mean "{number}{short}"?'
    return CODES["CFG105"].cure


def _help_size(refusal: _Refused, value: str) -> str:
    match = re.fullmatch(r"\s*(\d+(?:[.,]\d+)?)\s*([kmg])i?(?:b|bytes?)?\s*", value.lower())
    if match:
        meant = f"{match[1].replace(',', '.')}{match[2].upper()}iB"
        if meant != value:
            return f'did you mean "{meant}"?'
    return CODES["CFG115"].cure


def _help_server(refusal: _Refused, value: str) -> str:
    rest = value.partition("://")[2].rpartition("@")[2].partition("/")[0]
    if refusal.kind == "server_url" and rest and MASK not in rest:
        return f'did you mean "{rest}"?'
    return "write host:port, for example broker-1:9092; several with commas"


def _help_host(refusal: _Refused, value: str) -> str:
    host, _, port = value.rpartition("://")[2].partition("/")[0].rpartition(":")
    if refusal.kind == "host_port" and host:
        return f"write host: {host} and port: {port}"
    return "write the name of the machine alone, for example mq.internal"


def _help_url(refusal: _Refused, _: str) -> str:
    return (
        "write amqp://user:password@host:port/virtual-host, or use host, port, username, password "
        "and virtual-host, which take any characters"
    )


def _help_secret_url(refusal: _Refused, _: str) -> str:
    return "write scheme://user:password@host:port/path; user, password and port can be left out"


def _help_exception(refusal: _Refused, value: str) -> str:
    near = closest(value, [n for n in dir(builtins) if n.endswith(("Error", "Exception"))])
    return f'did you mean "{near}"?' if near else CODES["CFG111"].cure


def _help_structure(refused: _Refused, _: str) -> str:
    return 'in YAML write a list or keys below it; in a variable write JSON: ["a"], {"key": "b"}'


_HELPERS: dict[str, Callable[[_Refused, str], str]] = {
    "literal_error": _help_choice,
    "enum": _help_choice,
    "provider": _help_choice,
    "whole_number": _help_number,
    "number": _help_number,
    "int_parsing": _help_number,
    "float_parsing": _help_number,
    "boolean": _help_boolean,
    "bool_parsing": _help_boolean,
    "duration": _help_duration,
    "time_delta_parsing": _help_duration,
    "time_delta_type": _help_duration,
    "size": _help_size,
    "server": _help_server,
    "server_url": _help_server,
    "port": _help_server,
    "host": _help_host,
    "host_port": _help_host,
    "amqp_url": _help_url,
    "secret_url": _help_secret_url,
    "list_type": _help_structure,
    "tuple_type": _help_structure,
    "set_type": _help_structure,
    "dict_type": _help_structure,
    "model_type": _help_structure,
    "exception_name": _help_exception,
    "exception_unknown": _help_exception,
}
