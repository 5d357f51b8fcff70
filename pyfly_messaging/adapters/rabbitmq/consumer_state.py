"""Whether a queue is consumed, in which session, and if not, why; it logs interruptions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pyfly_messaging.adapters.rabbitmq import errors
from pyfly_messaging.errors import BrokerError, NotStartedError
from pyfly_messaging.logs import get_logger

if TYPE_CHECKING:
    from pyfly_messaging.adapters.rabbitmq.session import Session
    from pyfly_messaging.health import ConsumerState

logger = get_logger("pyfly_messaging.rabbitmq")


class QueueState:
    """Knows the session that consumes a queue, and has others wait for the next one.

    From every state a halt leads to ``stopped``::

        stopped ──begin──> reconnecting ──consumes, bound──> running
                                ^                             │
                                └────interrupted, unbound─────┘

    Args:
        queue: What logs call the queue.

    Attributes:
        name: What health says.
        last_error: Why it does not run, or ran into trouble last.

    """

    def __init__(self, queue: str) -> None:
        self.name: ConsumerState = "stopped"
        self.last_error: str | None = None
        self._queue = queue
        self._next: asyncio.Future[Session] | None = None  # the session that runs, or will

    @property
    def current(self) -> Session | None:
        """The session that runs, if one does."""
        coming = self._next
        if self.name == "stopped" or coming is None or not coming.done() or coming.exception():
            return None
        session = coming.result()
        return None if session.over.done() else session

    async def session(self) -> Session:
        """Return the session that consumes, as soon as there is one.

        Raises:
            NotStartedError: There will be none, because of a stop.
            BrokerError: There will be none; the broker refused.

        """
        if self._next is None or self.name == "stopped":
            raise NotStartedError  # and not the session of before
        return await asyncio.shield(self._next)

    def begin(self) -> None:
        """Expect a first session."""
        self.name, self.last_error = "reconnecting", None
        self._next = asyncio.get_running_loop().create_future()

    def consumes(self, session: Session) -> None:
        """Note that a session consumes now."""
        if self._next is None or session.over.done() or self.name == "stopped":
            return
        self.name = "running"
        self._next.set_result(session)
        if self.last_error is not None:
            logger.info("RabbitMQ: queue %s is consumed again", self._queue)
            self.last_error = None

    def interrupted(self, cause: BaseException | None) -> None:
        """Note that nothing is consumed until the next session."""
        if self.name == "stopped":
            return
        self.name = "reconnecting"
        if self._next is None or self._next.done():
            self._next = asyncio.get_running_loop().create_future()
        if cause is not None:
            self.last_error = errors.describe(cause)
            logger.warning(
                "RabbitMQ: queue %s is not consumed until it works again: %s",
                self._queue,
                self.last_error,
            )

    def unbound(self, why: str) -> None:
        """Note that what is published does not come here."""
        if self.name == "running":
            self.name, self.last_error = "reconnecting", why

    def bound(self) -> None:
        """Note that what is published comes here again."""
        if self.current is not None:
            self.name, self.last_error = "running", None

    def refuse(self, error: BrokerError) -> None:
        """Let those who wait for a session have an error instead."""
        if self._next is not None and not self._next.done():
            self._next.set_exception(error)
            self._next.exception()  # so that asyncio does not report it when none waits

    def halt(self) -> None:
        """Note that there will be no session any more."""
        self.name = "stopped"
        self.refuse(NotStartedError())
