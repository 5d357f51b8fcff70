"""Ending aiokafka's clients within a time limit, whatever their brokers do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.protocol.group import LeaveGroupRequest

from pyfly_messaging.adapters.kafka import internals
from pyfly_messaging.delivery.uninterrupted import uninterrupted
from pyfly_messaging.logs import describe, get_logger

logger = get_logger("pyfly_messaging.kafka")

# For what needs no broker any more. Seconds.
_FORCE_TIMEOUT_S = 1.0
# For a member to notice that it is to leave. Seconds.
_JOIN_POLL_S = 0.1


async def end_producer(producer: AIOKafkaProducer, timeout: float) -> bool:
    """Flush and close; False when messages may be left unconfirmed.

    With its brokers down an idempotent producer would flush for ever. Cancelled, it only closes.
    """
    ended = False
    try:
        ended = await _in_time(producer.stop(), timeout)
    finally:
        if not ended:
            await uninterrupted(_force(producer.client, internals.parts_of_producer(producer)))
            closed = KafkaConnectionError("closed before it answered")
            internals.fail_unconfirmed(producer, closed)
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
    leaving = asyncio.create_task(
        _leave_while_joining(internals.coordinator_of(consumer)), name="pyfly kafka leave"
    )
    try:
        return await _in_time(consumer.stop(), timeout)
    finally:
        leaving.cancel()
        await asyncio.wait((leaving,))


async def _force_consumer(consumer: AIOKafkaConsumer[bytes, bytes]) -> bool:
    """Close a consumer whose own stop did not end; False when the group was not told."""
    told = False
    if (coordinator := internals.coordinator_of(consumer)) is not None:
        told = await _in_time(internals.leave_group(coordinator), _FORCE_TIMEOUT_S)
    await _force(internals.client_of(consumer), internals.parts_of_consumer(consumer))
    return told


async def _leave_while_joining(coordinator: GroupCoordinator | None) -> None:
    """Leave a group that still holds back its answer to the joining.

    aiokafka waits for that answer before it leaves (0.14), and may wait as long as a rebalance
    takes. Cut short, it would leave a member without a consumer, for which the group waits.
    The coordinator takes nothing more on the connection of the question, so this goes by another.
    """
    joining = None if coordinator is None else internals.joining_task(coordinator)
    if coordinator is None or joining is None:
        return
    while not joining.done():
        await asyncio.wait((joining,), timeout=_JOIN_POLL_S)
        if not joining.done() and coordinator.member_id and coordinator.coordinator_id is not None:
            request = LeaveGroupRequest(coordinator.group_id, coordinator.member_id)
            try:
                await internals.ask_coordinator(coordinator, request)
            except KafkaError as error:
                logger.debug("Kafka: %s", describe(error))


async def end_admin(admin: AIOKafkaAdminClient) -> None:
    """Close the connections of an admin client, whatever cancels the caller meanwhile."""
    await uninterrupted(_end_admin(admin))


async def _end_admin(admin: AIOKafkaAdminClient) -> None:
    if not await _in_time(admin.close(), _FORCE_TIMEOUT_S):
        await _force(internals.client_of(admin), (admin,))


async def close_connection(connection: AIOKafkaConnection) -> None:
    """Close a connection; one whose peer takes nothing any more is cut."""
    closed = connection.close()
    if closed is not None:
        try:
            await asyncio.wait((closed,), timeout=_FORCE_TIMEOUT_S)
        finally:
            internals.abort(connection)


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
    connections = internals.connections(client)
    owners = (*parts, client)
    # One that is cancelled may first wait for another that it has started.
    for _ in range(3):
        running = internals.tasks_of(owners)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=_FORCE_TIMEOUT_S / 3)
    for connection in (*connections, *internals.connections(client)):
        connection.close()
        internals.abort(connection)
