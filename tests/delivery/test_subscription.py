"""What is checked before a handler listens."""

from __future__ import annotations

from typing import Any

import pytest

from pyfly_messaging.delivery.subscription import Subscription
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy


async def on_order(message: Message) -> None:
    """Do nothing."""


def of(**changes: Any) -> Subscription:
    given: dict[str, Any] = {
        "topic": "orders",
        "handler": on_order,
        "group": "billing",
        "policy": ListenerPolicy(),
        **changes,
    }
    topic, handler, group = given.pop("topic"), given.pop("handler"), given.pop("group")
    return Subscription.of(topic, handler, group, **given)


def test_it_keeps_what_it_is_given() -> None:
    """A subscription has the topic, group, handler, policy and name that it was made with."""
    policy = ListenerPolicy(retries=7)
    made = of(policy=policy, name="billing-orders")
    assert (made.topic, made.group, made.handler) == ("orders", "billing", on_order)
    assert (made.policy, made.name) == (policy, "billing-orders")


def test_the_default_name_is_the_handlers() -> None:
    """Without a name it is the handler's, in kebab-case."""
    assert of().name == "on-order"


def test_no_group_is_a_group_too() -> None:
    """A handler can listen without a group."""
    assert of(group=None).group is None


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ({"topic": "no spaces"}, ValueError, "invalid topic 'no spaces'"),
        ({"topic": b"orders"}, TypeError, "topic must be str"),
        ({"group": "amq.x"}, ValueError, "invalid group 'amq.x'"),
        ({"group": 7}, TypeError, "group must be str or None"),
        ({"handler": print}, TypeError, "must be an async callable"),
        (
            {"policy": ListenerPolicy(dead_letter_topic="orders")},
            ValueError,
            "dead-letter topic of 'orders' is the topic itself",
        ),
        ({"topic": "o" * 246}, ValueError, "invalid topic"),
    ],
)
def test_what_no_broker_could_do_is_refused(
    wrong: dict[str, Any], error: type[Exception], text: str
) -> None:
    """Topic, group, handler and dead-letter topic are checked before anything is connected."""
    with pytest.raises(error, match=text):
        of(**wrong)
