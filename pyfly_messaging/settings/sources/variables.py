"""A variable as it was found, before it is known what it sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyfly_messaging.settings.diagnostics.origins import Origin


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable, wherever it was set."""

    name: str
    text: str
    origin: Origin
    secret: bool = False


def variables(environ: Mapping[str, str], prefix: str) -> list[Variable]:
    """Return the variables of an environment that begin with a prefix, whatever their case."""
    size = len(prefix)
    return [
        Variable(name, environ[name], Origin("environment", name))
        for name in environ
        if name[:size].upper() == prefix
    ]
