"""How the environment variables of a settings class are named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Naming:
    """How the variables of a settings class are named.

    Attributes:
        prefix: What all begin with, in upper case.
        delimiter: What stands between two levels.

    """

    prefix: str
    delimiter: str

    @property
    def strict(self) -> bool:
        """Whether the prefix can be taken to belong to this class alone."""
        return len(self.prefix) > len(self.delimiter) and self.prefix.endswith(self.delimiter)

    def variable(self, path: Iterable[str | int]) -> str:
        """Return the variable of a setting: ``PYFLY_MESSAGING__KAFKA__CLIENT_ID``."""
        parts = (str(part).upper().replace("-", "_") for part in path)
        return self.prefix + self.delimiter.join(parts)


def naming(settings_cls: type[BaseModel], options: Mapping[str, Any] | None = None) -> Naming:
    """Return how the environment variables of a settings class are named.

    Args:
        settings_cls: The class, with its ``env_prefix`` and ``env_nested_delimiter``.
        options: Arguments of pydantic-settings that overrule them (``_env_prefix`` …).

    """
    config: Mapping[str, Any] = settings_cls.model_config
    given = options or {}
    prefix = given.get("_env_prefix", config.get("env_prefix")) or ""
    delimiter = given.get("_env_nested_delimiter", config.get("env_nested_delimiter")) or "__"
    return Naming(str(prefix).upper(), str(delimiter))
