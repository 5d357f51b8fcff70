"""Ending aiokafka's clients within a time limit, whatever their brokers do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.protocol.group import LeaveGroupRequest

from pyfly_messaging.delivery.uninterrupted import uninterrupted
from pyfly_messaging.logs import describe, get_logger

logger = get_logger("pyfly_messaging.kafka")

# For what needs no broker any more. Seconds.
_AT_ONCE = 1.0
# For a member to notice that it is to leave. Seconds.
_MOMENT = 0.1


@contextmanager
def bootstrapping() -> Iterator[None]:
    """Close what aiokafka leaves open when it is cancelled while it asks for the first metadata.

    Its connection is known to nobody else by then (0.14, ``AIOKafkaClient.bootstrap``).
    """
    try:
        yield
    except asyncio.CancelledError as error:
        for frame, _ in walk_tb(error.__traceback__):
            connection = frame.f_locals.get("bootstrap_conn")
            if isinstance(connection, AIOKafkaConnection):
                connection.close()
                _abort(connection)
        raise


async def end_producer(producer: AIOKafkaProducer, timeout: float) -> bool:
    """Flush and close; False when messages may be left that nobody confirmed.

    With its brokers down an idempotent producer would flush for ever. Cancelled, it only closes.
    """
    ended = False
    try:
        ended = await _in_time(producer.stop(), timeout)
    finally:
        if not ended:
            parts = (producer, producer._sender, producer._message_accumulator)
            await uninterrupted(_force(producer.client, parts))
            # What waits for a confirmation would wait for ever.
            closed = KafkaConnectionError("closed before it answered")
            producer._message_accumulator.fail_all(closed)
    return ended


async def end_consumer(consumer: AIOKafkaConsumer[bytes, bytes], timeout: float) -> bool:
    """Leave the group and close; False when the group was not told.

    With its brokers down aiokafka's own stop hangs, or ends in a ``CancelledError`` of its own and
    leaves tasks and connections (0.14). Cancelled, it only leaves the group and closes.
    """
    ended = False
    try:
        ended = await _stop_consumer(consumer, timeout)
    finally:
        if not ended:
            ended = await uninterrupted(_force_consumer(consumer))
    return ended


async def _stop_consumer(consumer: AIOKafkaConsumer[bytes, bytes], timeout: float) -> bool:
    withdrawing = asyncio.create_task(
        _withdraw(consumer._coordinator), name="pyfly kafka withdrawal"
    )
    try:
        return await _in_time(consumer.stop(), timeout)
    finally:
        withdrawing.cancel()
        await asyncio.wait((withdrawing,))


async def _force_consumer(consumer: AIOKafkaConsumer[bytes, bytes]) -> bool:
    """Close a consumer whose own stop did not end; False when the group was not told."""
    coordinator, told = consumer._coordinator, False
    if isinstance(coordinator, GroupCoordinator):
        # A member that is not known to have left keeps its partitions for the session timeout.
        told = await _in_time(coordinator._maybe_leave_group(), _AT_ONCE)
    subscription = consumer._subscription.subscription
    assignment = None if subscription is None else subscription.assignment
    waiter = None if assignment is None else assignment.commit_refresh_needed
    await _force(consumer._client, (consumer, coordinator, consumer._fetcher, waiter))
    return told


async def _withdraw(coordinator: object) -> None:
    """Leave a group that still holds back its answer to the joining.

    aiokafka waits for that answer before it leaves (0.14), and may wait as long as a rebalance
    takes. Cut short, it would leave a member behind that nobody is, and for which the group waits.
    The coordinator takes nothing more on the connection of the question, so this goes by another.
    """
    if not isinstance(coordinator, GroupCoordinator) or coordinator._group_instance_id:
        return
    joining = coordinator._coordination_task
    while not joining.done():
        await asyncio.wait((joining,), timeout=_MOMENT)
        if not joining.done() and coordinator.member_id and coordinator.coordinator_id is not None:
            request = LeaveGroupRequest(coordinator.group_id, coordinator.member_id)
            try:
                await coordinator._client.send(coordinator.coordinator_id, request)
            except KafkaError as error:
                logger.debug("Kafka: %s", describe(error))


async def end_admin(admin: AIOKafkaAdminClient) -> None:
    """Close the connections of an admin client, whatever cancels the caller meanwhile."""
    await uninterrupted(_end_admin(admin))


async def _end_admin(admin: AIOKafkaAdminClient) -> None:
    if not await _in_time(admin.close(), _AT_ONCE):
        await _force(admin._client, (admin,))


async def hang_up(connection: AIOKafkaConnection) -> None:
    """Close a connection; one whose peer takes nothing any more is cut."""
    closed = connection.close()
    if closed is not None:
        try:
            await asyncio.wait((closed,), timeout=_AT_ONCE)
        finally:
            _abort(connection)


async def _in_time(stop: Any, timeout: float) -> bool:
    """Tell whether a client's own way to stop ended well within ``timeout`` seconds."""
    stopping = asyncio.ensure_future(stop)
    try:
        await asyncio.wait((stopping,), timeout=timeout)
    finally:
        stopping.cancel()
    if not stopping.done():
        await asyncio.wait((stopping,))
    if stopping.cancelled():
        return False
    if (error := stopping.exception()) is not None:
        logger.warning("Kafka: a client did not close well: %s", describe(error))
        return False
    return True


async def _force(client: AIOKafkaClient, parts: Iterable[object]) -> None:
    """End the tasks of a client and cut its connections."""
    connections = list(client._conns.values())
    owners = [part for part in (*parts, client) if part is not None]
    # One that is cancelled may first wait for another that it has started.
    for _ in range(3):
        running = [task for task in asyncio.all_tasks() if _belongs_to(task, owners)]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=_AT_ONCE / 3)
    for connection in (*connections, *client._conns.values()):
        connection.close()
        _abort(connection)


def _belongs_to(task: asyncio.Task[Any], owners: list[object]) -> bool:
    """Tell whether a task runs a method of one of the owners; aiokafka keeps no list of them."""
    frame = getattr(task.get_coro(), "cr_frame", None)
    it = None if frame is None else frame.f_locals.get("self")
    return it is not None and any(it is owner for owner in owners)


def _abort(connection: AIOKafkaConnection) -> None:
    """Cut a closed connection whose last bytes the peer does not take."""
    transport = getattr(connection._protocol, "_transport", None)
    if transport is not None:
        transport.abort()
