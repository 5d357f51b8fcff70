"""Keys that mean the same: the entries of a mapping by canonical name, each once."""

from __future__ import annotations

from collections.abc import Callable

from pyfly_messaging.settings.binding.given import Given, Key, show_key
from pyfly_messaging.settings.diagnostics.diagnostic import Report
from pyfly_messaging.settings.diagnostics.origins import Path


def distinct(
    entries: list[tuple[Key, Given]],
    same: Callable[[str], str],
    path: Path,
    report: Report,
) -> dict[str, tuple[Key, Given]]:
    """Return the entries of a mapping by canonical name; report keys that mean the same."""
    found: dict[str, tuple[Key, Given]] = {}
    for key, item in entries:
        name = same(key.text)
        if name in found:
            from pyfly_messaging.settings.binding.complaints import twice

            show_key(key, item)
            report(twice(found[name][0], key, path))
        else:
            found[name] = key, item
    return found
