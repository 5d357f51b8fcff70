"""The typed models of the settings: plain frozen values that read no file and no environment.

It depends on `text`, and on `policy` and `message` of the library. `provider` alone looks further,
for the names of adapters that are installed.
"""

from pyfly_messaging.settings.models.amqp import AmqpAddress
from pyfly_messaging.settings.models.guardrails import GuardrailSettings
from pyfly_messaging.settings.models.kafka import KafkaSettings
from pyfly_messaging.settings.models.lifecycle import (
    MemorySettings,
    ShutdownSettings,
    StartupSettings,
)
from pyfly_messaging.settings.models.listener import ListenerOverride, ListenerSettings
from pyfly_messaging.settings.models.rabbitmq import RabbitSettings
from pyfly_messaging.settings.models.security import SaslSettings, TlsSettings

__all__ = [
    "AmqpAddress",
    "GuardrailSettings",
    "KafkaSettings",
    "ListenerOverride",
    "ListenerSettings",
    "MemorySettings",
    "RabbitSettings",
    "SaslSettings",
    "ShutdownSettings",
    "StartupSettings",
    "TlsSettings",
]
