"""The policy of a listener: retries, timeout, concurrency, dead letter; the broker's deadlines.

Every field is a key below ``listener:`` and ``listeners: <name>:`` in the configuration, and a
keyword of ``@message_listener``.
"""

from __future__ import annotations

import builtins
import math
from dataclasses import dataclass, fields
from dataclasses import replace as _replace
from typing import Any

from pyfly_messaging.message import check_topic

TOPIC_PLACEHOLDER = "{topic}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerPolicy:
    """How a listener treats its messages. Durations are seconds.

    Attributes:
        concurrency: Handlers at once. With 1, messages are handled in order; with more, those with
            the same key stay in order.
        timeout: Limit of one attempt, or None. An attempt over it has failed.
        retries: Attempts after the first one.
        retry_delay: Pause before the first retry.
        retry_multiplier: Factor between one pause and the next.
        retry_max_delay: Longest pause.
        retry_jitter: Share of a pause by which it varies at random, up and down (0 to 1).
        dead_letter: Whether a spent message is kept on a dead-letter topic. ``False`` means that it
            is logged and dropped.
        dead_letter_topic: Where spent messages go; ``{topic}`` stands for the listener's topic.
        fatal_exceptions: Exceptions that no retry can mend, as classes or by name
            (``"ValueError"``; one that is not built in with its module,
            ``"shop.errors.InvalidOrder"``); their subclasses too.

    Raises:
        TypeError: A field of the wrong type.
        ValueError: A field out of its range.

    """

    concurrency: int = 1
    timeout: float | None = None
    retries: int = 3
    retry_delay: float = 1.0
    retry_multiplier: float = 2.0
    retry_max_delay: float = 30.0
    retry_jitter: float = 0.1
    dead_letter: bool = True
    dead_letter_topic: str = TOPIC_PLACEHOLDER + ".dlt"
    fatal_exceptions: tuple[type[BaseException] | str, ...] = ()

    def __post_init__(self) -> None:
        _whole("concurrency", self.concurrency, at_least=1)
        _whole("retries", self.retries, at_least=0)
        if self.timeout is not None:
            _number("timeout", self.timeout, above=0)
        _number("retry_delay", self.retry_delay)
        _number("retry_multiplier", self.retry_multiplier, at_least=1)
        _number("retry_max_delay", self.retry_max_delay)
        _number("retry_jitter", self.retry_jitter, at_most=1)
        if not isinstance(self.dead_letter, bool):
            raise TypeError(f"dead_letter must be a bool, got {self.dead_letter!r}")
        if not isinstance(self.dead_letter_topic, str):
            raise TypeError(f"dead_letter_topic must be text, got {self.dead_letter_topic!r}")
        check_topic(self.dead_letter_topic.replace(TOPIC_PLACEHOLDER, "topic"))
        if self.dead_letter_topic == TOPIC_PLACEHOLDER:
            raise ValueError("dead_letter_topic is the topic itself: spent messages would return")
        for fatal in self.fatal_exceptions:
            if not isinstance(fatal, str) and not (
                isinstance(fatal, type) and issubclass(fatal, BaseException)
            ):
                raise TypeError(f"fatal_exceptions takes classes and names, got {fatal!r}")
            if isinstance(fatal, str) and "." not in fatal and not _is_built_in(fatal):
                raise ValueError(
                    f"fatal_exceptions: {fatal!r} is no built-in exception; write the name of an"
                    " exception of your own with its module: 'shop.errors.InvalidOrder'"
                )

    def replace(self, **changes: Any) -> ListenerPolicy:
        """Return this policy with other values for some of its fields.

        Raises:
            TypeError: A name that is no field of the policy.

        """
        return _replace(self, **changes)

    def dead_letter_topic_for(self, topic: str) -> str | None:
        """Return where spent messages of ``topic`` go, or None when they are dropped.

        Raises:
            ValueError: The dead-letter topic is the topic itself, or too long a name.

        """
        if not self.dead_letter:
            return None
        target = self.dead_letter_topic.replace(TOPIC_PLACEHOLDER, topic)
        check_topic(target)
        if target == topic:
            raise ValueError(
                f"the dead-letter topic of {topic!r} is the topic itself: spent messages would"
                " return for ever; choose another dead_letter_topic"
            )
        return target

    def source_of(self, dead_letter_topic: str) -> str | None:
        """Return the topic whose dead letters go to ``dead_letter_topic``, or None.

        It is known as far as ``dead_letter_topic`` of the policy has the topic's place in it.
        """
        before, _, after = self.dead_letter_topic.partition(TOPIC_PLACEHOLDER)
        source = dead_letter_topic.removeprefix(before).removesuffix(after)
        target = self.dead_letter_topic.replace(TOPIC_PLACEHOLDER, source)
        if not source or source == dead_letter_topic or target != dead_letter_topic:
            return None
        return source


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """The deadlines of a broker, in seconds, each for the whole of what it names.

    Attributes:
        publish: A publish that is not confirmed by then raises.
        startup: All of ``start()``, retries of an unreachable broker included.
        shutdown: All of ``stop()``; handlers that still run then are cancelled.

    Raises:
        TypeError: A value that is not a number.
        ValueError: A value that is not above zero.

    """

    publish: float = 30.0
    startup: float = 30.0
    shutdown: float = 30.0

    def __post_init__(self) -> None:
        for name in ("publish", "startup", "shutdown"):
            _number(name, getattr(self, name), above=0)


POLICY_FIELDS: tuple[str, ...] = tuple(f.name for f in fields(ListenerPolicy))
"""The one set of names: policy fields, decorator keywords and configuration keys."""


def _is_built_in(name: str) -> bool:
    found = getattr(builtins, name, None)
    return isinstance(found, type) and issubclass(found, BaseException)


def _whole(name: str, value: Any, *, at_least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {value}")


def _number(
    name: str,
    value: Any,
    *,
    at_least: float = 0,
    above: float | None = None,
    at_most: float = math.inf,
) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not at_least <= value <= at_most or not math.isfinite(value):
        limit = f"at least {at_least}" if at_most == math.inf else f"from {at_least} to {at_most}"
        raise ValueError(f"{name} must be a finite number, {limit}, got {value}")
    if above is not None and value <= above:
        raise ValueError(f"{name} must be more than {above}, got {value}")
