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
