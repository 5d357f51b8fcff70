"""The port: what business code depends on, and the contract that every adapter keeps."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol, TypeAlias, runtime_checkable

from pyfly_messaging.health import Health
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy

MessageHandler: TypeAlias = Callable[[Message], Coroutine[Any, Any, None]]
"""Any async callable that takes a `Message`: a function, a bound method, an object with an async
``__call__``. What it returns is ignored; what it raises is a failed attempt."""


@runtime_checkable
class MessageBrokerPort(Protocol):
    """Publish and listen, whatever broker carries the messages.

    The contract in short; ``docs/guarantees.md`` has all of it:

    * Delivery is at least once. A message is acknowledged only after its handlers succeeded, or
      after it was dead-lettered and that was confirmed. A crash redelivers.
    * Of the handlers that share topic and group exactly one gets each message, in turn. Different
      groups each get every message; so does every handler without a group.
    * Messages are handled in the order of the partition or queue, one at a time; with a higher
      concurrency those with the same key stay in order.
    * A handler that raises is retried in place, then the message goes to its dead-letter topic.
      The publisher never sees a handler's exception.
    * A call that is cancelled leaves nothing behind: a subscribe or start is undone, a stop stops
      without waiting for handlers. The message of a cancelled publish may have been taken.
    """

    async def publish(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Send a message; return when the broker has taken it.

        Taken means: by every in-sync replica (Kafka), confirmed as persistent and routed
        (RabbitMQ), settled by every handler (memory). A publish made inside a handler on the
        memory broker is queued instead; the outermost publish waits for it.

        Raises:
            NotStartedError: Before ``start()`` or after ``stop()``.
            PublishError: Not confirmed within ``publish-timeout`` (seconds), or refused.
            TypeError: ``value`` or ``key`` is not bytes, or a header is not text.
            ValueError: The topic is not a name that every broker takes.

        """
        ...

    async def subscribe(
        self,
        topic: str,
        handler: MessageHandler,
        group: str | None = None,
    ) -> None:
        """Register a handler; on a running broker, return when its consumer runs.

        Within a named group each message goes to one handler. Without a group every handler
        gets every message.

        Raises:
            TypeError: The handler is not an async callable.
            ValueError: The topic or group is not a name that every broker takes, or the same
                handler already listens to this topic in this group.

        """
        ...

    async def start(self) -> None:
        """Connect and begin to consume, all or nothing.

        Returns when every subscription is assigned and positioned: a message published right
        afterwards is seen. Idempotent; a stopped broker can be started again.

        Raises:
            BrokerUnavailableError: No broker within ``startup.timeout`` (seconds).
            AuthenticationError: At once, when the broker refuses the credentials.
            TopologyError: At once, when topics, queues or exchanges differ from the settings.

        """
        ...

    async def stop(self) -> None:
        """Stop the intake, let running handlers finish, settle what finished, and disconnect.

        After ``shutdown.timeout`` (seconds) handlers that still run are cancelled; their messages
        stay unacknowledged and are redelivered. Idempotent, and safe after a failed start; when it
        has returned, no handler runs.

        A handler may call it, be it through other tasks: the stop does not wait for that handler,
        nor for one that waits for a stop itself. It returns at once there if another stop of this
        broker is under way.
        """
        ...


@runtime_checkable
class PublishesBatches(Protocol):
    """A broker that takes several messages in one round of confirmations."""

    async def publish_many(self, messages: Iterable[Message]) -> None:
        """Send messages together; return when the broker has taken them all.

        Raises:
            NotStartedError: Before ``start()`` or after ``stop()``.
            BatchPublishError: Some were not confirmed; it names them. The others were.
            TypeError, ValueError: As for ``publish``; then nothing was sent.

        """
        ...


@runtime_checkable
class ReportsHealth(Protocol):
    """A broker that can say how it is."""

    def health(self) -> Health:
        """Return the state of the broker and of each of its consumers, as it is now."""
        ...


@runtime_checkable
class AppliesPolicies(Protocol):
    """A broker whose ``subscribe`` takes a policy, so that nobody else has to apply it.

    (A protocol can only be recognised by the names of its methods, not by their parameters, hence
    the attribute.)
    """

    @property
    def default_policy(self) -> ListenerPolicy:
        """The policy of a subscription that comes without one."""
        ...

    async def subscribe(
        self,
        topic: str,
        handler: MessageHandler,
        group: str | None = None,
        *,
        policy: ListenerPolicy | None = None,
        name: str | None = None,
    ) -> None:
        """Register a handler; see `MessageBrokerPort.subscribe`.

        Args:
            topic: The topic.
            handler: An async callable.
            group: Handlers of one group share the messages; without one each gets them all.
            policy: What happens around the handler; `default_policy` if None.
            name: What logs and health call the listener; by default its qualified name.

        """
        ...
