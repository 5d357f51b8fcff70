"""The settings of the RabbitMQ adapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_core import PydanticCustomError

from pyfly_messaging.settings.models.amqp import AmqpAddress, parse_url
from pyfly_messaging.settings.models.base import Conflict, Section
from pyfly_messaging.settings.models.kafka import tls_is_off
from pyfly_messaging.settings.models.security import TlsSettings
from pyfly_messaging.settings.models.types import (
    AMQP_URL,
    Host,
    Port,
    Secret,
    Text,
    Whole,
    WholeSeconds,
)

DEFAULT_URL = "amqp://guest:guest@localhost/"
_PARTS = ("host", "port", "username", "password", "virtual_host")


def _url(value: object) -> SecretStr:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str):
        raise PydanticCustomError("text", "expected text")
    try:
        parse_url(text)
    except ValueError as refused:
        problem = str(refused)
    else:
        return SecretStr(text.strip())
    raise PydanticCustomError("amqp_url", problem)


class RabbitSettings(Section):
    """How to reach RabbitMQ, and with which guarantees. Durations are seconds."""

    forms: ClassVar[Mapping[str, frozenset[str]]] = {
        "url": frozenset({"url"}),
        "host": frozenset(_PARTS),
    }

    url: Annotated[SecretStr, BeforeValidator(_url), AMQP_URL] = Field(
        default=SecretStr(DEFAULT_URL),
        description="amqp:// or amqps://user:password@host:port/virtual-host. "
        "Use either this or host, port, username, password and virtual-host.",
    )
    host: Host | None = Field(
        default=None, description="Host name or address (localhost); instead of url."
    )
    port: Port | None = Field(
        default=None, description="Port (5672, with TLS 5671); instead of url."
    )
    username: Text | None = Field(default=None, description="User (guest); instead of url.")
    password: Secret | None = Field(
        default=None, description="Password (guest), any characters; instead of url."
    )
    virtual_host: Text | None = Field(default=None, description="Virtual host (/); instead of url.")
    tls: TlsSettings = Field(
        default_factory=TlsSettings, description="Encryption of the connection."
    )
    exchange_name: Annotated[Text, Field(max_length=127)] = Field(
        default="pyfly", description="Durable direct exchange that messages are published to."
    )
    queue_type: Literal["quorum", "classic"] = Field(
        default="quorum", description="Type of the queues: replicated (quorum), or classic."
    )
    queue_naming: Literal["group", "group-topic"] = Field(
        default="group",
        description="Name of a group's queue: the group, or group and topic.",
    )
    broadcast: Literal["shared", "instance"] = Field(
        default="shared",
        description="Listeners without a group: one durable queue for all processes, "
        "or one for each instance.",
    )
    unroutable: Literal["raise", "drop"] = Field(
        default="raise", description="What a publish does with a message that no queue takes."
    )
    prefetch: Annotated[Whole, Field(ge=1, le=65535)] = Field(
        default=100, description="Messages that a listener may hold unacknowledged."
    )
    heartbeat: Annotated[WholeSeconds, Field(ge=0, le=65535)] = Field(
        default=60, description="Interval that detects a dead connection, in whole seconds; 0: off."
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Further arguments of aio-pika's connection, checked against its signature.",
    )

    @property
    def address(self) -> AmqpAddress:
        """Where and as whom to connect, from either form. Passwords may have any characters."""
        if not self.uses_parts:
            parsed = parse_url(self.url.get_secret_value())
            return parsed.encrypted() if self.tls.enabled else parsed
        tls = self.tls.enabled
        return AmqpAddress(
            host=self.host or "localhost",
            port=self.port or (5671 if tls else 5672),
            login=self.username or "guest",
            password=self.password.get_secret_value() if self.password else "guest",
            virtual_host=self.virtual_host or "/",
            tls=tls,
        )

    @property
    def uses_parts(self) -> bool:
        """Whether the address is given as host, port and so on, and not as a URL."""
        return "url" not in self.model_fields_set and bool(self._parts_given())

    @property
    def redacted_url(self) -> str:
        """The address for logs and messages: with the user, without the password."""
        return self.address.redacted_url

    def conflicts(self) -> Iterator[Conflict]:
        """Yield two forms of the address at once, and TLS that is both on and off."""
        parts = self._parts_given()
        if "url" in self.model_fields_set and parts:
            yield Conflict(
                code="CFG202",
                fields=("url", *parts),
                message=f"url and {parts[0].replace('_', '-')} are both set",
                help="use either url, or host, port, username, password and virtual-host",
            )
            return
        address = self.address
        if address.tls and not self.tls.enabled and "enabled" in self.tls.model_fields_set:
            yield Conflict(
                code="CFG208",
                fields=("tls.enabled", "url"),
                message="the URL says amqps://, but TLS is switched off",
                help="use amqp://, or remove tls.enabled",
            )
        elif not address.tls and self.tls.given:
            yield tls_is_off(self.tls)

    def _parts_given(self) -> tuple[str, ...]:
        return tuple(name for name in _PARTS if getattr(self, name) is not None)
