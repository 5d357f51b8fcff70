"""Which handlers of one (topic, group) get a message: one in turn, or all of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from pyfly_messaging.delivery.settlement import Retry, Settlement
from pyfly_messaging.delivery.subscription import Subscription
from pyfly_messaging.message import Message

Attempt = Callable[[Message], Coroutine[Any, Any, Retry | None]]


class Route:
    """The handlers of one (topic, group) in this process.

    With a group each message goes to the next handler in turn. Without one it goes to every
    handler, and only those that failed try again. `attempt` takes a message; for a single handler
    it is that handler's own `Settlement.attempt`, with nothing in between. With several it begins
    none of them, but answers whom to begin with: so it is known which handler it was, and which
    ones were done, when one ends the task that runs it.
    """

    def __init__(self, topic: str, group: str | None) -> None:
        self.topic = topic
        self.group = group
        self.attempt: Attempt = self._unheard
        self._settlements: tuple[Settlement, ...] = ()
        self._turn = 0

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """The subscriptions in the order in which they came."""
        return tuple(settlement.subscription for settlement in self._settlements)

    @property
    def concurrency(self) -> int:
        """Handlers at once: the highest that one of the subscriptions asks for."""
        return max(s.policy.concurrency for s in self.subscriptions)

    @property
    def name(self) -> str:
        """What logs and health call this route: the names of its listeners."""
        return ", ".join(s.name for s in self.subscriptions)

    def add(self, settlement: Settlement) -> None:
        """Add a handler.

        Raises:
            ValueError: The same handler listens here already.

        """
        handler = settlement.subscription.handler
        if any(s.handler == handler for s in self.subscriptions):
            raise ValueError(
                f"handler {settlement.subscription.name!r} already listens to topic"
                f" {self.topic!r} in group {self.group!r}"
            )
        self._set((*self._settlements, settlement))
        for each in self._settlements:
            if each.subscription.policy.concurrency < self.concurrency:
                each.keep_to_its_concurrency()

    def remove(self, subscription: Subscription) -> None:
        """Take a handler out again."""
        self._set(tuple(s for s in self._settlements if s.subscription is not subscription))

    async def failed(self, message: Message, error: BaseException) -> Retry | None:
        """Count a failed attempt of the only handler that ended the task that ran it."""
        return await self._settlements[0].failed(message, error)

    def _set(self, settlements: tuple[Settlement, ...]) -> None:
        self._settlements = settlements
        if not settlements:
            self.attempt = self._unheard
        elif len(settlements) == 1:
            self.attempt = settlements[0].attempt
        elif self.group is None:
            self.attempt = self._fan_out
        else:
            self.attempt = self._take_turns

    async def _unheard(self, message: Message) -> Retry | None:
        raise AssertionError(f"no handler for topic {message.topic!r}")

    async def _take_turns(self, message: Message) -> Retry | None:
        return self._next().first(message)

    async def _fan_out(self, message: Message) -> Retry | None:
        return _Several([each.first(message.with_own_headers()) for each in self._settlements])

    def _next(self) -> Settlement:
        settlement = self._settlements[self._turn % len(self._settlements)]
        self._turn += 1
        return settlement


class _Several:
    """The attempts of several handlers, one after the other, after the longest of their pauses."""

    __slots__ = ("_left", "_retries", "delay")

    def __init__(self, retries: list[Retry]) -> None:
        self.delay = max(retry.delay for retry in retries)
        self._retries = deque(retries)  # the first of them is the one that runs
        self._left: list[Retry] = []  # what those before it have to do again

    async def __call__(self) -> Retry | None:
        while self._retries:
            self._note(await self._retries[0]())
        return self._rest()

    async def failed(self, error: BaseException) -> Retry | None:
        self._note(await self._retries[0].failed(error))
        self.delay = 0.0
        return self if self._retries else self._rest()

    def _note(self, outcome: Retry | None) -> None:
        self._retries.popleft()
        if outcome is not None:
            self._left.append(outcome)

    def _rest(self) -> Retry | None:
        if len(self._left) < 2:
            return self._left[0] if self._left else None
        return _Several(self._left)
