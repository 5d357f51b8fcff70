"""Words for values and expectations, the same in reports, in `explain` and in the schema."""

from __future__ import annotations

from typing import Any, get_args, get_origin

from pyfly_messaging.settings.catalogue.annotations import UNIONS, choices_of, is_secret, unwrap
from pyfly_messaging.settings.catalogue.plain_types import plain_type
from pyfly_messaging.settings.catalogue.tree import Setting
from pyfly_messaging.settings.text.phrases import one_of

ANYTHING = "value"
"""The label of what has no words."""
_SHAPES = {"section": "section", "named": "sections by name", "items": "list of sections"}
_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def type_label(setting: Setting) -> str:
    """Return what kind of value a setting takes, without its limits."""
    if setting.shape in _SHAPES:
        return _SHAPES[setting.shape]
    if setting.choices:
        return f"one of: {one_of(setting.choices)}"
    if setting.kind is not None:
        return setting.kind.label
    if setting.shape in {"list", "free"}:
        label = "list" if setting.shape == "list" else "keys with values"
        each = ANYTHING if setting.element is None else expectation(setting.element)
        return label if each == ANYTHING else f"{label}, each {each}"
    return _label_of(setting.base)


def _label_of(base: Any) -> str:
    """Return what a type takes, ANYTHING where that cannot be said in words."""
    inner, _, _ = unwrap(base)
    if get_origin(inner) in UNIONS:
        labels = [_label_of(arg) for arg in get_args(inner)]
        return ANYTHING if ANYTHING in labels else " or ".join(dict.fromkeys(labels))
    if choices := choices_of(inner):
        return f"one of: {one_of(choices)}"
    plain = plain_type(inner)
    if plain is not None:
        return plain.label
    return "secret text" if is_secret(inner) else ANYTHING


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
