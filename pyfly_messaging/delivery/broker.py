"""The base of every adapter: checks, subscribe, start, stop, health; the same on every broker."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Sequence
from threading import get_ident
from typing import Any

from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.lifecycle import Lifecycle
from pyfly_messaging.delivery.registry import Registry
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.delivery.subscription import Subscription
from pyfly_messaging.delivery.uninterrupted import close_within, uninterrupted
from pyfly_messaging.errors import BatchPublishError, NotStartedError
from pyfly_messaging.health import ConsumerHealth, ConsumerState, Health
from pyfly_messaging.message import Message, check_message
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.ports import MessageHandler


class Broker(ABC):
    """Implements the port; an adapter adds how to open, close, listen and send.

    The methods without an underscore are what applications call. Those with one underscore are for
    the adapter to fill in: `_open`, `_close`, `_listen`, `_unlisten` and `_send` always, the others
    where the default does not fit. They are called by this class only, and never from another event
    loop than the one that started the broker.

    Client exceptions must not leave an adapter: the hooks raise the errors of
    `pyfly_messaging.errors`.

    Args:
        timeouts: The deadlines of publish, start and stop, in seconds.
        policy: The policy of subscriptions that come without one.
        on_spent: Called with what spent a message, whether it is dead-lettered or dropped.

    """

    def __init__(
        self,
        *,
        timeouts: Timeouts | None = None,
        policy: ListenerPolicy | None = None,
        on_spent: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._timeouts = timeouts or Timeouts()
        self._policy = policy or ListenerPolicy()
        self._registry = Registry(self._publish_dead_letter, on_spent=on_spent)
        self._lifecycle = Lifecycle(self._start, self._stop)
        # Those of the last start, until everything is closed.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: int | None = None
        self._stopping = False

    @property
    def default_policy(self) -> ListenerPolicy:
        """The policy of a subscription that comes without one."""
        return self._policy

    async def publish(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Send a message; see `MessageBrokerPort.publish`."""
        check_message(topic, value, key, headers)
        # `get_running_loop` would cost more: up to Python 3.11 it asks the system for the process.
        if (loop := self._loop) is None or get_ident() != self._thread or not loop.is_running():
            self._refuse()
        await self._send(topic, value, key, headers)

    async def publish_many(self, messages: Iterable[Message]) -> None:
        """Send messages together; see `PublishesBatches.publish_many`."""
        batch = tuple(messages)
        for message in batch:
            check_message(message.topic, message.value, message.key, message.headers)
        if (loop := self._loop) is None or get_ident() != self._thread or not loop.is_running():
            self._refuse()
        await self._send_many(batch)

    async def subscribe(
        self,
        topic: str,
        handler: MessageHandler,
        group: str | None = None,
        *,
        policy: ListenerPolicy | None = None,
        name: str | None = None,
    ) -> None:
        """Register a handler; on a running broker, return when its consumer runs.

        While the broker starts, the start takes it in; while it stops, the next start.

        Args:
            topic: The topic.
            handler: An async callable.
            group: Handlers of one group share the messages; without one each gets them all.
            policy: What happens around the handler; the broker's default if None.
            name: What logs call the listener; by default the handler's qualified name.

        Raises:
            TypeError: The handler is not an async callable.
            ValueError: An impossible topic or group, or the handler listens here already.
            BrokerError: The consumer could not be started; the subscription is taken back.
            RuntimeError: The broker was started on another event loop.

        """
        self._lifecycle.check_loop()
        subscription = Subscription.of(
            topic, handler, group, policy=policy or self._policy, name=name
        )
        route, _ = self._registry.add(subscription)
        try:
            await self._accept(route)
            if self._lifecycle.running and not self._stopping:
                await self._listen(route, Deadline(self._timeouts.startup))
        except BaseException:
            await self._take_back(subscription, route)
            raise

    async def start(self) -> None:
        """Connect and consume, all or nothing; see `MessageBrokerPort.start`."""
        await self._lifecycle.start()

    async def stop(self) -> None:
        """Let running handlers finish, then disconnect; see `MessageBrokerPort.stop`."""
        await self._lifecycle.stop()

    def health(self) -> Health:
        """Return the state of the broker and of each of its consumers, as it is now."""
        running = self._lifecycle.running
        return Health(
            started=running,
            publishing=running and self._can_send(),
            consumers=tuple(self._health_of(route) for route in self._registry),
        )

    @abstractmethod
    async def _open(self, deadline: Deadline) -> None:
        """Connect, so that messages can be sent; the routes come afterwards.

        Raises:
            BrokerUnavailableError: Not until the deadline, that of the whole start. What is open
                by then is for `_close` to close.

        """

    @abstractmethod
    async def _close(self, deadline: Deadline, caller: asyncio.Task[Any] | None) -> None:
        """End the consumers, then disconnect, however far the start came. Must never hang.

        Args:
            deadline: Until when running handlers may finish. It is over at once when the caller of
                ``stop()`` is cancelled.
            caller: The task that called ``stop()``, for `Lanes.drain`: a handler that stops its own
                broker is not waited for.

        """

    async def _accept(self, route: Route) -> None:  # noqa: B027 - not every adapter needs it
        """Take in a handler of a route, whether the broker runs or not. By default does nothing.

        Raises:
            ValueError: This broker cannot have such a route; the subscription is taken back.

        """

    @abstractmethod
    async def _listen(self, route: Route, deadline: Deadline) -> None:
        """Consume for a route; return when a message that is published from now on arrives.

        It is called for each route of a start, and on a running broker for each handler that comes:
        also if the route is consumed already, or an earlier call is still under way. Then it waits
        until the consumer runs.

        Raises:
            BrokerError: The consumer could not be started until the deadline.

        """

    async def _listen_to_all(self, routes: Sequence[Route], deadline: Deadline) -> None:
        """Consume for the routes of a start; by default `_listen` for all of them at once."""
        await all_or_none(self._listen(route, deadline) for route in routes)

    @abstractmethod
    async def _unlisten(self, route: Route) -> None:
        """Forget a route that has no handlers any more; end its consumer at once, if it has one."""

    @abstractmethod
    async def _send(
        self, topic: str, value: bytes, key: bytes | None, headers: dict[str, str] | None
    ) -> None:
        """Send a message that was checked; return when the broker has confirmed it.

        Raises:
            PublishError: Not confirmed within the publish timeout, or refused.

        """

    async def _send_many(self, messages: Sequence[Message]) -> None:
        """Send messages that were checked; by default `_send` for all of them at once.

        Raises:
            BatchPublishError: Some were not confirmed.

        """
        sends = (self._send(m.topic, m.value, m.key, m.headers) for m in messages)
        outcomes = await asyncio.gather(*sends, return_exceptions=True)
        failed = [(n, error) for n, error in enumerate(outcomes) if error is not None]
        if failed:
            raise BatchPublishError(failed, len(messages)) from failed[0][1]

    async def _publish_dead_letter(self, letter: Message, error: BaseException) -> None:
        """Publish a dead letter; by default as any other message.

        Args:
            letter: The dead letter.
            error: What spent its message.

        Raises:
            PublishError: Not confirmed; it is tried again for as long as it takes.

        """
        await self._send(letter.topic, letter.value, letter.key, letter.headers)

    def _can_send(self) -> bool:
        """Tell whether a publish can reach the broker now, while it runs; by default always."""
        return True

    def _health_of(self, route: Route) -> ConsumerHealth:
        """Return how the consumer of a route is; by default what can be told without knowing it."""
        state: ConsumerState = "running" if self._lifecycle.running else "stopped"
        return ConsumerHealth(name=route.name, topic=route.topic, group=route.group, state=state)

    @property
    def _shutdown_timeout(self) -> float:
        """Seconds until the deadline of `_close`; less leaves time for what comes after it."""
        return self._timeouts.shutdown

    async def _start(self) -> None:
        deadline = Deadline(self._timeouts.startup)
        self._loop, self._thread = asyncio.get_running_loop(), get_ident()
        await self._open(deadline)
        begun: set[Route] = set()
        # Others may subscribe while this goes on.
        while routes := [route for route in self._registry if route not in begun]:
            await self._listen_to_all(routes, deadline)
            begun.update(routes)

    async def _stop(self) -> None:
        if self._loop is None:  # the stop that closed it was cancelled
            return
        self._stopping = True
        try:
            await close_within(self._shutdown_timeout, self._close_once)
        finally:
            self._stopping = False

    async def _close_once(self, deadline: Deadline, caller: asyncio.Task[Any] | None) -> None:
        try:
            await self._close(deadline, caller)
            self._loop = self._thread = None
        finally:
            self._registry.sum_up_failures()

    async def _take_back(self, subscription: Subscription, route: Route) -> None:
        """Remove a subscription, and its route unless other handlers remain on it."""
        self._registry.remove(subscription)
        if not route.subscriptions:
            await uninterrupted(self._unlisten(route))

    def _refuse(self) -> None:
        """Refuse a publish before the start, after the stop, or from another event loop."""
        self._lifecycle.check_loop()
        raise NotStartedError


async def all_or_none(steps: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run steps at once; when one fails, cancel the others and raise what it raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(step)
    except BaseExceptionGroup as failed:
        error = failed.exceptions[0]
        raise error from error.__cause__
