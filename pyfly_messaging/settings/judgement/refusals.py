"""What pydantic refused, in the words of this library and at the place where it was written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain, takewhile
from typing import TYPE_CHECKING, Any, get_origin

from pydantic import ValidationError

from pyfly_messaging.settings.catalogue.annotations import UNIONS
from pyfly_messaging.settings.catalogue.masking import hides
from pyfly_messaging.settings.catalogue.plain_types import plain_type
from pyfly_messaging.settings.catalogue.tree import Setting
from pyfly_messaging.settings.catalogue.wording import ANYTHING, expectation, type_label
from pyfly_messaging.settings.diagnostics.codes import CODES
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic, Related
from pyfly_messaging.settings.diagnostics.origins import Entry, Path
from pyfly_messaging.settings.judgement.cures import cure, one_of_several
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
