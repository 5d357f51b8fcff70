"""Variables that reach no setting, and what they were most likely meant to be."""

from __future__ import annotations

from functools import lru_cache

from pyfly_messaging.settings.catalogue.naming import Naming
from pyfly_messaging.settings.catalogue.tree import Setting
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic
from pyfly_messaging.settings.diagnostics.origins import Origin
from pyfly_messaging.settings.models.provider import entry_point_names
from pyfly_messaging.settings.sources.discovery import (
    CONFIG_VARIABLE,
    PROFILES_VARIABLE,
    SECRETS_VARIABLE,
)
from pyfly_messaging.settings.sources.variables import Variable
from pyfly_messaging.settings.text.names import canonical, dotted, kebab
from pyfly_messaging.settings.text.phrases import one_of
from pyfly_messaging.settings.text.suggest import closest, edit_distance

_CONTROLS = (CONFIG_VARIABLE, PROFILES_VARIABLE, SECRETS_VARIABLE)


def unknown_variable(
    variable: Variable, parts: list[str], number: int, root: Setting, naming: Naming
) -> Diagnostic:
    """Complain about a variable with the right prefix that reaches no setting.

    Args:
        variable: The variable.
        parts: The names after the prefix.
        number: The first of them that names nothing.
        root: The catalogue.
        naming: How variables are named.

    """
    part = parts[number]
    node = root.find(tuple(parts[:number])) or root
    section = dotted(tuple(parts[:number])) or "pyfly.messaging"
    inside = node.shape in {"section", "named"}
    if inside:
        label = f'"{part}" is not a setting of {section}' if part else "a name is missing"
    else:
        label = f"{section} is a single setting, nothing can be below it"
    others = () if number else entry_point_names()
    if (near := closest(part, [*node.names(), *others])) in others:
        meant: tuple[str, ...] | None = (str(near), *parts[1:])
    else:
        words = "_".join(parts).split("_")
        meant = _meant(root, parts, number) if inside else _setting_of(root, words)
    names = [child.upper().replace("-", "_") for child in node.names()]
    if meant is not None:
        help_ = f"did you mean {naming.variable(meant)}?"
    elif names:
        help_ = f"below {naming.variable(parts[:number]).rstrip('_')} there are: {one_of(names)}"
    else:
        help_ = f"use {naming.variable(parts[:number])}"
    return Diagnostic(
        code="ENV001",
        message=f"unknown environment variable {variable.name}",
        setting=f"pyfly.messaging.{dotted(tuple(parts))}",
        origin=variable.origin,
        label=label,
        help=help_,
    )


def near_miss(name: str, origin: Origin, root: Setting, naming: Naming) -> Diagnostic | None:
    """Warn about a variable with nearly the right prefix, when it is one."""
    upper = name.upper()
    if upper in _CONTROLS:
        return None
    if (control := closest(upper, _CONTROLS)) and edit_distance(upper, control, 4) < 4:
        return _warning(name, origin, control)
    meant = _without_prefix(upper, root, naming)
    if meant is None:
        return None
    return _warning(name, origin, naming.variable(meant))


def _without_prefix(upper: str, root: Setting, naming: Naming) -> tuple[str, ...] | None:
    """Return the setting that is meant when the prefix is wrong, or None when it is another's."""
    head = naming.prefix.removesuffix(naming.delimiter)
    plain_head = head.replace("_", "")
    words = [word for word in upper.split("_") if word]
    for count in range(1, min(4, len(words))):
        start = "".join(words[:count])
        if edit_distance(start, plain_head, 4) > 3:
            continue
        exact = start == plain_head
        rest = [word.lower() for word in words[count:]]
        found = _setting_of(root, rest)
        if found is not None:
            return found
        if exact:
            parts = [part.lower() for part in upper[len(head) :].strip("_").split("__")]
            near = _meant(root, parts, 0)
            return near if near is not None else tuple(rest)
    return None


def _setting_of(root: Setting, words: list[str]) -> tuple[str, ...] | None:
    """Return the setting whose name these words spell, however they are joined."""
    found = _spelt(root).get("".join(words))
    if found is not None:
        return found
    if words and words[0] in {"listener", "listeners"} and len(words) > 1:
        return ("listeners", *words[1:]) if words[0] == "listeners" else None
    return None


@lru_cache(maxsize=64)
def _spelt(root: Setting) -> dict[str, tuple[str, ...]]:
    """Return the paths of all settings of fixed names, by their letters alone."""
    leaves = [leaf for leaf in root.leaves() if "*" not in leaf.path]
    return {"".join(leaf.path).replace("_", ""): leaf.path for leaf in reversed(leaves)}


def _meant(root: Setting, parts: list[str], number: int) -> tuple[str, ...] | None:
    """Return the setting that was most likely meant, or None."""
    exact = _setting_of(root, "_".join(parts).split("_"))
    if exact is not None and exact[0] != "listeners":
        return exact
    node: Setting | None = root
    path: list[str] = []
    for part in parts:
        if node is None:
            return None
        if node.shape == "named":
            path.append(part)
            node = node.item
            continue
        near = closest(part, node.names())
        if near is None:
            return _elsewhere(root, parts[-1])
        path.append(canonical(near))
        node = node.children[canonical(near)]
    return tuple(path) if len(path) > number else None


def _elsewhere(root: Setting, part: str) -> tuple[str, ...] | None:
    places = {kebab(path[-1]): path for path in reversed(_spelt(root).values())}
    near = closest(part, reversed(places))
    return places[near] if near is not None else None


def _warning(name: str, origin: Origin, meant: str) -> Diagnostic:
    return Diagnostic(
        code="ENV002",
        severity="warning",
        message=f"the environment variable {name} is not read",
        origin=origin,
        help=f"did you mean {meant}?",
    )
