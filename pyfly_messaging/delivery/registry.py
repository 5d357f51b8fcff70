"""The subscriptions of a broker, as routes by (topic, group)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pyfly_messaging.delivery.dead_letter import PublishDeadLetter
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.delivery.settlement import Settlement
from pyfly_messaging.delivery.subscription import Subscription


class Registry:
    """The routes in the order in which they came: one for each (topic, group).

    Without a group every handler has a route of its own. So each gets every message, at its own
    pace: neither its slowness nor its retries hold up the others.

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
        self._routes: list[Route] = []

    def __iter__(self) -> Iterator[Route]:
        return iter(tuple(self._routes))

    def add(self, subscription: Subscription) -> tuple[Route, bool]:
        """Add a subscription.

        Returns:
            Its route, and whether the route is a new one.

        Raises:
            ValueError: The same handler listens to this topic in this group already.

        """
        topic, group = subscription.topic, subscription.group
        alike = [route for route in self._routes if (route.topic, route.group) == (topic, group)]
        if any(
            each.handler == subscription.handler for route in alike for each in route.subscriptions
        ):
            raise ValueError(
                f"handler {subscription.name!r} already listens to topic {topic!r} in group"
                f" {group!r}"
            )
        new = group is None or not alike
        route = Route(topic, group) if new else alike[0]
        route.add(Settlement(subscription, self._publish_dead_letter, on_spent=self._on_spent))
        if new:
            self._routes.append(route)
        return route, new

    def remove(self, subscription: Subscription) -> None:
        """Take a subscription back whose consumer could not be started."""
        route = next(route for route in self._routes if subscription in route.subscriptions)
        route.sum_up_failures()
        route.remove(subscription)
        if not route.subscriptions:
            self._routes.remove(route)

    def sum_up_failures(self) -> None:
        """Log what is not logged yet of storms of failures; for the end of a stop."""
        for route in self._routes:
            route.sum_up_failures()
