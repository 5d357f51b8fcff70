"""From settings to a broker; the only module that imports adapters, each one when it is chosen."""

from __future__ import annotations

from pydantic import BaseModel

from pyfly_messaging.errors import MissingDependencyError
from pyfly_messaging.logs import get_logger
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.ports import MessageBrokerPort
from pyfly_messaging.settings import MessagingSettings
from pyfly_messaging.settings.models.provider import CLIENTS, choose, has_client

logger = get_logger("pyfly_messaging")


def build_broker(settings: MessagingSettings | None = None) -> MessageBrokerPort:
    """Return the broker that the settings choose, not started.

    Args:
        settings: What to build from; by default what the environment and ``pyfly.yaml`` say.

    Raises:
        ConfigurationError: The configuration is wrong, or the chosen adapter of another
            distribution cannot be used, or fails to build a broker.
        MissingDependencyError: The chosen provider's client library is not installed.

    """
    settings = settings or MessagingSettings()
    provider = settings.provider
    if provider == "auto":
        provider, reason = detect()
        logger.info("provider auto: %s, because %s", provider, reason)
    _require_client(provider, settings)
    timeouts, policy = settings.timeouts(), settings.listener.policy()
    match provider:
        case "kafka":
            from pyfly_messaging.adapters.kafka import KafkaAdapter

            return KafkaAdapter.from_settings(settings.kafka, timeouts=timeouts, policy=policy)
        case "rabbitmq":
            from pyfly_messaging.adapters.rabbitmq import RabbitMQAdapter

            return RabbitMQAdapter.from_settings(
                settings.rabbitmq, timeouts=timeouts, policy=policy
            )
        case "memory":
            from pyfly_messaging.adapters.memory import InMemoryMessageBroker

            logger.warning("provider memory: nothing outlives this process")
            return InMemoryMessageBroker.from_settings(
                settings.memory, timeouts=timeouts, policy=policy
            )
        case _:
            return _build_installed(settings, timeouts, policy)


def detect() -> tuple[str, str]:
    """Return what ``provider: auto`` chooses and why: aiokafka, else aio_pika, else memory."""
    return choose()


def _require_client(provider: str, settings: MessagingSettings) -> None:
    """Refuse a provider whose client is missing: the last check, for settings not loaded here."""
    package, extra = CLIENTS.get(provider, ("", ""))
    if package and not has_client(package):
        origin = settings.origin("provider")
        place = "" if origin.kind == "default" else f" ({origin})"
        raise MissingDependencyError(package, extra, wanted_by=f"provider {provider!r}{place}")


def _build_installed(
    settings: MessagingSettings, timeouts: Timeouts, policy: ListenerPolicy
) -> MessageBrokerPort:
    """Build the broker of an adapter that another distribution has installed."""
    from pyfly_messaging.settings.plugins.installed import (
        UnusableAdapterError,
        adapter_plugin,
        build,
    )

    name = settings.provider
    try:
        plugin = adapter_plugin(name)
        try:
            section = settings.section(name)
        except LookupError:  # the settings were made without a load
            section = plugin.settings.model_validate({})
        return build(name, section, timeouts, policy, _hidden(settings, section))
    except UnusableAdapterError as problem:
        raise problem.error(settings.origin("provider")) from None


def _hidden(settings: MessagingSettings, section: BaseModel) -> set[str]:
    """Return what of a section must not be shown: by its type, its name, or where it is from."""
    from pyfly_messaging.settings.catalogue.display import value_at
    from pyfly_messaging.settings.text.plain import hidden_texts, mask_value
    from pyfly_messaging.settings.text.secrets import MASK

    found = set(hidden_texts(section, mask_value(section)))
    for path, (entry, *_) in settings.provenance.entries.items():
        if MASK in str(entry.shown):
            found.update(hidden_texts(value_at(settings, path), entry.shown))
    return found
