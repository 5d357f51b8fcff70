"""The subscriptions of a broker, as routes by (topic, group)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pyfly_messaging.delivery.dead_letter import PublishDeadLetter
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.delivery.settlement import Settlement
from pyfly_messaging.delivery.subscription import Subscription
from pyfly_messaging.ports import MessageHandler


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
        self._routes: dict[Route, None] = {}  # in their order
        self._places: dict[tuple[str, str | None], _Place] = {}

    def __iter__(self) -> Iterator[Route]:
        return iter(tuple(self._routes))

    def add(self, subscription: Subscription) -> tuple[Route, bool]:
        """Add a subscription.

        Returns:
            Its route, and whether the route is a new one.

        Raises:
            ValueError: The same handler listens to this topic in this group already.

        """
        topic, group, handler = subscription.topic, subscription.group, subscription.handler
        place = self._places.get((topic, group)) or _Place()
        if handler in place:
            raise ValueError(
                f"handler {subscription.name!r} already listens to topic {topic!r} in group"
                f" {group!r}"
            )
        new = group is None or place.route is None
        route = Route(topic, group) if new or place.route is None else place.route
        route.add(Settlement(subscription, self._publish_dead_letter, on_spent=self._on_spent))
        place.add(handler, route)
        self._places[topic, group] = place
        self._routes[route] = None
        return route, new

    def remove(self, subscription: Subscription) -> None:
        """Take a subscription back whose consumer could not be started."""
        topic, group, handler = subscription.topic, subscription.group, subscription.handler
        place = self._places[topic, group]
        route = place.remove(handler)
        route.sum_up_failures()
        route.remove(subscription)
        if not route.subscriptions:
            del self._routes[route]
        if place.is_empty:
            del self._places[topic, group]

    def sum_up_failures(self) -> None:
        """Log what is not logged yet of storms of failures; for the end of a stop."""
        for route in self._routes:
            route.sum_up_failures()


class _Place:
    """The handlers of one (topic, group), each with its route."""

    def __init__(self) -> None:
        self.route: Route | None = None  # the last; a named group has one
        self._routes: dict[MessageHandler, Route] = {}
        self._unhashable: list[tuple[MessageHandler, Route]] = []

    def __contains__(self, handler: MessageHandler) -> bool:
        if _is_hashable(handler) and handler in self._routes:
            return True
        return any(known == handler for known, _ in self._unhashable)

    @property
    def is_empty(self) -> bool:
        return not self._routes and not self._unhashable

    def add(self, handler: MessageHandler, route: Route) -> None:
        self.route = route
        if _is_hashable(handler):
            self._routes[handler] = route
        else:
            self._unhashable.append((handler, route))

    def remove(self, handler: MessageHandler) -> Route:
        if _is_hashable(handler):
            return self._routes.pop(handler)
        found = next(pair for pair in self._unhashable if pair[0] == handler)
        self._unhashable.remove(found)
        return found[1]


def _is_hashable(handler: MessageHandler) -> bool:
    """Tell whether a handler can be looked up; an object with ``__eq__`` may not be."""
    try:
        hash(handler)
    except TypeError:
        return False
    return True
