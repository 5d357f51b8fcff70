"""Marking a setting as deprecated: it works, warns with its place, and says what to use instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Deprecation:
    """Put it among the metadata of a field: ``Annotated[str | None, Deprecation(...)] = None``.

    Attributes:
        reason: Why, as a sentence without a full stop.
        since: The version that deprecated it.
        replacement: Dotted path of the setting to use instead (``kafka.bootstrap-servers``). A
            value given under the old name is then moved there.
        level: ``warning``: it works and warns. ``error``: it is refused.

    """

    reason: str
    since: str
    replacement: str = ""
    level: Literal["warning", "error"] = "warning"

    @property
    def target(self) -> tuple[str, ...]:
        """The path of the replacement in field names, empty without one."""
        return tuple(self.replacement.replace("-", "_").split(".")) if self.replacement else ()
