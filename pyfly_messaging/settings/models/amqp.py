"""An AMQP address: read from a URL without stumbling over the characters of a password."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from pyfly_messaging.settings.text.secrets import MASK

_PORTS = {"amqp": 5672, "amqps": 5671}
_PLACE = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?)"
    r"(?::(?P<port>[^/]*))?(?:/(?P<vhost>.*))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AmqpAddress:
    """Where RabbitMQ is, and who connects to it.

    Attributes:
        host: Host name or address, without brackets.
        port: TCP port.
        login: Name of the user.
        password: Password, in plain text and never part of the repr.
        virtual_host: Virtual host, ``/`` by default.
        tls: Whether the connection is encrypted.

    """

    host: str
    port: int
    login: str
    password: str = field(repr=False)
    virtual_host: str
    tls: bool

    @property
    def redacted_url(self) -> str:
        """The address as a URL without the password."""
        scheme = "amqps" if self.tls else "amqp"
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[scheme] else f":{self.port}"
        vhost = "" if self.virtual_host == "/" else quote(self.virtual_host, safe="")
        return f"{scheme}://{quote(self.login, safe='')}:{MASK}@{host}{port}/{vhost}"

    def encrypted(self) -> AmqpAddress:
        """Return this address with TLS, on the port of TLS where the plain one was implied."""
        port = _PORTS["amqps"] if not self.tls and self.port == _PORTS["amqp"] else self.port
        return dataclasses.replace(self, tls=True, port=port)


def parse_url(text: str) -> AmqpAddress:
    """Read ``amqp[s]://[user[:password]@]host[:port][/virtual-host]``.

    The user-info ends at the last ``@``, so a password may hold ``#``, ``/``, ``?`` and ``@`` as
    they are. Percent-encoding is decoded where it is valid.

    Raises:
        ValueError: It is no such URL. The message repeats nothing of it.

    """
    scheme, separator, rest = text.strip().partition("://")
    if not separator or scheme.lower() not in _PORTS:
        raise ValueError("expected a URL that begins with amqp:// or amqps://")
    info, at, place = rest.rpartition("@")
    place, question, _ = place.partition("?")
    if question:
        raise ValueError("parameters after '?' are not supported; use the settings and options")
    if not place:
        raise ValueError("the host is missing")
    match = _PLACE.fullmatch(place)
    if match is None:
        raise ValueError(
            "expected host:port/virtual-host after the '@'"
            if at
            else "expected user:password@host:port/virtual-host after '://'"
        )
    login, _, password = info.partition(":") if at else ("guest", ":", "guest")
    if at and not login:
        raise ValueError("the user before ':' is missing")
    return AmqpAddress(
        host=match["host"].strip("[]"),
        port=_port(match["port"], _PORTS[scheme.lower()]),
        login=unquote(login),
        password=unquote(password),
        virtual_host=unquote(match["vhost"] or "") or "/",
        tls=scheme.lower() == "amqps",
    )


def is_well_formed(text: str) -> bool:
    """Tell whether `parse_url` takes a text."""
    try:
        parse_url(text)
    except ValueError:
        return False
    return True


def _port(text: str | None, default: int) -> int:
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise ValueError("the port must be a number from 1 to 65535")
    return int(text)
