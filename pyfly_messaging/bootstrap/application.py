"""``bootstrap``: load, collect, make, subscribe, start; and stop in the reverse order."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TypeVar

from pyfly_messaging.bootstrap.subscriptions import configure, subscribe
from pyfly_messaging.container import Cleanups, Component, Container, collect, value_component
from pyfly_messaging.container.sources import Collected, listeners_of
from pyfly_messaging.delivery.lifecycle import Lifecycle
from pyfly_messaging.delivery.settlement import Settlement
from pyfly_messaging.errors import ContainerError, NotStartedError
from pyfly_messaging.factory import build_broker
from pyfly_messaging.listener import Listener
from pyfly_messaging.logs import get_logger
from pyfly_messaging.ports import MessageBrokerPort
from pyfly_messaging.settings import MessagingSettings

logger = get_logger("pyfly_messaging")

T = TypeVar("T")


def application(
    sources: Sequence[object],
    settings: MessagingSettings | None,
    broker: MessageBrokerPort | None,
) -> Application:
    """Return the application that `bootstrap` describes."""
    if settings is not None and not isinstance(settings, MessagingSettings):
        raise TypeError(
            f"settings must be MessagingSettings, got {type(settings).__name__}: write"
            " settings=MessagingSettings(provider=…)"
        )
    if broker is not None:
        _check_broker(broker, "broker=")
    return Application(sources, settings=settings, broker=broker)


class Application:
    """Listeners and the services they belong to, on one broker; made by `bootstrap`.

    An async context manager that gives the running broker. Starting is all or nothing: when
    something fails, all that was made is stopped in the reverse order and the error is raised.
    """

    def __init__(
        self,
        sources: Sequence[object],
        *,
        settings: MessagingSettings | None,
        broker: MessageBrokerPort | None,
    ) -> None:
        self._sources = tuple(sources)
        self._settings = settings
        self._given_broker = broker
        self._given_broker_used = False
        self._running: _Running | None = None
        self._lifecycle = Lifecycle(self._open, self._close)

    @property
    def broker(self) -> MessageBrokerPort:
        """The running broker.

        Raises:
            NotStartedError: Before ``start()`` or after ``stop()``.

        """
        return self._state().broker

    def get(self, wanted: type[T]) -> T:
        """Return the instance of a ``@service``, a bean, or anything else that can be injected.

        Raises:
            ContainerError: Nothing, or more than one thing, is of this type.
            NotStartedError: Before ``start()`` or after ``stop()``.

        """
        return self._state().container.get(wanted)

    async def start(self) -> None:
        """Make everything, subscribe the listeners, and start the broker. Idempotent.

        Raises:
            ConfigurationError: The configuration is wrong, or two listeners share a name.
            ContainerError: A dependency is missing, ambiguous or circular; or a bean was not made
                within ``startup.timeout``.
            MissingDependencyError: The chosen provider's client library is not installed.
            BrokerError: The broker could not be started.
            ModuleNotFoundError: A source names a module that is not there.
            RuntimeError: A broker that was passed in was started by this application before.

        """
        await self._lifecycle.start()

    async def stop(self) -> None:
        """Stop the broker, then clean the beans up, the last made first. Idempotent.

        The broker keeps ``shutdown.timeout``; beans have what is left of it, and a second at least.

        Raises:
            ExceptionGroup: What could not be stopped cleanly; everything else was.

        """
        await self._lifecycle.stop()

    async def __aenter__(self) -> MessageBrokerPort:
        await self.start()
        return self.broker

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def _state(self) -> _Running:
        if self._running is None:
            raise NotStartedError("the application is not running: start it first")
        return self._running

    async def _open(self) -> None:
        if self._given_broker_used:
            raise RuntimeError(
                "the broker that was passed in still has the listeners of the first start: call"
                " bootstrap() again with a new one"
            )
        settings = self._settings or MessagingSettings()
        collected = collect(self._sources)
        container = Container(self._components(collected, settings))
        cleanups = Cleanups()
        try:
            await container.open(cleanups, settings.startup.timeout)
            broker = container.get(MessageBrokerPort)  # type: ignore[type-abstract]
            _check_broker(broker, "the broker bean gave")
            listeners = (*collected.listeners, *listeners_of(container.instances()))
            configured = configure(_each_once(listeners), settings)
            settlements: list[Settlement] = []
            cleanups.add("the broker", partial(_stop, broker, settlements), bounded=False)
            self._given_broker_used = self._given_broker is not None
            await subscribe(broker, configured, settlements)
            await broker.start()
        except BaseException as failure:
            await cleanups.run_after(failure, settings.shutdown.timeout)
            raise
        self._running = _Running(
            broker=broker, container=container, cleanups=cleanups, settings=settings
        )
        logger.info(
            "started %s with %d listeners: %s",
            type(broker).__name__,
            len(configured),
            ", ".join(listener.name for listener, _ in configured) or "none",
        )

    async def _close(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            await running.cleanups.run(running.settings.shutdown.timeout)
            logger.info("stopped %s", type(running.broker).__name__)

    def _components(self, collected: Collected, settings: MessagingSettings) -> list[Component]:
        """Return everything that can be injected, with exactly one broker and the settings."""
        components = list(collected.components)
        for component in components:
            if component.fits(MessagingSettings):
                raise ContainerError(
                    f"{component.place} would be a second set of settings: pass it as"
                    " bootstrap(…, settings=…)"
                )
        brokers = [one for one in components if one.fits(MessageBrokerPort)]
        if self._given_broker is not None:
            for one in brokers:
                logger.info("%s is not made: a broker was passed in", one.place)
                components.remove(one)
            components.append(value_component(self._given_broker, "the broker that was passed in"))
        elif len(brokers) > 1:
            raise ContainerError(
                f"{len(brokers)} are brokers ({', '.join(one.place for one in brokers)}): leave out"
                " all but one, or pass the one to use as bootstrap(…, broker=…)"
            )
        elif not brokers:
            components.append(value_component(build_broker(settings), "the broker of the settings"))
        components.append(value_component(settings, "the settings"))
        return components


async def _stop(broker: MessageBrokerPort, settlements: Iterable[Settlement]) -> None:
    try:
        await broker.stop()
    finally:
        for settlement in settlements:
            settlement.sum_up_failures()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    """What exists between a start and the next stop."""

    broker: MessageBrokerPort
    container: Container
    cleanups: Cleanups
    settings: MessagingSettings


def _each_once(listeners: Iterable[Listener]) -> list[Listener]:
    """Return the listeners without those that came in by two ways."""
    return list({listener.handler: listener for listener in listeners}.values())


def _check_broker(broker: object, origin: str) -> None:
    if inspect.isclass(broker):
        raise TypeError(f"{origin} the class {broker.__qualname__}: an instance of it is needed")
    lacks = [
        name
        for name in ("publish", "subscribe", "start", "stop")
        if not callable(getattr(broker, name, None))
    ]
    if lacks:
        raise TypeError(
            f"{origin} {type(broker).__name__}, which is no MessageBrokerPort: it lacks"
            f" {', '.join(lacks)}"
        )
