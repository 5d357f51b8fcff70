"""Words for values and expectations, the same in reports, in `explain` and in the schema."""

from __future__ import annotations

from pyfly_messaging.settings.catalogue.tree import Setting
from pyfly_messaging.settings.text.phrases import one_of

_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def type_label(setting: Setting) -> str:
    """Return what kind of value a setting takes, without its limits."""
    if setting.shape == "section":
        return "section"
    if setting.shape == "named":
        return "sections by name"
    if setting.choices:
        return f"one of: {one_of(setting.choices)}"
    if setting.kind is not None:
        return setting.kind.label
    if setting.shape == "free":
        return "keys with values"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return names.get(setting.base, "secret text" if setting.secret else "value")


def limits(setting: Setting) -> list[str]:
    """Return the limits of a value in words."""
    found = []
    for constraint in setting.constraints:
        for name, words in _LIMITS.items():
            if (limit := getattr(constraint, name, None)) is not None:
                found.append(f"{words} {limit:g}")
        if (length := getattr(constraint, "max_length", None)) is not None:
            found.append(f"at most {length} characters")
        if (length := getattr(constraint, "min_length", None)) is not None:
            found.append(f"at least {length} characters")
    return found


def expectation(setting: Setting) -> str:
    """Return what a setting takes, as the end of "expected …"."""
    label = type_label(setting)
    return f"{label} ({' and '.join(found)})" if (found := limits(setting)) else label
