"""Watching a consumer, until it has ended or is of no more use."""

from __future__ import annotations

import asyncio

from pyfly_messaging.adapters.kafka import errors
from pyfly_messaging.adapters.kafka.client import Client
from pyfly_messaging.adapters.kafka.membership import Membership
from pyfly_messaging.adapters.kafka.outage import Outage
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.errors import BrokerError
from pyfly_messaging.logs import get_logger

logger = get_logger("pyfly_messaging.kafka")

# How often a consumer is looked at, and how long a silent one may stay silent while a broker
# answers. Seconds.
_LOOK, _PATIENCE = 1.0, 15.0


async def attend(client: Client, route: Route, membership: Membership, outage: Outage) -> str:
    """Have a consumer consume; return why it has ended, or is of no more use.

    Args:
        client: How to reach the broker.
        route: Where the messages go.
        membership: The consumer.
        outage: What tells of outages; one may end with another consumer than it began with.

    """
    watching = asyncio.create_task(
        _watch(client, route, membership, outage), name=f"pyfly kafka watch {route.name}"
    )
    consuming = asyncio.create_task(membership.consume(), name=f"pyfly kafka intake {route.name}")
    try:
        done, _ = await asyncio.wait((watching, consuming), return_when=asyncio.FIRST_COMPLETED)
    finally:
        watching.cancel()
        consuming.cancel()
        await asyncio.wait((watching, consuming))
    return _outcome(route, watching if watching in done else consuming)


def _outcome(route: Route, ended: asyncio.Task[str]) -> str:
    if ended.cancelled():  # not by us: aiokafka has let out what cancelled a task of its own
        return "its client was cancelled"
    if (error := ended.exception()) is None:
        return ended.result()
    if not isinstance(error, errors.CLIENT_ERRORS):
        logger.error("Kafka: listener %s", route.name, exc_info=error)
    return errors.describe(error)


async def _watch(client: Client, route: Route, membership: Membership, outage: Outage) -> str:
    """Tell of outages; return why the consumer is of no more use.

    It is when it has heard nothing for long, although a broker answers (aiokafka itself connects
    again, but only to addresses that it knows), and when its topic was deleted.
    """
    clock = asyncio.get_running_loop().time
    limit = client.settings.session_timeout
    heard, answered = clock(), None
    while True:
        await asyncio.sleep(_LOOK)
        outage.look(membership.stuck)
        if await membership.topic.is_lost():
            return f"topic {route.topic!r} was deleted"
        if membership.alive:
            heard, answered = clock(), None
        elif clock() - heard > limit:
            try:
                await client.reach(Deadline(_LOOK))
            except BrokerError:
                answered = None
                continue
            answered = answered or clock()
            if clock() - answered > _PATIENCE:
                return "it has fallen silent"
