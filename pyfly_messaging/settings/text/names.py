"""The names of settings, as Python, YAML and people write them."""

from __future__ import annotations

PREFIX = "pyfly.messaging"
"""What all settings stand below, in files and in messages."""


def canonical(key: str) -> str:
    """Return a YAML key as a field's name: hyphens become underscores."""
    return key.replace("-", "_")


def canonical_name(name: str) -> str:
    """Return the name of a listener as it is compared: lower case, with hyphens."""
    return name.replace("_", "-").lower()


def kebab(key: str) -> str:
    """Return a field's name as it is written in YAML."""
    return key.replace("_", "-")


def dotted(path: tuple[str | int, ...]) -> str:
    """Return a path as people write it: ``listeners.on-order.retries``, ``servers[1].port``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{kebab(part)}" for part in path)
    return "".join(parts).removeprefix(".")


def full(path: tuple[str | int, ...]) -> str:
    """Return the full dotted name of a setting: ``pyfly.messaging.kafka.acks``."""
    return f"{PREFIX}.{dotted(path)}" if path else PREFIX


def is_within(name: str, around: str) -> bool:
    """Tell whether a full dotted name is that of a setting, or of what is below it."""
    return name.startswith(around) and name[len(around) : len(around) + 1] in {"", ".", "["}
