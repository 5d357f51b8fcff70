"""The subscriptions of a broker, as routes by (topic, group)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pyfly_messaging.delivery.dead_letter import PublishDeadLetter
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.delivery.settlement import Settlement
from pyfly_messaging.delivery.subscription import Subscription


class Registry:
    """One `Route` for each (topic, group), in the order in which they came.

    Args:
        publish_dead_letter: How the broker publishes a dead letter and has it confirmed.
        on_spent: Called with what spent a message, whether it is dead-lettered or dropped.

    """

    def __init__(
        self,
        publish_dead_letter: PublishDeadLetter,
        *,
        on_spent: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._publish_dead_letter = publish_dead_letter
        self._on_spent = on_spent
        self._routes: dict[tuple[str, str | None], Route] = {}

    def __iter__(self) -> Iterator[Route]:
        return iter(tuple(self._routes.values()))

    def add(self, subscription: Subscription) -> tuple[Route, bool]:
        """Add a subscription.

        Returns:
            Its route, and whether the route is a new one.

        Raises:
            ValueError: The same handler listens to this topic in this group already.

        """
        place = (subscription.topic, subscription.group)
        route = self._routes.get(place)
        new = route is None
        if route is None:
            route = Route(*place)
        route.add(Settlement(subscription, self._publish_dead_letter, on_spent=self._on_spent))
        self._routes[place] = route
        return route, new

    def remove(self, subscription: Subscription) -> None:
        """Take a subscription back whose consumer could not be started."""
        place = (subscription.topic, subscription.group)
        route = self._routes[place]
        route.remove(subscription)
        if not route.subscriptions:
            del self._routes[place]
