"""The in-memory broker: the same delivery as on a real broker, within one process."""

from pyfly_messaging.adapters.memory.broker import InMemoryMessageBroker

__all__ = ["InMemoryMessageBroker"]
