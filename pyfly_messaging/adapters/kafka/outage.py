"""Telling of an outage once, and once of its end."""

from __future__ import annotations

from pyfly_messaging.logs import get_logger

logger = get_logger("pyfly_messaging.kafka")


class Outage:
    """Logs once that a consumer gets nothing, and once that it does again.

    Args:
        name: What logs call the listener.

    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._looks = 0  # at which nothing could arrive, one after the other

    def look(self, stuck: str | None) -> None:
        """Note whether records can arrive now."""
        if stuck is None:
            if self._looks > 1:
                logger.info("Kafka: listener %s is consumed again", self._name)
            self._looks = 0
            return
        self._looks += 1
        if self._looks == 2:  # not at a rebalance that is over at once
            logger.warning(
                "Kafka: listener %s is not consumed until it works again: %s", self._name, stuck
            )
