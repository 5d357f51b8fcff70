"""Which of the handlers of one (topic, group) gets a message: each in turn."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from pyfly_messaging.delivery.settlement import Retry, Settlement
from pyfly_messaging.delivery.subscription import Subscription
from pyfly_messaging.message import Message

Attempt = Callable[[Message], Coroutine[Any, Any, Retry | None]]


class Route:
    """The handlers of one (topic, group) in this process.

    Each message goes to the next handler in turn. `attempt` takes a message; for a single handler
    it is that handler's own `Settlement.attempt`, with nothing in between. With several it begins
    none of them, but answers whom to begin with: so it is known which handler it was when one ends
    the task that runs it.
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
        """Add a handler."""
        self._set((*self._settlements, settlement))
        for each in self._settlements:
            if each.subscription.policy.concurrency < self.concurrency:
                each.keep_to_its_concurrency()

    def remove(self, subscription: Subscription) -> None:
        """Take a handler out again."""
        self._set(tuple(s for s in self._settlements if s.subscription is not subscription))

    def sum_up_failures(self) -> None:
        """Log what is not logged yet of storms of failures."""
        for settlement in self._settlements:
            settlement.sum_up_failures()

    async def failed(self, message: Message, error: BaseException) -> Retry | None:
        """Count a failed attempt of the only handler that ended the task that ran it."""
        return await self._settlements[0].failed(message, error)

    def _set(self, settlements: tuple[Settlement, ...]) -> None:
        self._settlements = settlements
        if not settlements:
            self.attempt = self._unheard
        elif len(settlements) == 1:
            self.attempt = settlements[0].attempt
        else:
            self.attempt = self._take_turns

    async def _unheard(self, message: Message) -> Retry | None:
        raise AssertionError(f"no handler for topic {message.topic!r}")

    async def _take_turns(self, message: Message) -> Retry | None:
        settlement = self._settlements[self._turn % len(self._settlements)]
        self._turn += 1
        return settlement.first(message)
