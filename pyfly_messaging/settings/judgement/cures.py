"""The way out of a value that was refused: what was most likely meant, or what to write."""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pyfly_messaging.settings.catalogue.annotations import choices_of, unwrap
from pyfly_messaging.settings.catalogue.tree import Setting
from pyfly_messaging.settings.diagnostics.codes import CODES
from pyfly_messaging.settings.text.phrases import one_of
from pyfly_messaging.settings.text.secrets import MASK
from pyfly_messaging.settings.text.suggest import closest

_TRUE = {"yes", "y", "on", "enable", "enabled", "t", "1"}
_FALSE = {"no", "n", "off", "disable", "disabled", "f", "0", "none"}
_LARGE = 1e15
_UNITS = (
    ("ms", ("ms", "msec", "millis", "milliseconds", "millisecond")),
    ("s", ("s", "sec", "secs", "second", "seconds")),
    ("m", ("m", "min", "mins", "minute", "minutes")),
    ("h", ("h", "hr", "hrs", "hour", "hours")),
    ("d", ("d", "day", "days")),
)


@dataclass(frozen=True, slots=True)
class _Refused:
    kind: str
    setting: Setting
    context: Mapping[str, Any]


def cure(kind: str, value: str, setting: Setting, context: Mapping[str, Any]) -> str:
    """Return what to do about a value, empty when there is nothing better than the code's own cure.

    Args:
        kind: The type of pydantic's error.
        value: The value as it may be shown.
        setting: The setting it was given for.
        context: The context of pydantic's error.

    """
    helper = _HELPERS.get(kind)
    return helper(_Refused(kind, setting, context), value) if helper is not None else ""


def one_of_several(value: str, setting: Setting) -> str:
    """Return what to do about a value that is of none of several types."""
    choices = [str(c) for each in get_args(setting.base) for c in choices_of(unwrap(each)[0])]
    near = closest(value.strip("'\" "), choices)
    return f'did you mean "{near}"?' if near else ""


def _help_choice(refusal: _Refused, value: str) -> str:
    choices = refusal.context.get("providers") or refusal.setting.choices
    words = [str(choice) for choice in choices]
    near = closest(value.strip("'\" "), words)
    return f'did you mean "{near}"?' if near else f"use one of: {one_of(words)}"


def _help_number(refusal: _Refused, value: str) -> str:
    if value in {"True", "False"}:
        return "write a number, not true or false"
    try:
        number = float(value.strip("'\" ").replace(",", ".").replace("_", ""))
    except ValueError:
        return f"write digits only, for example {refusal.context.get('example', _example(refusal))}"
    if not abs(number) < _LARGE:
        return "write a plain number, not larger than needed"
    whole = int(number)
    return f"did you mean {whole}?" if refusal.kind == "whole_number" else "write a plain number"


def _example(refusal: _Refused) -> str:
    default = refusal.setting.default
    return str(default) if isinstance(default, int | float) else "1"


def _help_boolean(refusal: _Refused, value: str) -> str:
    word = value.strip("'\" ").lower()
    if word in _TRUE or closest(word, ["true"]):
        return "did you mean true?"
    if word in _FALSE or closest(word, ["false"]):
        return "did you mean false?"
    return "write true or false"


def _help_duration(refusal: _Refused, value: str) -> str:
    match = re.fullmatch(r"\s*(\d+(?:[.,]\d+)?)\s*([a-zA-Z]+)\s*", value)
    if match:
        number, unit = match[1].replace(",", "."), match[2].lower()
        for short, words in _UNITS:
            if unit in words and value != f"{number}{short}":
                return f'did you mean "{number}{short}"?'
    return CODES["CFG105"].cure


def _help_size(refusal: _Refused, value: str) -> str:
    match = re.fullmatch(r"\s*(\d+(?:[.,]\d+)?)\s*([kmg])i?(?:b|bytes?)?\s*", value.lower())
    if match:
        meant = f"{match[1].replace(',', '.')}{match[2].upper()}iB"
        if meant != value:
            return f'did you mean "{meant}"?'
    return CODES["CFG115"].cure


def _help_server(refusal: _Refused, value: str) -> str:
    rest = value.partition("://")[2].rpartition("@")[2].partition("/")[0]
    if refusal.kind == "server_url" and rest and MASK not in rest:
        return f'did you mean "{rest}"?'
    return "write host:port, for example broker-1:9092; several with commas"


def _help_host(refusal: _Refused, value: str) -> str:
    host, _, port = value.rpartition("://")[2].partition("/")[0].rpartition(":")
    if refusal.kind == "host_port" and host:
        return f"write host: {host} and port: {port}"
    return "write the name of the machine alone, for example mq.internal"


def _help_url(refusal: _Refused, _: str) -> str:
    return (
        "write amqp://user:password@host:port/virtual-host, or use host, port, username, password "
        "and virtual-host, which take any characters"
    )


def _help_secret_url(refusal: _Refused, _: str) -> str:
    return "write scheme://user:password@host:port/path; user, password and port can be left out"


def _help_exception(refusal: _Refused, value: str) -> str:
    near = closest(value, [n for n in dir(builtins) if n.endswith(("Error", "Exception"))])
    return f'did you mean "{near}"?' if near else CODES["CFG111"].cure


def _help_structure(refused: _Refused, _: str) -> str:
    return 'in YAML write a list or keys below it; in a variable write JSON: ["a"], {"key": "b"}'


_HELPERS: dict[str, Callable[[_Refused, str], str]] = {
    "literal_error": _help_choice,
    "enum": _help_choice,
    "provider": _help_choice,
    "whole_number": _help_number,
    "number": _help_number,
    "int_parsing": _help_number,
    "float_parsing": _help_number,
    "boolean": _help_boolean,
    "bool_parsing": _help_boolean,
    "duration": _help_duration,
    "time_delta_parsing": _help_duration,
    "time_delta_type": _help_duration,
    "size": _help_size,
    "server": _help_server,
    "server_url": _help_server,
    "port": _help_server,
    "host": _help_host,
    "host_port": _help_host,
    "amqp_url": _help_url,
    "secret_url": _help_secret_url,
    "list_type": _help_structure,
    "tuple_type": _help_structure,
    "set_type": _help_structure,
    "dict_type": _help_structure,
    "model_type": _help_structure,
    "exception_name": _help_exception,
    "exception_unknown": _help_exception,
}
