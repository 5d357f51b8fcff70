"""``kafka.options``: further arguments of aiokafka's clients, checked against their signatures."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from pyfly_messaging.errors import ConfigurationError

# What the contract depends on; an option that changed it would break a promise silently. With the
# setting that is there for it.
_OURS = {
    "acks": "kafka.acks",
    "auto_commit_interval_ms": None,
    "auto_offset_reset": "kafka.auto-offset-reset",
    "bootstrap_servers": "kafka.bootstrap-servers",
    "client_id": "kafka.client-id",
    "compression_type": "kafka.compression",
    "enable_auto_commit": None,
    "enable_idempotence": "kafka.idempotence",
    "group_id": None,
    "key_deserializer": None,
    "key_serializer": None,
    "linger_ms": "kafka.linger",
    "loop": None,
    "max_poll_interval_ms": "kafka.max-poll-interval",
    "max_poll_records": "kafka.max-in-flight",
    "rebalance_timeout_ms": "kafka.max-poll-interval",
    "sasl_mechanism": "kafka.sasl.mechanism",
    "sasl_plain_password": "kafka.sasl.password",
    "sasl_plain_username": "kafka.sasl.username",
    "security_protocol": "kafka.tls.enabled",
    "session_timeout_ms": "kafka.session-timeout",
    "ssl_context": "kafka.tls",
    "transaction_timeout_ms": None,
    "transactional_id": None,
    "value_deserializer": None,
    "value_serializer": None,
}
_CLIENTS = (AIOKafkaProducer, AIOKafkaConsumer, AIOKafkaAdminClient)


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse what no client takes, what is no number, and what a setting or the adapter decides.

    Raises:
        ConfigurationError: Naming the option, and what to use instead.

    """
    known = {
        name: parameter.default
        for cls in _CLIENTS
        for name, parameter in inspect.signature(cls).parameters.items()
    }
    for name, value in options.items():
        if name in _OURS:
            setting = _OURS[name]
            way_out = f"set {setting} instead" if setting else "the adapter decides it; remove it"
            raise ConfigurationError(f"kafka.options: {name} is not yours to set: {way_out}")
        if name not in known:
            raise ConfigurationError(
                f"kafka.options: {name} is no argument of an aiokafka client; it takes"
                f" {', '.join(sorted(known.keys() - _OURS.keys()))}"
            )
        if _is_number(known[name]) and not _is_number(value):
            raise ConfigurationError(
                f"kafka.options: {name} must be a number, by default {known[name]}, not"
                f" {type(value).__name__}"
            )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def options_for(cls: Callable[..., object], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those options that one of the clients takes."""
    taken = inspect.signature(cls).parameters
    return {name: value for name, value in options.items() if name in taken}
