"""The types of single settings, each with what it is for people and for editors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from pyfly_messaging.settings.models import readers as read
from pyfly_messaging.settings.models.amqp import is_well_formed
from pyfly_messaging.settings.text.secrets import may_show_url, show_url


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value is, for people and for editors; metadata of a type, which pydantic ignores.

    Attributes:
        label: In words.
        schema: As JSON Schema.
        as_written: Whether a YAML scalar counts as it is written, whatever YAML would make of it.
        many: Whether it is a list.
        shows_address: Of a secret URL that is shown without its password: tells whether the
            password can be told apart. Otherwise nothing of it is shown.

    """

    label: str
    schema: dict[str, Any] = field(hash=False)
    as_written: bool = False
    many: bool = False
    shows_address: Callable[[str], bool] | None = None


_ANY_TEXT = {"type": ["string", "number", "boolean"]}
_DURATION = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {
            "type": "string",
            "pattern": r"^\s*(\d+(\.\d*)?|\.\d+|(\d+(\.\d+)?(ms|s|m|h|d|MS|S|M|H|D))+)\s*$",
        },
    ]
}
_NO_DURATION = {"anyOf": [*_DURATION["anyOf"], {"type": "null"}, {"enum": ["none", "null"]}]}
_SIZE = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": r"^\s*\d+(\.\d+)?([kKmMgG][iI])?[bB]?\s*$"},
    ]
}
_TOPIC_SCHEMA = {"type": ["string", "number"], "pattern": r"^[A-Za-z0-9._-]{1,249}$"}
_DEAD_LETTER_SCHEMA = {"type": ["string", "number"], "pattern": r"^([A-Za-z0-9._-]|\{topic\})+$"}


def _list_schema(item: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [{"type": "string"}, {"type": "array", "items": item}]}


Whole = Annotated[
    int,
    BeforeValidator(read.read_whole),
    Kind(
        "whole number",
        {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^[+-]?\d+$"}]},
    ),
]
Number = Annotated[
    float,
    BeforeValidator(read.read_number),
    Kind(
        "number",
        {
            "anyOf": [
                {"type": "number"},
                {"type": "string", "pattern": r"^[+-]?[\d.]+([eE][+-]?\d+)?$"},
            ]
        },
    ),
]
Flag = Annotated[
    bool,
    BeforeValidator(read.read_flag),
    Kind("true or false", {"anyOf": [{"type": "boolean"}, {"enum": ["true", "false"]}]}),
]
Text = Annotated[str, BeforeValidator(read.read_text), Kind("text", _ANY_TEXT, as_written=True)]
FilePath = Annotated[
    str, BeforeValidator(read.read_path), Kind("path of a file", _ANY_TEXT, as_written=True)
]
Secret = Annotated[
    SecretStr, BeforeValidator(read.read_secret), Kind("secret text", _ANY_TEXT, as_written=True)
]


def _may_show(text: str) -> bool:
    """Tell whether the password in a URL can be told apart; what is no URL may be one itself."""
    return "://" in text and may_show_url(text)


SecretUrl = Annotated[
    SecretStr,
    BeforeValidator(read.read_secret_url),
    Kind("URL", _ANY_TEXT, as_written=True, shows_address=_may_show),
]
"""A URL that may hold a password: ``redis://user:password@host:port/path``.

Its repr and its dump show nothing of it, reports and ``config show`` all but the password, and
nothing where the password cannot be told apart. ``get_secret_value()`` is the URL; `redacted_url`
is what may be logged.
"""
AMQP_URL = Kind("AMQP URL", _ANY_TEXT, as_written=True, shows_address=is_well_formed)
Duration = Annotated[float, BeforeValidator(read.read_seconds), Kind("duration", _DURATION)]
Deadline = Annotated[Duration, Field(gt=0)]
OptionalDeadline = Annotated[
    Annotated[float, Field(gt=0)] | None,
    BeforeValidator(read.read_optional_seconds),
    Kind("duration, or none", _NO_DURATION),
]
WholeSeconds = Annotated[
    int, BeforeValidator(read.read_whole_seconds), Kind("duration in whole seconds", _DURATION)
]
Size = Annotated[int, BeforeValidator(read.read_size), Kind("size", _SIZE)]
Port = Annotated[Whole, Field(ge=1, le=65535)]
Host = Annotated[
    str, BeforeValidator(read.read_host), Kind("host name or address", _ANY_TEXT, as_written=True)
]
Topic = Annotated[
    str, BeforeValidator(read.read_topic), Kind("topic", _TOPIC_SCHEMA, as_written=True)
]
DeadLetterTopic = Annotated[
    str,
    BeforeValidator(read.read_dead_letter_topic),
    Kind("topic, may contain {topic}", _DEAD_LETTER_SCHEMA, as_written=True),
]
Acks = BeforeValidator(read.read_acks)
Servers = Annotated[
    tuple[Annotated[str, BeforeValidator(read.read_server)], ...],
    NoDecode,
    BeforeValidator(read.at_least_one),
    BeforeValidator(read.read_list),
    Kind("list of host:port", _list_schema({"type": "string"}), as_written=True, many=True),
]
ExceptionNames = Annotated[
    tuple[Annotated[str, BeforeValidator(read.read_exception_name)], ...],
    NoDecode,
    BeforeValidator(read.read_list),
    Kind("list of exception names", _list_schema({"type": "string"}), as_written=True, many=True),
]


def redacted_url(url: SecretStr | str) -> str:
    """Return a URL without its password, for logs and errors; ``******`` where that is in doubt."""
    return show_url(url if isinstance(url, str) else url.get_secret_value())
