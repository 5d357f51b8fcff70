"""A storm of failures is summed up, and nothing of it is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

from pyfly_messaging.adapters.memory import InMemoryMessageBroker
from pyfly_messaging.delivery.registry import Registry
from pyfly_messaging.delivery.settlement import Settlement
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy
from tests.delivery.clock import VirtualLoop, on_virtual_time, run
from tests.delivery.samples import (
    Graveyard,
    failing,
    message,
    nowhere,
    settlement,
    subscription,
    to_the_end,
)


async def fail_often(made: Settlement, times: int) -> None:
    """Attempt as many messages, each to its end."""
    for _ in range(times):
        await to_the_end(made.attempt(message()))


def dropping(*errors: BaseException) -> Settlement:
    """Return a settlement that drops what fails, as the errors say and then as the last does."""
    handler, _ = failing(*errors, *[errors[-1]] * 10_000)
    return settlement(handler, retries=0, dead_letter=False)


SUMMARY = "listener listener: {} more failures within 10 s (level DEBUG shows each): {}"


def timers() -> list[asyncio.TimerHandle]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.timers()


@on_virtual_time
async def test_the_first_failures_have_a_line_each(caplog: pytest.LogCaptureFixture) -> None:
    """Ten failures within ten seconds are no storm, and no timer is set for them."""
    made = dropping(ValueError("no"))
    for _ in range(3):
        await fail_often(made, 10)
        await asyncio.sleep(10)
    assert len(caplog.messages) == 30
    assert all("dropped after 1 attempts" in text for text in caplog.messages)


@on_virtual_time
async def test_a_storm_is_summed_up(caplog: pytest.LogCaptureFixture) -> None:
    """What comes after the tenth line is counted, and told once at the end of the interval."""
    made = dropping(*[KeyError()] * 25, ValueError())
    await fail_often(made, 25)
    await asyncio.sleep(3)
    await fail_often(made, 75)
    assert len(caplog.messages) == 10
    assert len(timers()) == 1
    await asyncio.sleep(7)
    assert caplog.messages[10:] == [
        SUMMARY.format(90, "90 messages are dropped (75 ValueError, 15 KeyError)")
    ]
    assert caplog.records[-1].levelno == logging.ERROR
    await asyncio.sleep(10)
    assert len(caplog.messages) == 11
    assert timers() == []


@on_virtual_time
async def test_a_storm_goes_on_until_it_is_calm(caplog: pytest.LogCaptureFixture) -> None:
    """While a storm lasts each interval has one example and a sum, and afterwards all is told."""
    made = dropping(ValueError())
    await fail_often(made, 20)
    await asyncio.sleep(10)
    for _ in range(3):
        caplog.clear()
        await fail_often(made, 20)
        await asyncio.sleep(10)
        assert len(caplog.messages) == 2
        assert caplog.messages[1] == SUMMARY.format(19, "19 messages are dropped (19 ValueError)")
    await fail_often(made, 10)
    await asyncio.sleep(10)
    assert timers() == []
    caplog.clear()
    await fail_often(made, 10)
    assert len(caplog.messages) == 10


@on_virtual_time
async def test_each_outcome_has_lines_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """Retries do not use up the lines, and the tracebacks, of messages that are given up."""
    handler, _ = failing(*[ValueError()] * 60)
    graveyard = Graveyard(*[ConnectionError()] * 30)
    made = settlement(handler, graveyard.bury, retries=2)
    await fail_often(made, 20)
    assert len([record for record in caplog.records if record.exc_info]) == 10
    assert len(caplog.records) == 30
    made.sum_up_failures()
    outcomes = (
        "30 attempts failed and are repeated, "
        "10 messages go to dead letters, "
        "20 dead letters are not confirmed and published again"
    )
    assert caplog.messages[30:] == [
        SUMMARY.format(60, outcomes + " (40 ValueError, 20 ConnectionError)")
    ]


@on_virtual_time
async def test_retries_alone_are_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """A sum without a message that was given up is no error."""
    handler, _ = failing(*[ValueError()] * 12)
    made = settlement(handler, retries=100)
    await to_the_end(made.attempt(message()))
    made.sum_up_failures()
    assert caplog.records[-1].levelno == logging.WARNING
    assert caplog.messages[10:] == [
        SUMMARY.format(2, "2 attempts failed and are repeated (2 ValueError)")
    ]


@on_virtual_time
async def test_summing_up_leaves_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    """At a stop the sum comes at once, without a second one, and the timer is gone."""
    made = dropping(ValueError())
    made.sum_up_failures()
    await fail_often(made, 11)
    made.sum_up_failures()
    made.sum_up_failures()
    assert timers() == []
    assert caplog.messages[10:] == [SUMMARY.format(1, "1 messages are dropped (1 ValueError)")]


@on_virtual_time
async def test_at_debug_every_failure_has_its_line(caplog: pytest.LogCaptureFixture) -> None:
    """At level DEBUG nothing is left out, tracebacks included; the sum comes as well."""
    caplog.set_level(logging.DEBUG, "pyfly_messaging")
    made = dropping(ValueError())
    await fail_often(made, 15)
    made.sum_up_failures()
    levels = [record.levelno for record in caplog.records if record.exc_info]
    assert levels == [logging.ERROR] * 10 + [logging.DEBUG] * 5
    assert len(caplog.records) == 16


@on_virtual_time
async def test_many_types_are_counted_together(caplog: pytest.LogCaptureFixture) -> None:
    """The three most frequent types are named, and the number of counted types is bounded."""
    strange = [type(f"Strange{number}", (Exception,), {})() for number in range(1_000)]
    made = dropping(*[ValueError()] * 12, *[KeyError()] * 3, *strange, LookupError())
    await fail_often(made, 1_015)
    assert len(made._failures._kinds) <= 21
    made.sum_up_failures()
    assert caplog.messages[-1] == SUMMARY.format(
        1_005, "1005 messages are dropped (982 other types, 3 KeyError, 2 ValueError, 18 others)"
    )


def test_another_event_loop_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    """A storm whose loop has ended without a stop is summed up with the next failure."""
    made = dropping(ValueError())
    loop = VirtualLoop()
    loop.run_until_complete(fail_often(made, 15))
    loop.close()
    run(fail_often(made, 1))
    assert len(caplog.messages) == 12
    assert caplog.messages[10] == SUMMARY.format(5, "5 messages are dropped (5 ValueError)")


@on_virtual_time
async def test_success_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Where nothing fails there is no timer and no line."""
    handler, _ = failing()
    await fail_often(settlement(handler), 100)
    assert (caplog.messages, timers()) == ([], [])


@on_virtual_time
async def test_registry_sums_up_all() -> None:
    """One call ends the storms of every listener, and taking one back ends its own."""
    registry = Registry(nowhere)
    made = []
    for name in ("one", "other"):
        handler, _ = failing(*[ValueError()] * 20)
        mine = subscription(handler, name=name, topic=name, retries=0, dead_letter=False)
        route, _ = registry.add(mine)
        for _ in range(20):
            await route.attempt(message())
        made.append(mine)
    assert len(timers()) == 2
    registry.remove(made[0])
    assert len(timers()) == 1
    registry.sum_up_failures()
    assert timers() == []


@on_virtual_time
async def test_stop_of_a_broker_sums_up(caplog: pytest.LogCaptureFixture) -> None:
    """After the stop of a broker its storms are told and no timer is left."""
    broker = InMemoryMessageBroker(policy=ListenerPolicy(retries=0))

    async def fail(message: Message) -> None:
        raise ValueError("no")

    await broker.subscribe("orders", fail, "group", name="listener")
    await broker.start()
    for _ in range(15):
        await broker.publish("orders", b"v")
    await broker.stop()
    assert timers() == []
    assert caplog.messages[-1] == SUMMARY.format(5, "5 messages go to dead letters (5 ValueError)")


class Broken(logging.Handler):
    """A handler that lets out what it should not."""

    def emit(self, record: logging.LogRecord) -> None:
        raise RecursionError("too deep")


@pytest.fixture
def _broken_log() -> Iterator[None]:
    logger, handler = logging.getLogger("pyfly_messaging"), Broken()
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


@pytest.mark.usefixtures("_broken_log")
@on_virtual_time
async def test_a_broken_log_loses_no_message() -> None:
    """What a log handler raises does not decide what becomes of a message."""
    handler, _ = failing(*[ValueError()] * 40)
    graveyard = Graveyard()
    made = settlement(handler, graveyard.bury, retries=1)
    await fail_often(made, 20)
    made.sum_up_failures()
    assert len(graveyard.letters) == 20
