"""What an adapter claims beyond the port, so that what it does not claim is reported."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an adapter offers; every case that asks for nothing of it is the port's own contract.

    A case that needs what is not claimed does not run, and the summary says so.

    Attributes:
        redelivers: What was not settled at a stop comes again after the next start of the same
            broker object.
        durable: Messages of a named group outlive the broker object: another one continues.
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
        in_flight_limit: How many messages a listener may hold unsettled, if that is bounded; the
            broker that the suite makes, not more than a few hundred.
        message_limit: The broker refuses a value of more bytes, if it has such a limit.

    """

    redelivers: bool = False
    durable: bool = False
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
    in_flight_limit: int | None = None
    message_limit: int | None = None

    def missing(self, needs: tuple[str, ...]) -> str | None:
        """Return the first of ``needs`` that is not claimed, or None."""
        for need in needs:
            if not getattr(self, need):
                return need
        return None


CAPABILITIES: tuple[str, ...] = tuple(field.name for field in fields(Capabilities))
"""The names that a case can need."""
