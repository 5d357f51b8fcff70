"""The in-memory broker: what applications call."""

from __future__ import annotations

import asyncio
from asyncio import current_task
from collections import deque
from collections.abc import Sequence
from threading import get_ident
from typing import Any, Self

from pyfly_messaging.adapters.memory.consumer import Consumer
from pyfly_messaging.adapters.memory.publication import Publication, current, note
from pyfly_messaging.adapters.memory.wait import STOPPED, Wait
from pyfly_messaging.delivery.broker import Broker
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.health import ConsumerHealth
from pyfly_messaging.message import (
    Message,
    check_message,
    new_message,
    set_headers,
    set_key,
    set_origin,
    set_topic,
    set_value,
)
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.ports import MessageHandler
from pyfly_messaging.settings import MemorySettings

_DEAD_LETTERS_KEPT = 10_000


class InMemoryMessageBroker(Broker):
    """A broker for development, tests and single processes; nothing outlives the process.

    ``publish`` returns when every handler has settled the message, so a test needs no waiting. A
    publish made inside a handler is queued, and the outermost publish waits for all that it set
    off. When the broker is stopped, messages that are not settled are kept and delivered after the
    next start.

    Args:
        raise_errors: ``publish`` raises what exhausted a message (after its retries), for tests.
        skip_retry_delays: Retries follow at once, for tests.
        timeouts: The deadlines of publish, start and stop, in seconds.
        policy: The policy of subscriptions that come without one.

    Attributes:
        dead_letters: The newest 10,000 dead letters.

    """

    def __init__(
        self,
        *,
        raise_errors: bool = False,
        skip_retry_delays: bool = False,
        timeouts: Timeouts | None = None,
        policy: ListenerPolicy | None = None,
    ) -> None:
        super().__init__(timeouts=timeouts, policy=policy, on_spent=note if raise_errors else None)
        self.dead_letters: deque[Message] = deque(maxlen=_DEAD_LETTERS_KEPT)
        self._raise_errors = raise_errors
        self._skip_retry_delays = skip_retry_delays
        self._routes: dict[Route, Consumer] = {}
        self._consumers: dict[str, tuple[Consumer, ...]] = {}  # the same, by topic
        self._waits: set[Wait] = set()
        self._delivering = False

    @classmethod
    def from_settings(
        cls,
        settings: MemorySettings,
        *,
        timeouts: Timeouts | None = None,
        policy: ListenerPolicy | None = None,
    ) -> Self:
        """Return a broker for the ``memory:`` section of the configuration."""
        return cls(
            raise_errors=settings.raise_errors,
            skip_retry_delays=settings.skip_retry_delays,
            timeouts=timeouts,
            policy=policy,
        )

    async def publish(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Deliver a message; return when every handler has settled it.

        Raises:
            NotStartedError: Before ``start()`` or after ``stop()``.
            PublishError: Not settled within the publish timeout, or the broker was stopped first;
                either way the message is kept.
            TypeError: ``value`` or ``key`` is not bytes, or a header is not text.
            ValueError: The topic is not a name that every broker takes.
            RuntimeError: On another event loop than ``start()``, or outside of any task.

        """
        if get_ident() != self._thread:
            self._refuse()
        consumers = self._consumers.get(topic)
        # A topic with listeners was checked by `subscribe`.
        if consumers is None or type(value) is not bytes or key is not None or headers:
            check_message(topic, value, key, headers)
            if consumers is None:
                return
        # Without the loop, finding the task would cost a tenth of a publish.
        task = current_task(self._loop)
        if task is None:
            raise RuntimeError("publish() needs a task of the event loop that start() ran on")
        if headers:
            message = Message(topic, value, key, headers)
        else:
            message = new_message(Message)
            set_topic(message, topic)
            set_value(message, value)
            set_key(message, key)
            set_headers(message, {})
            set_origin(message, None)
        outer = current.get(None)
        if outer is not None:
            outer = outer.going_on()
            if outer is not None and (inside := outer.of(self)) is not None:
                consumers[0].submit(message, inside)
                _submit_copies(consumers[1:], message, inside)
                return
        publication = Publication()
        publication.broker, publication.outer = self, outer
        publication.holders, publication.pending = 1, 0
        publication.errors, publication.wait = (), None
        try:
            if len(consumers) == 1:
                consumers[0].run(message, publication, task)
            else:
                consumers[0].submit(message, publication)
                _submit_copies(consumers[1:], message, publication)
            if publication.pending:
                await self._finish(publication)
        finally:
            publication.holders -= 1
        if self._raise_errors and (error := publication.error()) is not None:
            raise error

    async def subscribe(
        self,
        topic: str,
        handler: MessageHandler,
        group: str | None = None,
        *,
        policy: ListenerPolicy | None = None,
        name: str | None = None,
    ) -> None:
        """Register a handler; see `Broker.subscribe`."""
        policy = policy or self._policy
        if self._skip_retry_delays:
            policy = policy.replace(retry_delay=0.0)
        await super().subscribe(topic, handler, group, policy=policy, name=name)

    async def _open(self, deadline: Deadline) -> None:
        for consumer in self._routes.values():
            consumer.start()
        self._delivering = True

    async def _close(self, deadline: Deadline, caller: asyncio.Task[Any] | None) -> None:
        self._delivering = False
        consumers = self._routes.values()
        await asyncio.gather(*(consumer.stop(deadline, caller) for consumer in consumers))
        for wait in self._waits:
            wait.give_up(STOPPED)

    async def _accept(self, route: Route) -> None:
        if route not in self._routes:
            self._routes[route] = consumer = Consumer(route)
            if self._delivering:
                consumer.start()
            self._consumers[route.topic] = (*self._consumers.get(route.topic, ()), consumer)

    async def _listen(self, route: Route, deadline: Deadline) -> None:
        """Nothing to do: what is accepted has a consumer, which runs while the broker does."""

    async def _listen_to_all(self, routes: Sequence[Route], deadline: Deadline) -> None:
        """Nothing to do either."""

    async def _unlisten(self, route: Route) -> None:
        """Nothing to do: no route is taken back, because nothing can fail."""

    async def _send(
        self, topic: str, value: bytes, key: bytes | None, headers: dict[str, str] | None
    ) -> None:
        await self.publish(topic, value, key=key, headers=headers)

    async def _publish_dead_letter(self, letter: Message, error: BaseException) -> None:
        self.dead_letters.append(letter)
        _submit_copies(self._consumers.get(letter.topic, ()), letter, current.get())

    def _health_of(self, route: Route) -> ConsumerHealth:
        return self._routes[route].health()

    async def _finish(self, publication: Publication) -> None:
        """Wait, but not for ever, for what a publish has set off."""
        publication.wait = wait = Wait(self._timeouts.publish)
        self._waits.add(wait)
        try:
            await wait
        finally:
            self._waits.discard(wait)
            wait.close()


def _submit_copies(
    consumers: tuple[Consumer, ...], message: Message, publication: Publication
) -> None:
    """Queue a message for consumers that may each do to its headers what they like."""
    for consumer in consumers:
        consumer.submit(message.with_own_headers(), publication)
