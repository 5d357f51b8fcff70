"""From listeners to subscriptions: what the configuration says about each, and the broker."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol, TypeAlias, TypeGuard

from pyfly_messaging.delivery.settlement import Settlement
from pyfly_messaging.delivery.subscription import Subscription
from pyfly_messaging.errors import ConfigurationError
from pyfly_messaging.listener import Listener
from pyfly_messaging.logs import get_logger
from pyfly_messaging.message import Message, check_group
from pyfly_messaging.policy import ListenerPolicy
from pyfly_messaging.ports import MessageBrokerPort, MessageHandler
from pyfly_messaging.settings import MessagingSettings
from pyfly_messaging.settings.late_errors import check_listener_names, located_error

logger = get_logger("pyfly_messaging")

Configured: TypeAlias = tuple[Listener, ListenerPolicy]


class PolicyBroker(MessageBrokerPort, Protocol):
    """A broker that keeps a policy for each listener; every adapter of this library is one."""

    async def subscribe(
        self,
        topic: str,
        handler: MessageHandler,
        group: str | None = None,
        *,
        policy: ListenerPolicy | None = None,
        name: str | None = None,
    ) -> None:
        """Register a handler under a name, with what happens around it."""
        ...


def configure(listeners: Iterable[Listener], settings: MessagingSettings) -> list[Configured]:
    """Return the listeners as the configuration wants them, without those that it turns off.

    Raises:
        ConfigurationError: Two listeners share a name; ``listeners:`` names one that is not there;
            or what the configuration and the code say about one does not fit together.

    """
    by_name: dict[str, Listener] = {}
    for listener in listeners:
        namesake = by_name.setdefault(listener.name, listener)
        if namesake is not listener:
            raise ConfigurationError(_namesakes(namesake, listener))
    check_listener_names(settings, by_name)
    configured = (_configure(listener, settings) for listener in by_name.values())
    return [one for one in configured if one is not None]


def _configure(listener: Listener, settings: MessagingSettings) -> Configured | None:
    name, setting = listener.name, "listener.dead-letter-topic"
    override = settings.override_for(name)
    if override is not None:
        if not override.enabled:
            logger.info("listener %s is off: listeners.%s.enabled is false", name, name)
            return None
        listener = replace(
            listener, topic=override.topic or listener.topic, group=override.group or listener.group
        )
        changed = ("dead_letter_topic", "topic", "group")
        setting = next(
            (f"listeners.{name}.{one}" for one in changed if one in override.model_fields_set),
            setting,
        )
    try:
        check_group(listener.group)
        policy = settings.policy_for(name, listener.topic, listener.overrides)
    except ValueError as error:
        raise located_error(settings, setting, f"listener {name}: {error}") from None
    return listener, policy


async def subscribe(
    broker: MessageBrokerPort, configured: Sequence[Configured], settlements: list[Settlement]
) -> None:
    """Subscribe every listener.

    A broker with no more than the four methods of the port knows nothing of policies: what can be
    done around the handler is done there, and the rest is logged.

    Args:
        broker: The broker.
        configured: The listeners.
        settlements: Gets what is done around handlers; it has failures to sum up after the stop.

    Raises:
        TypeError: A handler is not an async callable.
        ValueError: An impossible topic or group, or a handler that listens there already.

    """
    if _keeps_policies(broker):
        for listener, policy in configured:
            await broker.subscribe(
                listener.topic, listener.handler, listener.group, policy=policy, name=listener.name
            )
        return
    if configured:
        logger.warning(
            "%s offers only the four methods of MessageBrokerPort: retries, timeouts and dead"
            " letters are kept around the handlers; concurrency, order and acknowledgement are"
            " the broker's own",
            type(broker).__name__,
        )
    for listener, policy in configured:
        settlement = _settlement(broker, listener, policy)
        settlements.append(settlement)
        await broker.subscribe(listener.topic, _settled(settlement), listener.group)


def _keeps_policies(broker: MessageBrokerPort) -> TypeGuard[PolicyBroker]:
    parameters = inspect.signature(broker.subscribe).parameters
    return {"policy", "name"} <= parameters.keys() or any(
        parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()
    )


def _settlement(
    broker: MessageBrokerPort, listener: Listener, policy: ListenerPolicy
) -> Settlement:
    async def publish(letter: Message, error: BaseException) -> None:
        await broker.publish(letter.topic, letter.value, key=letter.key, headers=letter.headers)

    return Settlement(
        Subscription.of(
            listener.topic, listener.handler, listener.group, policy=policy, name=listener.name
        ),
        publish,
    )


def _settled(settlement: Settlement) -> MessageHandler:
    """Return a handler that has retried and dead-lettered when it returns."""

    async def handle(message: Message) -> None:
        retry = await settlement.attempt(message)
        while retry is not None:
            await asyncio.sleep(retry.delay)
            retry = await retry()

    return handle


def _namesakes(one: Listener, other: Listener) -> str:
    places = [_place(one.handler), _place(other.handler)]
    if places[0] == places[1]:
        return (
            f"two instances of one class listen as {one.name!r}: {places[0]}; each listener needs"
            " a name of its own, so pass only one of the instances"
        )
    return (
        f"two listeners are called {one.name!r}: {places[0]} and {places[1]}; give one of them a"
        " name of its own: @message_listener(…, name='…')"
    )


def _place(handler: MessageHandler) -> str:
    return f"{handler.__module__}.{getattr(handler, '__qualname__', type(handler).__qualname__)}"
