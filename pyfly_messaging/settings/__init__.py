"""The configuration: typed models, where their values come from, and what is wrong with them.

The rooms, each of which depends only on those after it: `views`; `root`, which is
`MessagingSettings`; `validation`; `loading`; `sources` and `plugins`; `binding`; `catalogue`;
`models` and `diagnostics`; `text`. Beside `views` stand `validate`, which validates without an
exception, and `late_errors`, for errors that are found after loading.
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
from pyfly_messaging.settings.models.provider import providers
from pyfly_messaging.settings.root import MessagingSettings

if TYPE_CHECKING:
    from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic, Severity
    from pyfly_messaging.settings.diagnostics.origins import Origin
    from pyfly_messaging.settings.models.base import Conflict
    from pyfly_messaging.settings.models.deprecation import Deprecation
    from pyfly_messaging.settings.models.types import SecretUrl, redacted_url
    from pyfly_messaging.settings.plugins.plugin import AdapterPlugin
    from pyfly_messaging.settings.sources.inputs import isolated
    from pyfly_messaging.settings.views.schema import json_schema

__all__ = [
    "AdapterPlugin",
    "AmqpAddress",
    "Conflict",
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
    "SecretUrl",
    "Section",
    "Severity",
    "ShutdownSettings",
    "StartupSettings",
    "TlsSettings",
    "isolated",
    "json_schema",
    "providers",
    "redacted_url",
]

_LATER = {
    "AdapterPlugin": "plugins.plugin",
    "Conflict": "models.base",
    "Deprecation": "models.deprecation",
    "Diagnostic": "diagnostics.diagnostic",
    "Severity": "diagnostics.diagnostic",
    "isolated": "sources.inputs",
    "json_schema": "views.schema",
    "Origin": "diagnostics.origins",
    "SecretUrl": "models.types",
    "redacted_url": "models.types",
}


def __getattr__(name: str) -> Any:
    """Import what only a load or a report needs when it is asked for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = value
    return value
