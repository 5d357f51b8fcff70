"""The in-memory broker: what applications call."""

from __future__ import annotations

import asyncio
from asyncio import current_task
from collections import deque
from collections.abc import Iterable
from typing import Any, Self

from pyfly_messaging.adapters.memory.consumer import Consumer
from pyfly_messaging.adapters.memory.publication import Publication, current, note
from pyfly_messaging.adapters.memory.wait import STOPPED, Wait
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.lifecycle import Lifecycle
from pyfly_messaging.delivery.registry import Registry
from pyfly_messaging.delivery.subscription import Subscription
from pyfly_messaging.delivery.uninterrupted import close_within
from pyfly_messaging.errors import BatchPublishError, NotStartedError
from pyfly_messaging.health import Health
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


class InMemoryMessageBroker:
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
        self.dead_letters: deque[Message] = deque(maxlen=_DEAD_LETTERS_KEPT)
        self._raise_errors = raise_errors
        self._skip_retry_delays = skip_retry_delays
        self._timeouts = timeouts or Timeouts()
        self._policy = policy or ListenerPolicy()
        self._registry = Registry(self._dead_letter, on_spent=note if raise_errors else None)
        self._lifecycle = Lifecycle(self._open, self._close)
        self._consumers: dict[str, tuple[Consumer, ...]] = {}
        self._waits: set[Wait] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._accepting = False  # what is published
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
        if not self._accepting:
            raise NotStartedError
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

    @property
    def default_policy(self) -> ListenerPolicy:
        """The policy of a subscription that comes without one."""
        return self._policy

    async def publish_many(self, messages: Iterable[Message]) -> None:
        """Deliver messages in their order; return when every handler has settled them.

        Raises:
            NotStartedError: Before ``start()`` or after ``stop()``.
            BatchPublishError: Some were not settled in time; it names them.
            TypeError: A value or key that is not bytes, or a header that is not text.
            ValueError: A topic that is not a name that every broker takes.

        """
        if not self._accepting:
            raise NotStartedError
        batch = tuple(messages)
        for message in batch:
            check_message(message.topic, message.value, message.key, message.headers)
        outcomes = await asyncio.gather(
            *(self.publish(m.topic, m.value, key=m.key, headers=m.headers) for m in batch),
            return_exceptions=True,
        )
        failed = [(n, error) for n, error in enumerate(outcomes) if error is not None]
        if failed:
            raise BatchPublishError(failed, len(batch)) from failed[0][1]

    def health(self) -> Health:
        """Return the state of the broker and of each of its consumers."""
        return Health(
            started=self._accepting,
            publishing=self._accepting,
            consumers=tuple(consumer.health() for consumer in self._all()),
        )

    async def subscribe(
        self,
        topic: str,
        handler: MessageHandler,
        group: str | None = None,
        *,
        policy: ListenerPolicy | None = None,
        name: str | None = None,
    ) -> None:
        """Register a handler, before or after ``start()``.

        Args:
            topic: The topic.
            handler: An async callable.
            group: Handlers of one group share the messages; without one each gets them all.
            policy: What happens around the handler; the broker's default if None.
            name: What logs call the listener; by default the handler's qualified name.

        Raises:
            TypeError: The handler is not an async callable.
            ValueError: An impossible topic or group, or the handler listens here already.

        """
        policy = policy or self._policy
        if self._skip_retry_delays:
            policy = policy.replace(retry_delay=0.0)
        subscription = Subscription.of(topic, handler, group, policy=policy, name=name)
        route, new = self._registry.add(subscription)
        if new:
            consumer = Consumer(route)
            if self._delivering:
                consumer.start()
            self._consumers[topic] = (*self._consumers.get(topic, ()), consumer)

    async def start(self) -> None:
        """Begin to deliver; messages kept by the last stop come first."""
        await self._lifecycle.start()

    async def stop(self) -> None:
        """Let running handlers finish within the shutdown timeout, then cancel them."""
        await self._lifecycle.stop()

    async def _open(self) -> None:
        self._loop = asyncio.get_running_loop()
        for consumer in self._all():
            consumer.start()
        self._accepting = self._delivering = True

    async def _close(self) -> None:
        await close_within(self._timeouts.shutdown, self._drain)

    async def _drain(self, deadline: Deadline, caller: asyncio.Task[Any] | None) -> None:
        self._delivering = False
        await asyncio.gather(*(consumer.stop(deadline, caller) for consumer in self._all()))
        self._accepting = False  # not before: handlers that were finishing may publish
        for wait in self._waits:
            wait.give_up(STOPPED)
        self._registry.sum_up_failures()

    def _all(self) -> list[Consumer]:
        return [consumer for consumers in self._consumers.values() for consumer in consumers]

    async def _finish(self, publication: Publication) -> None:
        """Wait, but not for ever, for what a publish has set off."""
        publication.wait = wait = Wait(self._timeouts.publish)
        self._waits.add(wait)
        try:
            await wait
        finally:
            self._waits.discard(wait)
            wait.close()

    async def _dead_letter(self, letter: Message, error: BaseException) -> None:
        self.dead_letters.append(letter)
        _submit_copies(self._consumers.get(letter.topic, ()), letter, current.get())


def _submit_copies(
    consumers: tuple[Consumer, ...], message: Message, publication: Publication
) -> None:
    """Queue a message for consumers that may each do to its headers what they like."""
    for consumer in consumers:
        consumer.submit(message.with_own_headers(), publication)
