"""Subscriptions as routes by topic and group."""

from __future__ import annotations

import pytest

from pyfly_messaging.delivery.registry import Registry
from pyfly_messaging.message import Message
from tests.delivery.clock import on_virtual_time
from tests.delivery.samples import Graveyard, failing, message, nowhere, subscription


async def one(message: Message) -> None:
    """Do nothing."""


async def other(message: Message) -> None:
    """Do nothing either."""


def test_a_route_for_each_topic_and_group() -> None:
    """Handlers of one topic and group share a route; the registry yields routes as they came."""
    registry = Registry(nowhere)
    first, first_is_new = registry.add(subscription(one, name="first"))
    second, second_is_new = registry.add(subscription(one, group="else", name="second"))
    third, third_is_new = registry.add(subscription(other, name="third"))
    fourth, fourth_is_new = registry.add(subscription(one, group=None, name="fourth"))
    fifth, fifth_is_new = registry.add(subscription(one, topic="refunds", name="fifth"))
    assert first is third
    assert [first_is_new, second_is_new, third_is_new, fourth_is_new, fifth_is_new] == [
        True,
        True,
        False,
        True,
        True,
    ]
    assert list(registry) == [first, second, fourth, fifth]
    assert [route.name for route in registry] == ["first, third", "second", "fourth", "fifth"]


def test_without_a_group_every_handler_has_a_route_of_its_own() -> None:
    """Handlers without a group have nothing in common but the topic, and are taken back alone."""
    registry = Registry(nowhere)
    mine = subscription(one, group=None, name="mine", concurrency=3)
    yours = subscription(other, group=None, name="yours")
    assert [registry.add(each)[1] for each in (mine, yours)] == [True, True]
    assert [(route.name, route.concurrency) for route in registry] == [("mine", 3), ("yours", 1)]
    registry.remove(mine)
    assert [route.name for route in registry] == ["yours"]


@pytest.mark.parametrize("group", ["group", None])
def test_the_same_handler_twice_is_refused(group: str | None) -> None:
    """A handler cannot listen twice to one topic in one group, as a bound method neither."""

    class Service:
        async def on_order(self, message: Message) -> None:
            """Do nothing."""

    service = Service()
    registry = Registry(nowhere)
    registry.add(subscription(service.on_order, group=group, name="mine"))
    with pytest.raises(ValueError, match="'mine' already listens to topic 'orders' in group"):
        registry.add(subscription(service.on_order, group=group, name="mine"))
    assert [route.name for route in registry] == ["mine"]
    registry.add(subscription(Service().on_order, group=group, name="another instance's"))


def test_a_subscription_can_be_taken_back() -> None:
    """Taking back the last subscription of a route takes back the route."""
    registry = Registry(nowhere)
    mine, yours = subscription(one, name="mine"), subscription(other, name="yours")
    registry.add(mine)
    registry.add(yours)
    registry.remove(mine)
    assert [route.name for route in registry] == ["yours"]
    registry.remove(yours)
    assert list(registry) == []
    assert registry.add(mine)[1] is True


class Counted:
    """A handler that counts how often any of its kind is compared."""

    comparisons = 0

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return isinstance(other, Counted) and other.number == self.number

    def __hash__(self) -> int:
        return hash(self.number)

    async def __call__(self, message: Message) -> None:
        """Do nothing."""


def test_a_subscription_costs_the_same_however_many_there_are() -> None:
    """No handler is compared with all others of its topic, nor with those of other topics."""
    registry = Registry(nowhere)
    Counted.comparisons = 0
    for number in range(1000):
        registry.add(subscription(Counted(number), group=None))
        registry.add(subscription(Counted(0), topic=f"orders-{number}"))
    assert Counted.comparisons < 20
    with pytest.raises(ValueError, match="already listens"):
        registry.add(subscription(Counted(500), group=None))


def test_a_handler_that_cannot_be_hashed() -> None:
    """A handler without a hash is told from others by comparison, and can be taken back."""

    class Unhashable(Counted):
        __hash__ = None  # type: ignore[assignment]

    registry = Registry(nowhere)
    mine, yours = subscription(Unhashable(1)), subscription(Unhashable(2))
    route, _ = registry.add(mine)
    assert registry.add(yours) == (route, False)
    with pytest.raises(ValueError, match="already listens"):
        registry.add(subscription(Unhashable(2)))
    registry.remove(mine)
    assert route.subscriptions == (yours,)
    registry.remove(yours)
    assert list(registry) == []


@on_virtual_time
async def test_what_spends_messages_is_told() -> None:
    """Dead letters go where the registry says, and `on_spent` hears of each spent message."""
    graveyard, spent = Graveyard(), list[BaseException]()
    registry = Registry(graveyard.bury, on_spent=spent.append)
    error = ValueError("no")
    handler, _ = failing(error)
    route, _ = registry.add(subscription(handler, retries=0))
    assert await route.attempt(message()) is None
    assert graveyard.errors == spent == [error]
