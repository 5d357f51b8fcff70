"""``rabbitmq.options``: further arguments of the connection, checked before it is made."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyfly_messaging.errors import ConfigurationError

# Arguments of aio_pika.connect that other settings give, and which.
ELSEWHERE = {
    "url": "url",
    "host": "host",
    "port": "port",
    "login": "username",
    "password": "password",
    "virtualhost": "virtual-host",
    "ssl": "tls.enabled",
    "ssl_options": "tls",
    "ssl_context": "tls",
    "heartbeat": "heartbeat",
}
_NUMBERS = ("timeout", "happy_eyeballs_delay", "interleave")
_TEXTS = ("name", "auth")
_TABLES = ("client_properties",)
KNOWN = (*_NUMBERS, *_TEXTS, *_TABLES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What ``rabbitmq.options`` says, by where it goes.

    Attributes:
        timeout: Seconds for one attempt to connect.
        name: What RabbitMQ's overview calls the connections.
        properties: Further properties of the client.
        query: What aiormq reads from its URL.
        socket: Arguments of the socket's creation.

    """

    timeout: float | None = None
    name: str = "pyfly"
    properties: Mapping[str, Any] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    socket: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """Return checked options.

        Raises:
            ConfigurationError: One that aio-pika does not take, or of the wrong type.

        """
        for name, value in given.items():
            _check(name, value)
        return cls(
            timeout=given.get("timeout"),
            name=given.get("name", "pyfly"),
            properties=given.get("client_properties", {}),
            query={"auth": given["auth"]} if "auth" in given else {},
            socket={n: given[n] for n in ("happy_eyeballs_delay", "interleave") if n in given},
        )

    def client_properties(self, purpose: str) -> dict[str, Any]:
        """Return what the connection for ``purpose`` tells the broker about itself."""
        return {"connection_name": f"{self.name} {purpose}", **self.properties}


def _check(name: str, value: object) -> None:
    if name in ELSEWHERE:
        raise ConfigurationError(
            f"rabbitmq.options: {name!r} has a setting of its own: rabbitmq.{ELSEWHERE[name]}"
        )
    if name not in KNOWN:
        near = difflib.get_close_matches(name, KNOWN, 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; it takes {', '.join(KNOWN)}"
        raise ConfigurationError(f"rabbitmq.options: aio-pika takes no {name!r}{hint}")
    if name in _NUMBERS:
        wanted, fits = "a number", isinstance(value, int | float) and not isinstance(value, bool)
    elif name in _TEXTS:
        wanted, fits = "text", isinstance(value, str)
    else:
        wanted, fits = "a mapping", isinstance(value, Mapping)
    if not fits:
        raise ConfigurationError(
            f"rabbitmq.options: {name!r} must be {wanted}, not {type(value).__name__}"
        )
