"""The rounds over bootstrap servers, without a broker."""

import pytest

from pyfly_messaging.adapters.kafka import connect
from pyfly_messaging.adapters.kafka.connect import BootstrapConnection, Connection
from pyfly_messaging.delivery.backoff import Backoff
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.errors import BrokerUnavailableError
from pyfly_messaging.settings import KafkaSettings


class Recorded:
    """A backoff that notes how often in a row it was asked."""

    def __init__(self) -> None:
        self.failures: list[int] = []

    def pause(self, failures: int) -> float:
        self.failures.append(failures)
        return 0.001


async def _refuse(self: BootstrapConnection, timeout: float) -> OSError:
    return OSError("refused")


def bootstrap_connection() -> BootstrapConnection:
    """Return a connection to one server."""
    return BootstrapConnection(["127.0.0.1:9"], Connection(KafkaSettings()))


async def test_each_round_that_fails_makes_the_pause_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pause is that of the backoff after as many failures as there were rounds."""
    backoff = Recorded()
    monkeypatch.setattr(connect, "_BACKOFF", backoff)
    monkeypatch.setattr(BootstrapConnection, "_ask_all", _refuse)
    with pytest.raises(BrokerUnavailableError) as refusal:
        await bootstrap_connection()(Deadline(0.1))
    assert len(backoff.failures) > 1
    assert backoff.failures == list(range(1, refusal.value.attempts + 1))


def test_processes_that_lost_the_broker_together_do_not_come_back_together() -> None:
    """Pauses between rounds vary at random."""
    assert isinstance(connect._BACKOFF, Backoff)
    assert connect._BACKOFF.pause(1, lambda: 0.0) < connect._BACKOFF.pause(1, lambda: 1.0)
