"""What happens around a handler, as values."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from pyfly_messaging.policy import POLICY_FIELDS, ListenerPolicy, Timeouts


class TestListenerPolicy:
    """How a listener treats its messages."""

    def test_the_defaults_are_those_of_the_design(self) -> None:
        """The defaults are chosen for safety: retries, dead letters, one at a time."""
        policy = ListenerPolicy()
        assert {name: getattr(policy, name) for name in POLICY_FIELDS} == {
            "concurrency": 1,
            "timeout": None,
            "retries": 3,
            "retry_delay": 1.0,
            "retry_multiplier": 2.0,
            "retry_max_delay": 30.0,
            "retry_jitter": 0.1,
            "dead_letter": True,
            "dead_letter_topic": "{topic}.dlt",
            "fatal_exceptions": (),
        }

    def test_there_is_one_set_of_names(self) -> None:
        """The names of the policy are its fields."""
        assert tuple(field.name for field in fields(ListenerPolicy)) == POLICY_FIELDS

    def test_it_is_frozen_and_keyword_only(self) -> None:
        """A policy cannot be changed, and its fields have to be named."""
        with pytest.raises(FrozenInstanceError):
            ListenerPolicy().retries = 1  # type: ignore[misc]
        with pytest.raises(TypeError):
            ListenerPolicy(1)  # type: ignore[call-arg]

    @pytest.mark.parametrize(
        "given",
        [
            {"concurrency": 100},
            {"timeout": 0.001},
            {"timeout": 5},
            {"retries": 0},
            {"retry_delay": 0},
            {"retry_multiplier": 1},
            {"retry_max_delay": 0.0},
            {"retry_jitter": 0},
            {"retry_jitter": 1},
            {"dead_letter": False},
            {"dead_letter_topic": "graveyard"},
            {"dead_letter_topic": "dead.{topic}"},
            {"fatal_exceptions": (ValueError, "KeyError", "shop.errors.InvalidOrder")},
            {"fatal_exceptions": (KeyboardInterrupt,)},
        ],
    )
    def test_possible(self, given: dict[str, Any]) -> None:
        """Values in range are kept as they are."""
        policy = ListenerPolicy(**given)
        assert {name: getattr(policy, name) for name in given} == given

    @pytest.mark.parametrize(
        ("given", "error", "text"),
        [
            ({"concurrency": 0}, ValueError, "concurrency must be at least 1, got 0"),
            ({"concurrency": 1.5}, TypeError, "concurrency must be a whole number, got 1.5"),
            ({"concurrency": True}, TypeError, "concurrency must be a whole number"),
            ({"retries": -1}, ValueError, "retries must be at least 0, got -1"),
            ({"retries": "3"}, TypeError, "retries must be a whole number, got '3'"),
            ({"timeout": 0}, ValueError, "timeout must be more than 0, got 0"),
            ({"timeout": -1.0}, ValueError, "timeout must be a finite number, at least 0"),
            ({"timeout": "5s"}, TypeError, "timeout must be a number, got '5s'"),
            ({"retry_delay": -0.1}, ValueError, "retry_delay must be a finite number"),
            ({"retry_delay": math.inf}, ValueError, "retry_delay must be a finite number"),
            ({"retry_delay": math.nan}, ValueError, "retry_delay must be a finite number"),
            ({"retry_delay": False}, TypeError, "retry_delay must be a number, got False"),
            ({"retry_multiplier": 0.9}, ValueError, "retry_multiplier .* at least 1, got 0.9"),
            ({"retry_max_delay": -1}, ValueError, "retry_max_delay must be a finite number"),
            ({"retry_jitter": 1.1}, ValueError, "retry_jitter .* from 0 to 1, got 1.1"),
            ({"dead_letter": "no"}, TypeError, "dead_letter must be a bool, got 'no'"),
            ({"dead_letter_topic": None}, TypeError, "dead_letter_topic must be text, got None"),
            ({"dead_letter_topic": ""}, ValueError, "invalid topic ''"),
            ({"dead_letter_topic": "no spaces"}, ValueError, "invalid topic 'no spaces'"),
            ({"dead_letter_topic": "{topc}.dlt"}, ValueError, "invalid topic '{topc}.dlt'"),
            ({"dead_letter_topic": "{topic}"}, ValueError, "is the topic itself"),
            ({"fatal_exceptions": (ValueError(),)}, TypeError, "takes classes and names"),
            ({"fatal_exceptions": (int,)}, TypeError, "takes classes and names"),
            ({"fatal_exceptions": (7,)}, TypeError, "takes classes and names, got 7"),
            ({"fatal_exceptions": ("InvalidOrder",)}, ValueError, "no built-in exception"),
            ({"fatal_exceptions": ("print",)}, ValueError, "no built-in exception"),
        ],
    )
    def test_impossible(self, given: dict[str, Any], error: type[Exception], text: str) -> None:
        """A wrong type or a value out of range is refused, with the name and the value."""
        with pytest.raises(error, match=text):
            ListenerPolicy(**given)

    def test_replace(self) -> None:
        """A policy with other values is another policy; what is not named stays."""
        policy = ListenerPolicy(retries=7)
        changed = policy.replace(retry_delay=5.0)
        assert (changed.retries, changed.retry_delay) == (7, 5.0)
        assert policy.retry_delay == 1.0
        with pytest.raises(ValueError, match="retries must be at least 0"):
            policy.replace(retries=-1)
        with pytest.raises(TypeError):
            policy.replace(retrys=1)

    @pytest.mark.parametrize(
        ("given", "target"),
        [
            ({}, "orders.dlt"),
            ({"dead_letter_topic": "dead.{topic}"}, "dead.orders"),
            ({"dead_letter_topic": "graveyard"}, "graveyard"),
            ({"dead_letter": False}, None),
        ],
    )
    def test_where_spent_messages_go(self, given: dict[str, Any], target: str | None) -> None:
        """The dead-letter topic is made from the topic, or there is none."""
        assert ListenerPolicy(**given).dead_letter_topic_for("orders") == target

    def test_they_never_return(self) -> None:
        """A dead-letter topic that is the topic itself is refused: it would be a loop."""
        with pytest.raises(ValueError, match="dead-letter topic of 'orders' is the topic itself"):
            ListenerPolicy(dead_letter_topic="orders").dead_letter_topic_for("orders")

    def test_a_name_that_gets_too_long_is_refused(self) -> None:
        """A topic whose dead-letter topic no broker could have is refused."""
        with pytest.raises(ValueError, match="invalid topic"):
            ListenerPolicy().dead_letter_topic_for("o" * 246)

    @pytest.mark.parametrize(
        ("named", "topic", "source"),
        [
            ("{topic}.dlt", "orders.dlt", "orders"),
            ("{topic}.dlt", "orders.dlt.dlt", "orders.dlt"),
            ("{topic}.dlt", "orders", None),
            ("{topic}.dlt", ".dlt", None),
            ("dead.{topic}", "dead.orders", "orders"),
            ("dead.{topic}.x", "dead.orders.x", "orders"),
            ("dead.{topic}.x", "dead.x", None),
            ("{topic}.{topic}", "orders.orders", None),
            ("dead", "dead", None),
        ],
    )
    def test_whose_dead_letters_a_topic_has(
        self, named: str, topic: str, source: str | None
    ) -> None:
        """From a dead-letter topic's name follows the topic, where it has one place in it."""
        policy = ListenerPolicy(dead_letter_topic=named)
        assert policy.source_of(topic) == source
        if source is not None:
            assert policy.dead_letter_topic_for(source) == topic


class TestTimeouts:
    """The deadlines of a broker."""

    def test_the_defaults_are_those_of_the_design(self) -> None:
        """Publish, start and stop have 30 seconds each."""
        timeouts = Timeouts()
        assert (timeouts.publish, timeouts.startup, timeouts.shutdown) == (30.0, 30.0, 30.0)

    @pytest.mark.parametrize("name", ["publish", "startup", "shutdown"])
    @pytest.mark.parametrize(
        ("value", "error"),
        [(0, ValueError), (-1, ValueError), (math.inf, ValueError), ("30s", TypeError)],
    )
    def test_impossible(self, name: str, value: Any, error: type[Exception]) -> None:
        """A deadline is a finite number above zero."""
        with pytest.raises(error, match=f"{name} must be"):
            Timeouts(**{name: value})
