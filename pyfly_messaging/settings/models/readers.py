"""How single values are read, from Python, YAML and text alike.

Text is what an environment variable or a placeholder gives, so each reader takes it in exactly one
way. Nothing is coerced by surprise: ``True`` is no number, ``"1.0"`` no whole number and ``"y"``
no boolean. No error message repeats the value, which may be a secret.
"""

from __future__ import annotations

import builtins
import math
import re
from typing import Any, NoReturn

from pydantic import SecretStr
from pydantic_core import PydanticCustomError

from pyfly_messaging.message import check_topic
from pyfly_messaging.policy import TOPIC_PLACEHOLDER
from pyfly_messaging.settings.text.durations import parse_duration
from pyfly_messaging.settings.text.local_files import no_path
from pyfly_messaging.settings.text.sizes import parse_size

_TOO_LARGE = 2**63
_WHOLE = re.compile(r"[+-]?\d+")
_FLAGS = {"true": True, "false": False, "1": True, "0": False}
_HOST = r"(?:\[[0-9A-Fa-f:.%\w]+\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?)"
_SERVER = re.compile(rf"({_HOST})(?::(\d{{1,5}}))?")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#].*")
_ADDRESS = re.compile(r"\[[0-9A-Fa-f:.]+(%\w+)?\]")
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
DEFAULT_KAFKA_PORT = 9092


def _refuse(kind: str, message: str, **context: object) -> NoReturn:
    raise PydanticCustomError(kind, message.replace("{", "{{").replace("}", "}}"), context or None)


def read_whole(value: object) -> object:
    """Return a whole number."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _TOO_LARGE:
        return value
    if isinstance(value, str) and len(value) < 32 and _WHOLE.fullmatch(value.strip()):
        return int(value)
    _refuse("whole_number", "expected a whole number")


def read_number(value: object) -> object:
    """Return a finite number."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = None
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return value
    _refuse("number", "expected a number")


def read_flag(value: object) -> object:
    """Return a boolean."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and (flag := _FLAGS.get(value.strip().lower())) is not None:
        return flag
    _refuse("boolean", "expected true or false")


def read_text(value: object) -> object:
    """Return text that is not empty."""
    if not isinstance(value, str):
        _refuse("text", "expected text")
    if not value.strip():
        _refuse("empty", "must not be empty")
    return value


def read_path(value: object) -> object:
    """Return the path of a local file. Text that is the content of one is not repeated."""
    read_text(value)
    if isinstance(value, str) and (problem := no_path(value)):
        _refuse("path", problem)
    return value


def read_secret(value: object) -> object:
    """Return a secret that is not empty."""
    if isinstance(value, SecretStr):
        read_text(value.get_secret_value())
        return value
    return read_text(value)


def read_secret_url(value: object) -> SecretStr:
    """Return a URL with a scheme and a host, which may hold a password of any characters."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    read_text(text)
    if not isinstance(text, str) or _URL.fullmatch(text.strip()) is None:
        _refuse("secret_url", "expected a URL: scheme://user:password@host:port/path")
    return SecretStr(text.strip())


def read_seconds(value: object) -> float:
    """Return a duration in seconds."""
    try:
        return parse_duration(value)
    except ValueError as refused:
        problem = str(refused)
    _refuse("duration", problem)


def read_size(value: object) -> int:
    """Return a size in bytes."""
    try:
        return parse_size(value)
    except ValueError as refused:
        problem = str(refused)
    _refuse("size", problem)


def read_whole_seconds(value: object) -> int:
    """Return a duration in whole seconds."""
    seconds = read_seconds(value)
    if seconds != int(seconds):
        _refuse("duration", "expected whole seconds")
    return int(seconds)


def read_optional_seconds(value: object) -> object:
    """Return a duration in seconds, or None."""
    if value is None or (isinstance(value, str) and value.strip().lower() in {"none", "null"}):
        return None
    return read_seconds(value)


def read_acks(value: object) -> object:
    """Return the acknowledgements that a producer waits for."""
    if isinstance(value, bool):
        _refuse("literal_error", "expected one of: all, 1, 0", expected="'all', 1 or 0")
    return int(value) if isinstance(value, str) and value in {"0", "1"} else value


def split_list(value: object) -> object:
    """Return text as a list: JSON when it begins with ``[``, else separated by commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("[") and not _ADDRESS.match(value.lstrip()):
        import json

        try:
            return json.loads(value)
        except ValueError:
            problem = 'expected a list: a,b or ["a", "b"], but this JSON is broken'
        _refuse("broken_json", problem)
    return [item.strip() for item in value.split(",")]


def read_list(value: object) -> object:
    """Return a list, from text as well."""
    items = split_list(value)
    if not isinstance(items, list | tuple):
        _refuse("list", "expected text or a list")
    return tuple(items)


def read_server(value: object) -> str:
    """Return host:port of a Kafka broker, with the default port where none is given."""
    if not isinstance(value, str):
        _refuse("server", "expected host:port")
    text = value.strip()
    if "://" in text:
        _refuse("server_url", "expected host:port, not a URL")
    match = _SERVER.fullmatch(text)
    if match is None:
        _refuse("server", "expected host:port")
    port = int(match[2]) if match[2] else DEFAULT_KAFKA_PORT
    if not 1 <= port <= 65535:
        _refuse("port", "the port must be from 1 to 65535")
    return f"{match[1]}:{port}"


def at_least_one(value: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a list that is not empty."""
    if not value:
        _refuse("empty", "must not be empty")
    return value


def read_host(value: object) -> object:
    """Return the name or address of a machine."""
    text = read_text(value)
    assert isinstance(text, str)  # noqa: S101 - _text has checked it
    if "://" in text:
        _refuse("server_url", "expected a host, not a URL")
    if ":" in text and not (text.startswith("[") or text.count(":") > 1):
        _refuse("host_port", "expected a host without a port")
    if not re.fullmatch(_HOST, text) and not re.fullmatch(r"[0-9A-Fa-f:.]+(%\w+)?", text):
        _refuse("host", "expected a host name or address")
    return text


def read_topic(value: object) -> object:
    """Return a topic."""
    try:
        check_topic(read_text(value))
    except ValueError:
        _refuse_topic()
    return value


def _refuse_topic() -> NoReturn:
    _refuse(
        "topic",
        "a topic has 1 to 249 ASCII letters, digits, '.', '_' and '-' (and is not '.' or '..')",
    )


def read_dead_letter_topic(value: object) -> object:
    """Return a dead-letter topic, with {topic} for the topic."""
    text = read_text(value)
    assert isinstance(text, str)  # noqa: S101 - _text has checked it
    if text == TOPIC_PLACEHOLDER:
        _refuse(
            "dead_letter_loop", "this is the topic itself: spent messages would return for ever"
        )
    read_topic(text.replace(TOPIC_PLACEHOLDER, "topic"))
    return text


def read_exception_name(value: object) -> object:
    """Return the name of an exception."""
    if not isinstance(value, str) or not _DOTTED.fullmatch(value):
        _refuse("exception_name", "expected the name of an exception: ValueError, shop.errors.Bad")
    if "." not in value:
        builtin = getattr(builtins, value, None)
        if not (isinstance(builtin, type) and issubclass(builtin, BaseException)):
            _refuse("exception_unknown", "not a built-in exception; others need their module")
    return value
