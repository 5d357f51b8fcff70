"""Configuration-first, broker-agnostic messaging for asyncio.

Business code publishes and listens through `MessageBrokerPort`; `MessagingSettings` decides which
broker carries the messages; `bootstrap` and `run` wire listeners to it.
"""

from pyfly_messaging.bootstrap import bootstrap, run
from pyfly_messaging.errors import ConfigurationError, MessagingError
from pyfly_messaging.factory import build_broker
from pyfly_messaging.listener import message_listener
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy
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
    "bootstrap",
    "build_broker",
    "message_listener",
    "run",
]
