"""The wording of what is wrong with values. Imported only when something is wrong."""

from __future__ import annotations

from pyfly_messaging.settings.binding.given import Given
from pyfly_messaging.settings.catalogue.tree import Setting
from pyfly_messaging.settings.catalogue.wording import expectation
from pyfly_messaging.settings.diagnostics.codes import CODES
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic
from pyfly_messaging.settings.diagnostics.origins import Origin, Path
from pyfly_messaging.settings.text.lookalikes import lookalike
from pyfly_messaging.settings.text.names import full
from pyfly_messaging.settings.text.placeholders import Refused


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
