"""Variables as a layer: every one that begins with the prefix must reach a setting.

For one that reaches none: what it was most likely meant to be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from pyfly_messaging.settings.binding.binder import Binder
from pyfly_messaging.settings.binding.given import Given, from_python
from pyfly_messaging.settings.binding.layers import Layer
from pyfly_messaging.settings.catalogue.naming import Naming
from pyfly_messaging.settings.catalogue.tree import Setting
from pyfly_messaging.settings.diagnostics.codes import CODES
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic, Related, Report
from pyfly_messaging.settings.diagnostics.origins import Origin
from pyfly_messaging.settings.models.provider import entry_point_names
from pyfly_messaging.settings.sources.discovery import (
    CONFIG_VARIABLE,
    PROFILES_VARIABLE,
    SECRETS_VARIABLE,
)
from pyfly_messaging.settings.sources.variables import Variable
from pyfly_messaging.settings.text.names import canonical, canonical_name, dotted, kebab
from pyfly_messaging.settings.text.nesting import MOST_DEPTH, Excess, excess
from pyfly_messaging.settings.text.phrases import one_of
from pyfly_messaging.settings.text.secrets import MASK, looks_secret
from pyfly_messaging.settings.text.suggest import closest, edit_distance

# What Kubernetes puts into every container for a service called pyfly-messaging (and for one
# called pyfly-messaging--x): https://kubernetes.io/docs/tutorials/services/connect-applications-service/
_KUBERNETES = re.compile(
    r"_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$"
)
_CONTROLS = (CONFIG_VARIABLE, PROFILES_VARIABLE, SECRETS_VARIABLE)


class _EndlessError(Exception):
    """JSON is nested too deep, or has too many values."""


class EnvironmentReader:
    """Binds variables to settings."""

    def __init__(self, root: Setting, naming: Naming, report: Report) -> None:
        self._root = root
        self._naming = naming
        self._report = report

    def read(self, name: str, found: Iterable[Variable]) -> Layer:
        """Return the layer of some variables; report those that reach no setting."""
        layer = Layer(name)
        binder = Binder(self._root, layer, self._report)
        prefix = self._naming.prefix
        mine: dict[str, Variable] = {}
        for variable in found:
            upper = variable.name.upper()
            if upper in mine:
                self._report(_two_casings(mine[upper], variable))
            else:
                mine[upper] = variable
        # Variables of whole sections first, so that those of single settings win over them.
        for upper in sorted(mine, key=lambda upper: upper.count(self._naming.delimiter)):
            parts = upper[len(prefix) :].lower().split(self._naming.delimiter.lower())
            try:
                self._bind(binder, mine[upper], parts)
            except _EndlessError as error:
                self._report(_endless(mine[upper], str(error)))
        return layer

    def _bind(self, binder: Binder, variable: Variable, parts: list[str]) -> None:
        node, path = self._root, tuple[str, ...]()
        for number, part in enumerate(parts):
            if node.shape == "free":
                self._option(binder, node, variable, (*path, "__".join(parts[number:])))
                return
            child = node.item if node.shape == "named" else node.children.get(part)
            if child is None or not part:
                if not number and (self._naming.strict or len(parts) > 1):
                    binder.layer.strangers.add(part)
                self._unknown(variable, parts, number)
                return
            path = (*path, canonical_name(part) if node.shape == "named" else child.key)
            node = child
        if not variable.text.strip():
            self._report(_empty(variable, path))
            return
        given = self._given(node, variable, path)
        if given is not None:
            binder.bind(node, given, path)

    def _given(self, node: Setting, variable: Variable, path: tuple[str, ...]) -> Given | None:
        text, origin = variable.text, variable.origin
        if node.shape == "items" or (node.shape == "any" and text.lstrip()[:1] in {"[", "{"}):
            value = _json(text)
            if isinstance(value, list) or (isinstance(value, dict) and node.shape == "any"):
                return from_python(value, origin)
            self._report(_no_json(variable, node, path))
            return None
        if node.shape in {"section", "named", "free"}:
            value = _json(text)
            if isinstance(value, dict):
                return from_python(value, origin)
            self._report(_no_section(variable, node, path, self._naming))
            return None
        return Given("scalar", origin, text, text, secret=variable.secret)

    def _option(
        self, binder: Binder, node: Setting, variable: Variable, path: tuple[str, ...]
    ) -> None:
        """Set one key of a mapping with any keys; its value is JSON where it is, else text."""
        is_text = node.element is not None and node.element.as_written
        value = None if is_text else _json(variable.text)
        given = from_python(variable.text if value is None else value, variable.origin)
        entries = binder.layer.section(path[:-1])
        entries[path[-1]] = given.plain_value()
        from pyfly_messaging.settings.catalogue.masking import masked
        from pyfly_messaging.settings.diagnostics.origins import Entry

        hidden = variable.secret or looks_secret(path[-1])
        shown = MASK if hidden else masked(node, given.plain_value())
        binder.layer.entries[path] = Entry(variable.origin, shown)

    def _unknown(self, variable: Variable, parts: list[str], number: int) -> None:
        if not self._naming.strict:
            return
        if _KUBERNETES.search(variable.name.upper()) and "_" in parts[-1]:
            return
        self._report(unknown_variable(variable, parts, number, self._root, self._naming))


def near_misses(
    origins: Mapping[str, Origin], root: Setting, naming: Naming, report: Report
) -> None:
    """Warn about variables that look as if they were meant for this library.

    Args:
        origins: Where each variable is set, by its name.
        root: The catalogue.
        naming: How variables are named.
        report: Where warnings go.

    """
    if not naming.strict:
        return
    head = naming.prefix.removesuffix(naming.delimiter)
    for name, origin in origins.items():
        upper = name.upper()
        if upper.startswith(head + "_"):
            if upper.startswith(naming.prefix) or _KUBERNETES.search(upper):
                continue
        elif not (upper.startswith("PYFLY") or naming.delimiter in upper[: len(head) + 4]):
            continue
        warning = near_miss(name, origin, root, naming)
        if warning is not None:
            report(warning)


def _json(text: str) -> Any:
    import json

    try:
        value = json.loads(text)
    except ValueError:
        return None
    except RecursionError:
        problem: Excess | None = Excess(f"nested deeper than {MOST_DEPTH} levels")
    else:
        problem = excess(value)
    if problem is not None:
        raise _EndlessError(problem.message)
    return value


def _endless(variable: Variable, message: str) -> Diagnostic:
    return Diagnostic(
        code="CFG016",
        message=f"the JSON of {variable.name}: {message}",
        origin=variable.origin,
        help="check that this is the right value",
    )


def _two_casings(first: Variable, second: Variable) -> Diagnostic:
    keep = first if first.name.isupper() else second
    return Diagnostic(
        code="ENV003",
        message=f"{first.name} and {second.name} are the same variable in two casings",
        origin=second.origin,
        help=f"keep {keep.name} and unset the other",
        related=(Related(origin=first.origin, label="the other casing"),),
    )


def _empty(variable: Variable, path: tuple[str, ...]) -> Diagnostic:
    return Diagnostic(
        code="ENV004",
        message=f"{variable.name} is set, but empty",
        setting=f"pyfly.messaging.{dotted(path)}",
        origin=variable.origin,
        help=CODES["ENV004"].cure,
    )


def _no_section(
    variable: Variable, node: Setting, path: tuple[str, ...], naming: Naming
) -> Diagnostic:
    broken = variable.text.lstrip()[:1] in {"{", "["}
    names = list(node.children.values())
    example = naming.variable((*path, names[0].key)) if names else f"{variable.name}__..."
    return Diagnostic(
        code="ENV006" if broken else "ENV005",
        message=f"{variable.name} names the section {dotted(path)}, not a single setting",
        setting=f"pyfly.messaging.{dotted(path)}",
        origin=variable.origin,
        label="its value is no valid JSON object" if broken else "it cannot have a single value",
        help=f"set single settings, for example {example}"
        + (', or give an object: {"key": "value"}' if broken else ""),
    )


def _no_json(variable: Variable, node: Setting, path: tuple[str, ...]) -> Diagnostic:
    from pyfly_messaging.settings.catalogue.wording import expectation

    return Diagnostic(
        code="ENV006",
        message=f"{variable.name} holds no JSON",
        setting=f"pyfly.messaging.{dotted(path)}",
        origin=variable.origin,
        label=f"expected {expectation(node)}, as JSON",
        help='write JSON: [{"key": "value"}]' if node.shape == "items" else CODES["ENV006"].cure,
    )


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
