"""Placeholders: ``${NAME}``, ``${NAME:default}``, ``${file:/path}`` and the escape ``$${``.

They are expanded after the file is parsed, as data: whatever a variable holds, it cannot change
the structure of the configuration, and it is not expanded again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pyfly_messaging.settings.text.local_files import no_path, read_secret, reason
from pyfly_messaging.settings.text.secrets import looks_secret

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MOST_CHARACTERS = 1024 * 1024
_MOST_DEPTH = 20


@dataclass(frozen=True, slots=True)
class Expanded:
    """The result of an expansion.

    Attributes:
        text: The value.
        via: The placeholders that were used, as ``${NAME}``.
        secret: Whether the value came from a file or from a variable with a secret's name.

    """

    text: str
    via: tuple[str, ...]
    secret: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """A placeholder that cannot be expanded.

    Attributes:
        code: The code of the diagnostic.
        message: What is wrong.
        label: What to say at the place.
        help: What to do.
        start: Where it begins in the value.
        end: Where it ends in the value.

    """

    code: str
    message: str
    label: str
    help: str
    start: int
    end: int


def expand(text: str, environ: Mapping[str, str]) -> tuple[Expanded | None, list[Refused]]:
    """Return a text with its placeholders replaced, or every problem with them."""
    expansion = _Expansion(text, environ)
    result = expansion.run(0, len(text), 0)
    if expansion.problems:
        return None, expansion.problems
    return Expanded(result, tuple(dict.fromkeys(expansion.via)), expansion.secret), []


class _Expansion:
    def __init__(self, text: str, environ: Mapping[str, str]) -> None:
        self.text = text
        self.environ = environ
        self.via: list[str] = []
        self.secret = False
        self.problems: list[Refused] = []
        self.size = 0

    def run(self, start: int, end: int, depth: int) -> str:
        """Return what a part of the text expands to."""
        text, parts, position = self.text, [], start
        while (found := text.find("${", position, end)) >= 0:
            if found > position and text[found - 1] == "$":
                parts += [text[position : found - 1], "${"]
                position = found + 2
                continue
            parts.append(text[position:found])
            close = self._closing(found + 2, end)
            if close is None or depth > _MOST_DEPTH:
                self._refuse(
                    found, end, "a placeholder is not closed", "no '}' follows",
                    "close it: ${NAME}; for the two characters themselves write $${",
                )  # fmt: skip
                return ""
            parts.append(self._value(found, close, depth))
            if self.size > _MOST_CHARACTERS:
                self._refuse(
                    found, close + 1, "the placeholders of a value make it larger than 1 MB",
                    "too large from here on", "check that these are the right variables and files",
                )  # fmt: skip
                return ""
            position = close + 1
        parts.append(text[position:end])
        return "".join(parts)

    def _closing(self, start: int, end: int) -> int | None:
        depth, position = 1, start
        while position < end:
            if self.text.startswith("${", position):
                depth += 1
                position += 2
                continue
            if self.text[position] == "}":
                depth -= 1
                if depth == 0:
                    return position
            position += 1
        return None

    def _value(self, start: int, close: int, depth: int) -> str:
        inside = self.text[start + 2 : close]
        name, colon, rest = inside.partition(":")
        if name == "file" and colon:
            return self._file(start, close, rest)
        if not _NAME.fullmatch(name):
            self._refuse(
                start, close + 1, "a placeholder has no valid name",
                "expected the name of an environment variable",
                "write ${NAME} or ${NAME:default}, with letters, digits and underscores",
            )  # fmt: skip
            return ""
        if colon and rest.startswith(("-", "?", "=", "+")):
            self._refuse(
                start, close + 1, f"${{{name}:{rest[0]}...}} is written as in a shell",
                f"the default would begin with {rest[0]!r}",
                f"write ${{{name}:default}}, without the {rest[0]!r}",
            )  # fmt: skip
            return ""
        value = self.environ.get(name)
        if value is not None:
            self.via.append(f"${{{name}}}")
            self.secret = self.secret or looks_secret(name)
            self.size += len(value)
            return value
        if colon:
            return self.run(start + 2 + len(name) + 1, close, depth + 1)
        self._unset(name, start, close + 1)
        return ""

    def _file(self, start: int, close: int, path: str) -> str:
        self.via.append(f"${{file:{path}}}")
        self.secret = True
        problem = no_path(path)
        try:
            if not problem:
                text = read_secret(Path(path))
                self.size += len(text)
                return text
        except OSError as error:
            problem = f"{path}: {reason(error)}"
        self.problems.append(
            Refused(
                "CFG022",
                "the file of a placeholder cannot be read",
                problem,
                "check the path and its permissions",
                start,
                close + 1,
            )
        )
        return ""

    def _refuse(self, start: int, end: int, message: str, label: str, help_: str) -> None:
        self.problems.append(Refused("CFG021", message, label, help_, start, end))

    def _unset(self, name: str, start: int, end: int) -> None:
        from pyfly_messaging.settings.text.suggest import closest

        near = closest(name, self.environ)
        self.problems.append(
            Refused(
                "CFG020",
                f"${{{name}}} is not set",
                f"environment variable {name} is not defined",
                f"did you mean ${{{near}}}?"
                if near
                else f"set {name}, or write a default: ${{{name}:default}}",
                start,
                end,
            )
        )
