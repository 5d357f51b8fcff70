"""Where values come from: one frozen `Origin` for each, and the record of who overrode whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

Path: TypeAlias = tuple[str | int, ...]
OriginKind: TypeAlias = Literal[
    "default", "file", "secret-file", "dotenv", "environment", "keyword", "source"
]


@dataclass(frozen=True, slots=True)
class Origin:
    """The place where something was written. Lines and columns begin with 1.

    Attributes:
        kind: What kind of place it is.
        name: The file as it was named, the variable, the keyword, or the class of a source.
        variable: The variable, when it is written in a file (``.env``, secrets directory).
        line: Line of the first character, 0 when there is none.
        column: Column of the first character, counted in characters.
        end_line: Line of the last character.
        end_column: Column just after the last character.
        via: Placeholders through which the value came, as ``${NAME}``.

    """

    kind: OriginKind
    name: str = ""
    variable: str = ""
    line: int = 0
    column: int = 0
    end_line: int = 0
    end_column: int = 0
    via: tuple[str, ...] = ()

    def through(self, names: Iterable[str]) -> Origin:
        """Return this origin with the placeholders that its value came through."""
        return replace(self, via=tuple(names))

    @property
    def place(self) -> str:
        """The place alone, as an editor understands it: ``pyfly.yaml:3:15``."""
        if self.kind == "file":
            return f"{self.name}:{self.line}:{self.column}" if self.line else self.name
        if self.kind == "dotenv":
            place = f"{self.name}:{self.line}" if self.line else self.name
            return f"{place} {self.variable}".rstrip()
        if self.kind == "secret-file":
            return f"secret file {self.name}"
        if self.kind == "environment":
            return f"env {self.name}"
        if self.kind == "keyword":
            return f"argument {self.name}"
        return self.name or self.kind

    def __str__(self) -> str:
        return " via ".join((self.place, ", ".join(self.via))) if self.via else self.place


DEFAULT = Origin("default")


@dataclass(frozen=True, slots=True)
class Entry:
    """One value that was given for a setting.

    Attributes:
        origin: Where.
        shown: The value as it may be shown: a secret is already masked.

    """

    origin: Origin
    shown: object


@dataclass(slots=True, eq=False)
class Provenance:
    """For each setting the values that were given for it, the effective one first.

    It never makes two settings different: all records compare equal.
    """

    entries: dict[Path, list[Entry]] = field(default_factory=dict, repr=False)
    places: dict[Path, Origin] = field(default_factory=dict, repr=False)
    """Where sections are written (the first place with the highest precedence)."""
    files: tuple[str, ...] = ()
    """The files that were read, the base first."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Provenance)

    __hash__ = None  # type: ignore[assignment]

    def add(self, entries: Mapping[Path, Entry], places: Mapping[Path, Origin]) -> None:
        """Record a layer that has lower precedence than all before it.

        What a layer says below a value that an earlier one has set as a whole does not count.
        """
        whole = set(self.entries)
        for path, entry in entries.items():
            if not any(path[:length] in whole for length in range(1, len(path))):
                self.entries.setdefault(path, []).append(entry)
        for path, origin in places.items():
            self.places.setdefault(path, origin)

    def winner(self, path: Path) -> Entry | None:
        """Return the effective entry of a setting, or None when it has its default."""
        found = self.entries.get(path)
        return found[0] if found else None

    def effective(self, path: Path) -> Origin:
        """Return where the effective value of a setting comes from, `DEFAULT` when from nowhere."""
        for length in range(len(path), 0, -1):
            entry = self.winner(path[:length])
            if entry is not None:
                return entry.origin
        return DEFAULT

    def origin(self, path: Path) -> Origin:
        """Return where a setting is written; of what is not, the nearest thing around it."""
        for length in range(len(path), 0, -1):
            found = self._at(path[:length])
            if found is not None:
                return found
        return DEFAULT

    def _at(self, path: Path) -> Origin | None:
        entry = self.winner(path)
        return entry.origin if entry is not None else self.places.get(path)

    def below(self, path: Path) -> Iterator[Path]:
        """Yield the paths of the entries at and below ``path``."""
        return (found for found in self.entries if found[: len(path)] == path)
