"""What pydantic refused, in the words of this library and at the place where it was written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from pyfly_messaging.settings.catalogue.tree import Setting
from pyfly_messaging.settings.catalogue.wording import expectation
from pyfly_messaging.settings.diagnostics.codes import CODES
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic, Related
from pyfly_messaging.settings.diagnostics.origins import Entry, Path
from pyfly_messaging.settings.judgement.cures import cure
from pyfly_messaging.settings.loading.load import Load
from pyfly_messaging.settings.models.base import CONFLICT, Conflict
from pyfly_messaging.settings.text.names import full, kebab
from pyfly_messaging.settings.text.phrases import got, one_of
from pyfly_messaging.settings.text.secrets import MASK, mask_url

_CODES = {
    "literal_error": "CFG102", "enum": "CFG102", "provider": "CFG102",
    "whole_number": "CFG103", "number": "CFG103", "boolean": "CFG103", "text": "CFG103",
    "list": "CFG103",
    "greater_than_equal": "CFG104", "greater_than": "CFG104", "less_than_equal": "CFG104",
    "less_than": "CFG104", "string_too_long": "CFG104", "string_too_short": "CFG104",
    "too_long": "CFG104", "too_short": "CFG104",
    "duration": "CFG105",
    "server": "CFG106", "server_url": "CFG106", "port": "CFG106", "host": "CFG106",
    "host_port": "CFG106", "amqp_url": "CFG106",
    "topic": "CFG107", "dead_letter_loop": "CFG214", "empty": "CFG108",
    "exception_name": "CFG111", "exception_unknown": "CFG111", "broken_json": "ENV006",
    "missing": "CFG112", "extra_forbidden": "CFG101",
}  # fmt: skip
_TYPES = {
    "int_parsing", "int_type", "int_from_float", "float_parsing", "float_type", "bool_parsing",
    "bool_type", "string_type", "list_type", "tuple_type", "dict_type", "model_type",
}  # fmt: skip


def explain_errors(error: ValidationError, load: Load) -> list[Path]:
    """Report what pydantic refused; return the paths of the invalid settings."""
    paths: list[Path] = []
    for line in error.errors(include_url=False, include_input=False):
        path = known_path(load.root, line["loc"])
        context: Mapping[str, Any] = line.get("ctx") or {}
        if line["type"] == CONFLICT:
            for conflict in context["conflicts"]:
                report_conflict(conflict, path, load)
        elif line["type"] != "missing" or not _is_misspelt(path, load):
            load.report(Refusal(load, path, line["type"], line["msg"], context).diagnostic())
        paths.append(path)
    return paths


def _is_misspelt(path: Path, load: Load) -> bool:
    """Tell whether a setting that is missing is most likely there under a wrong name."""
    section = full(path[:-1])
    return load.broken(path) or any(
        found.code in {"CFG101", "ENV001"} and found.setting.rpartition(".")[0] == section
        for found in load.diagnostics
    )


def report_conflict(conflict: Conflict, section: Path, load: Load) -> None:
    """Report settings that do not go together, unless a part of them is wrong by itself."""
    if load.broken(section):
        return
    paths = [(*section, *name.split(".")) for name in conflict.fields]
    first = load.provenance.origin(paths[0])
    related = [
        Related(origin=entry.origin, label=f"{kebab(str(path[-1]))} is set here")
        for path in paths[1:]
        if (entry := load.provenance.winner(path)) is not None and entry.origin != first
    ]
    load.report(
        Diagnostic(
            code=conflict.code,
            message=f"{full(section)}: {conflict.message}",
            setting=full(paths[0]),
            origin=first,
            help=conflict.help,
            related=tuple(related),
        )
    )


def known_path(root: Setting, loc: tuple[int | str, ...]) -> Path:
    """Return the part of a location of pydantic that is a path of settings."""
    path: list[str | int] = []
    node: Setting | None = root
    for part in loc:
        if node is None:
            break
        if node.shape in {"section", "named"}:
            node = node.find((part,))
            path.append(part)
        elif isinstance(part, int) or node.shape == "free":
            path.append(part)
            break
        else:
            break
    return tuple(path)


class Refusal:
    """One value that pydantic refused."""

    def __init__(
        self, load: Load, path: Path, kind: str, message: str, context: Mapping[str, Any]
    ) -> None:
        self.path, self.kind, self.message, self.context = path, kind, message, context
        self.naming = load.naming
        self.setting = load.root.find(path) or load.root.find(path[:-1]) or load.root
        self.entry: Entry | None = load.provenance.winner(path)
        if self.entry is None:
            self.entry = load.provenance.winner(path[:-1])
        self.origin = load.provenance.origin(path)
        if (
            self.entry is not None
            and isinstance(path[-1], int)
            and path not in load.provenance.entries
        ):
            self.origin = load.narrowed(self.origin, str(self._value()))

    def diagnostic(self) -> Diagnostic:
        """Return the refusal with its place and a way out."""
        name = full(self.path)
        code = _CODES.get(self.kind, "CFG103" if self.kind in _TYPES else "CFG100")
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
            help=self._help() or self._set(code) or CODES[code].cure,
        )

    def _set(self, code: str) -> str:
        """Return how to set what is missing."""
        variable = self.naming.variable(self.path)
        return f"set it in the file, or as {variable}" if code == "CFG112" else ""

    def _value(self) -> Any:
        """Return the value as it may be shown; of a list in one text, the item that is wrong."""
        if self.entry is None:
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
        if value == MASK or self.kind in {"missing", "extra_forbidden", "empty"}:
            return expected
        return f"{expected}, got {got(value)}" if expected else f"got {got(value)}"

    def _expected(self) -> str:
        if self.kind in {"missing", "extra_forbidden"}:
            return ""
        if self.kind == "provider":
            return f"expected one of: {one_of(self.context['providers'])}"
        if self.kind in {"server", "server_url", "port", "host", "host_port", "amqp_url",
                         "dead_letter_loop", "exception_name", "exception_unknown", "topic",
                         "broken_json"}:  # fmt: skip
            return self.message
        if self.kind == "duration" and not self.message.startswith("expected a duration"):
            return self.message
        if self.setting.shape == "any":
            return mask_url(self.message) if self.kind in _TYPES else "not valid"
        if self.kind in _CODES or self.kind in _TYPES:
            return f"expected {expectation(self.setting)}"
        # The message of a validator that is not ours may repeat the value.
        return "not valid" if self.setting.secret else mask_url(self.message)

    def _help(self) -> str:
        value = str(self._value())
        return cure(self.kind, value, self.setting, self.context)


def prune(values: dict[str, Any], paths: Iterable[Path]) -> dict[str, Any]:
    """Take invalid settings out of nested data."""
    for path in paths:
        parent: Any = values
        names = [part for part in path if not isinstance(part, int)]
        for part in names[:-1]:
            parent = parent.get(part) if isinstance(parent, dict) else None
        if isinstance(parent, dict) and names:
            parent.pop(names[-1], None)
    return values
