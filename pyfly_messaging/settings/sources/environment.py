"""Variables as a layer: every one that begins with the prefix must reach a setting."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pyfly_messaging.settings.binding.binder import Binder
from pyfly_messaging.settings.binding.given import Given, from_python
from pyfly_messaging.settings.binding.layers import Layer
from pyfly_messaging.settings.catalogue.naming import Naming
from pyfly_messaging.settings.catalogue.tree import Setting
from pyfly_messaging.settings.diagnostics.codes import CODES
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic, Related, Report
from pyfly_messaging.settings.diagnostics.origins import Origin
from pyfly_messaging.settings.sources.variables import Variable
from pyfly_messaging.settings.text.names import canonical_name, dotted
from pyfly_messaging.settings.text.nesting import MOST_DEPTH, Excess, excess
from pyfly_messaging.settings.text.secrets import MASK, looks_secret

# What Kubernetes puts into every container for a service called pyfly-messaging (and for one
# called pyfly-messaging--x): https://kubernetes.io/docs/tutorials/services/connect-applications-service/
_KUBERNETES = re.compile(
    r"_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$"
)


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
        from pyfly_messaging.settings.sources.near_variables import unknown_variable

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
        from pyfly_messaging.settings.sources.near_variables import near_miss

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
