"""The contract on the in-memory broker."""

import pytest

from pyfly_messaging.adapters.memory import InMemoryMessageBroker
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.testing.conformance import Capabilities, ConformanceSuite


@pytest.mark.usefixtures("no_broker_starts")
class TestMemory(ConformanceSuite):
    """All cases; nothing outlives the broker, and no other instance sees its topics."""

    capabilities = Capabilities(
        redelivers=True,
        key_order=True,
        topic_order=True,
        settles_on_publish=True,
        policies=True,
        batches=True,
        health=True,
    )

    def make_broker(self, *, policy: ListenerPolicy, timeouts: Timeouts) -> InMemoryMessageBroker:
        return InMemoryMessageBroker(policy=policy, timeouts=timeouts)
