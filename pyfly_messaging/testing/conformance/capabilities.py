"""What an adapter claims beyond the port, so that what it does not claim is reported."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an adapter offers; every case that asks for nothing of it is the port's own contract.

    A case that needs what is not claimed does not run, and the summary says so.

    Attributes:
        redelivers: What was not settled at a stop comes again after the next start of the same
            broker object.
        durable: Messages of a named group outlive the broker object: another one continues.
        survives_crash: What a process had published, or had not settled, outlives its ``SIGKILL``.
            The kit kills processes that it starts itself, with a pickle of the suite; ``deadline``
            has to be longer than the broker takes to notice that a process is gone.
        groups_across_instances: Several broker objects see the same topics and share a group.
        broadcast: A listener without a group gets every message in each instance.
        backlog_for_named_groups: A named group that is new gets what was published before.
        key_order: With a higher concurrency, messages with the same key stay in order.
        topic_order: With a concurrency of 1, messages without a key stay in order, too.
        settles_on_publish: A publish returns when every handler has settled the message.
        unroutable: A message that no listener takes raises ``UnroutableError``.
        policies: ``subscribe`` takes ``policy=`` and ``name=`` (``AppliesPolicies``).
        batches: There is ``publish_many`` (``PublishesBatches``).
        health: There is ``health()`` (``ReportsHealth``).
        unreachable: The broker can be out of reach: the suite has ``make_unreachable_broker``.
        foreign: Others publish to it, too: the suite has ``publish_foreign``.
        reconnects: The suite can break the connection: it has ``break_connection``, ``restore``.
        in_flight_limit: How many messages a listener may hold unsettled, if that is bounded; the
            broker that the suite makes, not more than a few hundred.
        message_limit: The broker refuses a value of more bytes, if it has such a limit.
        takeover: Seconds after which an instance takes what another one has claimed and not
            renewed, for brokers whose claims expire; those that the suite makes, a few seconds.

    Raises:
        TypeError: There is no such capability, or its value is of the wrong kind.
        ValueError: A limit below 1, or a takeover of no time.

    """

    redelivers: bool = False
    durable: bool = False
    survives_crash: bool = False
    groups_across_instances: bool = False
    broadcast: bool = False
    backlog_for_named_groups: bool = False
    key_order: bool = False
    topic_order: bool = False
    settles_on_publish: bool = False
    unroutable: bool = False
    policies: bool = False
    batches: bool = False
    health: bool = False
    unreachable: bool = False
    foreign: bool = False
    reconnects: bool = False
    in_flight_limit: int | None = None
    message_limit: int | None = None
    takeover: float | None = None

    def __new__(cls, **claims: object) -> Self:
        """Refuse what is no capability, with a suggestion; `dataclass` would make none."""
        for name in claims:
            if name not in CAPABILITIES:
                near = difflib.get_close_matches(name, CAPABILITIES, 1)
                hint = f"did you mean {near[0]}" if near else f"there are {', '.join(CAPABILITIES)}"
                raise TypeError(f"{name!r} is no capability; {hint}")
        return object.__new__(cls)  # super() does not know a class with slots

    def __post_init__(self) -> None:
        for name in CAPABILITIES:
            value: object = getattr(self, name)
            if name == "takeover":
                _check_seconds(name, value)
            elif name not in _LIMITS and not isinstance(value, bool):
                raise TypeError(f"{name} is claimed with True or False, not with {value!r}")
            elif name in _LIMITS and value is not None:
                _check_limit(name, value)

    def missing(self, needs: tuple[str, ...]) -> str | None:
        """Return the first of ``needs`` that is not claimed, or None."""
        for need in needs:
            if not getattr(self, need):
                return need
        return None


def _check_limit(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a number, or None where there is no limit; not {value!r}")
    if value < 1:
        raise ValueError(f"{name} is at least 1, or None where there is no limit; not {value}")


def _check_seconds(name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is a number of seconds, or None; not {value!r}")
    if not value > 0:
        raise ValueError(f"{name} is more than 0 seconds, or None; not {value:g}")


_LIMITS = ("in_flight_limit", "message_limit")

CAPABILITIES: tuple[str, ...] = tuple(field.name for field in fields(Capabilities))
"""The names that a case can need."""
