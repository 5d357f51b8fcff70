"""The configuration: typed models, where their values come from, and what is wrong with them.

What prints, explains or validates is imported from its own module: `explain`, `show`, `schema`,
`reference`, `verdict`, `report` and `located`.
"""

from typing import TYPE_CHECKING, Any

from pyfly_messaging.settings.models import (
    AmqpAddress,
    GuardrailSettings,
    KafkaSettings,
    ListenerOverride,
    ListenerSettings,
    MemorySettings,
    RabbitSettings,
    SaslSettings,
    ShutdownSettings,
    StartupSettings,
    TlsSettings,
)
from pyfly_messaging.settings.models.base import Section
from pyfly_messaging.settings.provider import providers
from pyfly_messaging.settings.root import MessagingSettings

if TYPE_CHECKING:
    from pyfly_messaging.settings.deprecation import Deprecation
    from pyfly_messaging.settings.diagnostics import Diagnostic, Severity
    from pyfly_messaging.settings.inputs import isolated
    from pyfly_messaging.settings.origins import Origin
    from pyfly_messaging.settings.plugin import AdapterPlugin

__all__ = [
    "AdapterPlugin",
    "AmqpAddress",
    "Deprecation",
    "Diagnostic",
    "GuardrailSettings",
    "KafkaSettings",
    "ListenerOverride",
    "ListenerSettings",
    "MemorySettings",
    "MessagingSettings",
    "Origin",
    "RabbitSettings",
    "SaslSettings",
    "Section",
    "Severity",
    "ShutdownSettings",
    "StartupSettings",
    "TlsSettings",
    "isolated",
    "providers",
]

_LATER = {
    "AdapterPlugin": "plugin",
    "Deprecation": "deprecation",
    "Diagnostic": "diagnostics",
    "Severity": "diagnostics",
    "isolated": "inputs",
    "Origin": "origins",
}


def __getattr__(name: str) -> Any:
    """Import what only a load or a report needs when it is asked for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = value
    return value
