"""Where a load looks: the environment, the files, the profiles, in one value."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from pyfly_messaging.settings.text.nesting import excess

StrPath: TypeAlias = str | os.PathLike[str]
DOTENV = ".env"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inputs:
    """What a load reads.

    Attributes:
        environ: Variables, the process's own when None.
        path: The file, instead of the one named in PYFLY_CONFIG or found.
        profiles: Active profiles, instead of PYFLY_PROFILES_ACTIVE.
        discover: Whether to look for a file when none is named.
        dotenv: Files with further variables, the later ones winning.
        secrets_dir: Directory of secret files, instead of PYFLY_SECRETS_DIR.
        log: Whether warnings are logged.
        overrides: Settings that win over all but keyword arguments.

    """

    environ: Mapping[str, str] | None = None
    path: StrPath | None = None
    profiles: tuple[str, ...] | None = None
    discover: bool = True
    dotenv: tuple[StrPath, ...] = (DOTENV,)
    secrets_dir: StrPath | None = None
    log: bool = True
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment that is read."""
        return os.environ if self.environ is None else self.environ


_isolation: list[Inputs] = []
"""What `isolated` put in force, the innermost last. For the whole process, not for one context:
the event loop and the threads of a test must see it as well."""


def current_inputs() -> Inputs:
    """Return what a load reads that is not told."""
    return _isolation[-1] if _isolation else Inputs()


@contextmanager
def isolated(
    environ: Mapping[str, str] | None = None,
    path: StrPath | None = None,
    profiles: Sequence[str] = (),
    **overrides: Any,
) -> Iterator[None]:
    """Keep the machine's environment and files out of every load in the whole process.

    ``MessagingSettings(...)`` then sees its keyword arguments, ``overrides``, ``environ`` and the
    file ``path``, and nothing else. This is what tests want. Blocks can be nested: the overrides
    of an inner one come on top of the outer one's.
    """
    outer = _isolation[-1].overrides if _isolation else {}
    inputs = Inputs(
        environ=dict(environ or {}),
        path=path,
        profiles=tuple(profiles),
        discover=False,
        dotenv=(),
        overrides=with_overrides(outer, overrides),
    )
    _isolation.append(inputs)
    try:
        yield
    finally:
        _isolation.remove(inputs)


def merged(lower: Mapping[str, Any], higher: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested data merged: mappings deeply, everything else replaced by the higher one."""
    result = {name: merged(v, {}) if isinstance(v, Mapping) else v for name, v in lower.items()}
    for name, value in higher.items():
        inner = result.get(name)
        if isinstance(value, Mapping):
            result[name] = merged(inner if isinstance(inner, Mapping) else {}, value)
        else:
            result[name] = value
    return result


def with_overrides(lower: Mapping[str, Any], higher: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments merged; one that has no end is kept as it is, for the load to refuse it."""
    below, endless_below = _by_end(lower)
    above, endless_above = _by_end(higher)
    return merged(below, above) | endless_below | endless_above


def _by_end(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    endless = {name: value for name, value in values.items() if excess(value) is not None}
    return {name: value for name, value in values.items() if name not in endless}, endless


def with_changes(inputs: Inputs, **changes: object) -> Inputs:
    """Return ``inputs`` with those of the changes that are not None."""
    return replace(inputs, **{name: value for name, value in changes.items() if value is not None})  # type: ignore[arg-type]


def as_path(path: StrPath) -> Path:
    """Return a path with ``~`` expanded, as it is where no user of that name has a home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
