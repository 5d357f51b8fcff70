"""The wording of what is wrong with keys, shapes and values of a source.

It is imported only when something is wrong.
"""

from __future__ import annotations

import re
from functools import lru_cache

from pyfly_messaging.settings.binding.given import Given, Key
from pyfly_messaging.settings.catalogue.tree import Setting
from pyfly_messaging.settings.catalogue.wording import expectation
from pyfly_messaging.settings.diagnostics.codes import CODES
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic, Related
from pyfly_messaging.settings.diagnostics.origins import Origin, Path
from pyfly_messaging.settings.models.deprecation import Deprecation
from pyfly_messaging.settings.models.provider import entry_point_names
from pyfly_messaging.settings.text.lookalikes import lookalike
from pyfly_messaging.settings.text.names import PREFIX, canonical, dotted, full
from pyfly_messaging.settings.text.phrases import one_of
from pyfly_messaging.settings.text.placeholders import Refused
from pyfly_messaging.settings.text.suggest import closest


def twice(first: Key, second: Key, path: Path) -> Diagnostic:
    """Complain about a key that is given twice, in one spelling or two."""
    same = first.text == second.text
    code = "CFG012" if same else "CFG013"
    message = (
        f"duplicate key {second.text!r}"
        if same
        else f"{first.text!r} and {second.text!r} are the same setting"
    )
    return Diagnostic(
        code=code,
        message=message,
        setting=full(path),
        origin=second.origin,
        label="given again here",
        help=CODES[code].cure,
        related=(Related(origin=first.origin, label="first given here"),),
    )


def unknown_key(root: Setting, setting: Setting, key: Key, item: Given, path: Path) -> Diagnostic:
    """Complain about a key that no setting has: a slip, the wrong level, or nothing known."""
    section = dotted(path) or "pyfly.messaging"
    found = lookalike(key.text)
    if found is not None:
        return Diagnostic(
            code="CFG008",
            message=f"{found[1]} in the key {key.text!r}",
            origin=key.origin,
            label="this is no plain text",
            help=CODES["CFG008"].cure,
        )
    others = () if path else entry_point_names()
    near = closest(key.text, [*setting.names(), *others])
    elsewhere = _elsewhere(root, key.text, path)
    exact = [place for place in elsewhere if canonical(place[-1]) == canonical(key.text).lower()]
    if exact and (near is None or canonical(near) != canonical(key.text).lower()):
        places = [dotted(place[:-1]) for place in exact]
        where = " or ".join(f"{place}:" if place else "pyfly: messaging:" for place in places[:3])
        return Diagnostic(
            code="CFG109",
            message=f"{key.text!r} is not a setting of {section}",
            setting=full((*path, key.text)),
            origin=key.origin,
            label="at the wrong level",
            help=f"{exact[0][-1].replace('_', '-')} belongs under {where}",
        )
    label = f"not a setting of {section}"
    if "." in key.text and root.find(tuple(key.text.removeprefix("pyfly.messaging.").split("."))):
        help_ = "write one key a line, each level indented below the other"
    elif near is not None:
        help_ = f'did you mean "{near}"?'
    elif elsewhere:
        help_ = f'did you mean "{dotted(elsewhere[0])}"?'
    else:
        help_ = f"{section} takes: {one_of(setting.names())}"
    return Diagnostic(
        code="CFG101",
        message=f"unknown key {key.text!r}",
        setting=full((*path, key.text)),
        origin=key.origin,
        label=label,
        help=help_,
    )


def section_expected(setting: Setting, given: Given, path: Path) -> Diagnostic:
    """Complain about a single value or a list where a section belongs."""
    name = dotted(path) or "pyfly.messaging"
    names = setting.names()
    if (joined := no_mapping(given, setting, path)) is not None:
        return joined
    if given.kind == "list":
        help_ = "remove the '-' before its keys"
    elif setting.shape == "named":
        help_ = f"write the names below {name}:, each with its own settings"
    else:
        help_ = (
            f"write keys below {name}:, for example {names[0]}:" if names else CODES["CFG110"].cure
        )
    return Diagnostic(
        code="CFG110",
        message=f"{full(path)} is a section",
        setting=full(path),
        origin=given.origin,
        label=f"expected keys with values, got {given.what}",
        help=help_,
    )


def not_mergeable(origin: Origin) -> Diagnostic:
    """Complain about a merge key with something else than the alias of a section."""
    return Diagnostic(
        code="CFG103",
        message="'<<' takes the alias of a section",
        origin=origin,
        label="expected an alias such as *name",
        help="write <<: *name, with &name where the section stands",
    )


def secret_key(key: Key) -> Diagnostic:
    """Complain about a key that is the alias of a secret."""
    return Diagnostic(
        code="CFG101",
        message="a key is the alias of a secret",
        origin=key.origin,
        label="another place uses this as the value of a secret",
        help="write the key out, without an alias",
    )


def bare_key(key: Key, path: Path) -> Diagnostic:
    """Complain about a word in braces that has neither a colon nor a value."""
    section = dotted(path) or PREFIX
    return Diagnostic(
        code="CFG006",
        message=f"a colon is missing in {section}",
        setting=full(path),
        origin=key.origin,
        label="neither a key with a colon nor a value",
        help="write {key: value}, with a colon and a space",
    )


def deprecated(mark: Deprecation, origin: Origin, path: Path) -> Diagnostic:
    """Say that a setting is deprecated, or that it has been removed."""
    removed = mark.level == "error"
    return Diagnostic(
        code="CFG121" if removed else "CFG120",
        severity="error" if removed else "warning",
        message=f"{full(path)} {'was removed' if removed else 'is deprecated'} since {mark.since}",
        setting=full(path),
        origin=origin,
        label=mark.reason,
        help=f"use {full(mark.target)}" if mark.target else "remove it",
    )


def no_mapping(given: Given, setting: Setting, path: Path) -> Diagnostic | None:
    """Complain about ``provider:kafka`` and ``provider kafka``, which YAML takes for text."""
    match = re.match(r"([\w-]+)(:?)\s*\S", given.text or "")
    if match is None or not given.plain:
        return None
    word = match[1]
    child = setting.children.get(canonical(word))
    if child is None and word not in {"pyfly", "messaging"}:
        return None
    if given.source is not None and given.span is not None:
        given.source.show_until(given.span, given.span[0] + match.end(2))
        if child is not None and not child.secret:
            given.source.show(*given.span)
    return Diagnostic(
        code="CFG006",
        message="a space is missing after ':'" if match[2] else "a colon is missing",
        setting=full(path),
        origin=given.origin,
        label="YAML takes this for plain text",
        help=f"write {word}: and then the value",
    )


@lru_cache(maxsize=64)
def _places(root: Setting) -> dict[str, list[tuple[str, ...]]]:
    """Return the paths of all settings and sections by their names."""
    found: dict[str, list[tuple[str, ...]]] = {}
    stack = [root]
    while stack:
        node = stack.pop(0)
        children = [*node.children.values(), *((node.item,) if node.item else ())]
        for child in children:
            if child.key != "*" and child.deprecation is None:
                found.setdefault(child.name, []).append(child.path)
        stack += children
    return found


def _elsewhere(root: Setting, key: str, path: Path) -> list[tuple[str, ...]]:
    """Return the paths of settings of (nearly) this name, those below ``path`` first."""
    places = _places(root)
    near = closest(key, places)
    found = places[near] if near is not None else []
    found = [place for place in found if "*" not in place] or found
    return sorted(found, key=lambda place: place[: len(path)] != path)


def wrong_shape(setting: Setting, given: Given, path: Path) -> Diagnostic:
    """Complain about a list or section where a single value belongs, and the reverse."""
    if setting.shape == "scalar" and given.kind == "list":
        help_ = "give one value, without '-' and without brackets"
    elif setting.shape == "items":
        help_ = "write a list below it: each item begins with '-' and has keys with values"
    elif setting.shape == "list":
        help_ = "write a list: [a, b], or text with commas: a, b"
    elif setting.shape == "free":
        help_ = "write keys with values below it"
    else:
        help_ = "give one value; in a text that has braces or ': ' use quotes"
    return Diagnostic(
        code="CFG103",
        message=f"invalid value for {full(path)}",
        setting=full(path),
        origin=given.origin,
        label=f"expected {expectation(setting)}, got {given.what}",
        help=help_,
    )


def no_value(setting: Setting, given: Given, path: Path) -> Diagnostic:
    """Complain about a key with nothing behind it."""
    help_ = "give it a value, or remove the key to use the default"
    if setting.optional:
        help_ = "give it a value, or write null for none"
    if setting.as_written:
        help_ += "; a value that begins with '#' needs quotes"
    return Diagnostic(
        code="CFG108",
        message=f"{full(path)} has no value",
        setting=full(path),
        origin=given.origin,
        label=f"expected {expectation(setting)}",
        help=help_,
    )


def idle_null(path: Path, origin: Origin) -> Diagnostic:
    """Complain about a null that takes nothing back."""
    return Diagnostic(
        code="CFG108",
        message=f"{full(path)} cannot be null",
        setting=full(path),
        origin=origin,
        label="null only takes back what a file below it says, and there is nothing",
        help="remove the key to use the default",
    )


def placeholder(problem: Refused, given: Given, path: Path) -> Diagnostic:
    """Complain about a placeholder in a value."""
    origin = given.origin
    if given.source is not None and given.span is not None:
        start, end = given.span
        at = given.source.text.find((given.text or "")[problem.start : problem.end], start, end)
        if at >= 0:
            origin = given.source.origin(at, at + problem.end - problem.start)
    return Diagnostic(
        code=problem.code,
        message=problem.message,
        setting=full(path),
        origin=origin,
        label=problem.label,
        help=problem.help,
    )


def runs_on(given: Given, path: Path) -> Diagnostic:
    """Complain about a text that goes on in the next line."""
    return Diagnostic(
        code="CFG007",
        message=f"the value of {full(path)} goes on in the next line",
        setting=full(path),
        origin=given.origin,
        label="YAML takes the lines below for a part of it",
        help="end it on its line: close a quote, or put the next key under this one; "
        "for a text of several lines write '|'",
    )


def lookalike_value(given: Given, path: Path) -> Diagnostic | None:
    """Complain about a value with typographic quotes around it or an invisible character in it."""
    found = lookalike(given.text or "", quotes_inside=False)
    if found is None or given.source is None or given.span is None:
        return None
    at = given.source.text.find((given.text or "")[found[0]], *given.span)
    return Diagnostic(
        code="CFG008",
        message=f"{found[1]} in the value of {full(path)}",
        setting=full(path),
        origin=given.source.origin(at, at + 1),
        label="YAML takes it for a part of the text",
        help=CODES["CFG008"].cure,
    )
