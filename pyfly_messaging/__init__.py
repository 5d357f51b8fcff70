"""Configuration-first, broker-agnostic messaging for asyncio.

Business code publishes and listens through `MessageBrokerPort`; `MessagingSettings` decides which
broker carries the messages; `bootstrap` and `run` wire listeners to it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# The only one that is not lazy: it has the name of its package, which the import of that package
# would otherwise put in its place.
from pyfly_messaging.bootstrap import bootstrap, run

if TYPE_CHECKING:
    from pyfly_messaging.errors import ConfigurationError, MessagingError
    from pyfly_messaging.factory import build_broker
    from pyfly_messaging.listener import message_listener
    from pyfly_messaging.message import Message
    from pyfly_messaging.policy import ListenerPolicy, Timeouts
    from pyfly_messaging.ports import MessageBrokerPort, MessageHandler
    from pyfly_messaging.settings import (
        KafkaSettings,
        MemorySettings,
        MessagingSettings,
        RabbitSettings,
    )

__all__ = [
    "ConfigurationError",
    "KafkaSettings",
    "ListenerPolicy",
    "MemorySettings",
    "Message",
    "MessageBrokerPort",
    "MessageHandler",
    "MessagingError",
    "MessagingSettings",
    "RabbitSettings",
    "Timeouts",
    "bootstrap",
    "build_broker",
    "message_listener",
    "run",
]

if not TYPE_CHECKING:  # so that a type checker still knows which names there are
    _HOMES = {
        "ConfigurationError": "errors",
        "KafkaSettings": "settings",
        "ListenerPolicy": "policy",
        "MemorySettings": "settings",
        "Message": "message",
        "MessageBrokerPort": "ports",
        "MessageHandler": "ports",
        "MessagingError": "errors",
        "MessagingSettings": "settings",
        "RabbitSettings": "settings",
        "Timeouts": "policy",
        "build_broker": "factory",
        "message_listener": "listener",
    }

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first used (PEP 562)."""
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{home}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
