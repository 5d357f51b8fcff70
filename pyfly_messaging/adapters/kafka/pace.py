"""How often aiokafka's clients ask for metadata."""

from __future__ import annotations

import asyncio

from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata

# Between two questions for the metadata of the same topics. Seconds.
_INTERVAL = 0.1


def pace(client: AIOKafkaClient) -> None:
    """Have a client pause before it asks once more for the metadata of the same topics.

    While a partition has no leader aiokafka asks without a pause, thousands of times a second.
    """
    update, clock = client._metadata_update, asyncio.get_running_loop().time
    asked, at = frozenset[str](), 0.0

    async def paced(cluster: ClusterMetadata, topics: set[str]) -> bool:
        nonlocal asked, at
        if asked == topics:
            await asyncio.sleep(at + _INTERVAL - clock())
        asked, at = frozenset(topics), clock()
        updated: bool = await update(cluster, topics)
        return updated

    client._metadata_update = paced
