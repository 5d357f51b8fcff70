"""What the kit says: of messages that differ, of leftovers, and of a suite that cannot work."""

import asyncio
import contextlib
import logging
import re
import tempfile
import threading
from typing import Any

import pytest

from pyfly_messaging.adapters.memory import InMemoryMessageBroker
from pyfly_messaging.delivery import end_task
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.ports import MessageBrokerPort
from pyfly_messaging.testing.conformance import Capabilities, ConformanceSuite, Probe, Stage
from pyfly_messaging.testing.conformance.compare import expect, expect_bytes
from pyfly_messaging.testing.conformance.leftovers import Leftovers
from pyfly_messaging.testing.conformance.mistakes import mistakes_of
from pyfly_messaging.testing.conformance.stacks import stacks

from .faults.base import Fault
from .faults.lifecycle import LeavesATask


class Sound(ConformanceSuite):
    """The in-memory broker."""

    capabilities = Capabilities(settles_on_publish=True)

    def make_broker(self, *, policy: ListenerPolicy, timeouts: Timeouts) -> MessageBrokerPort:
        return InMemoryMessageBroker(policy=policy, timeouts=timeouts)


def test_differences_are_named() -> None:
    """Messages that differ are named as missing, duplicated or unexpected, each with its count."""
    text = "1 of 3 missing: b'3'; 1 of 3 duplicated: b'1'; 1 of 3 unexpected: b'4'"
    with pytest.raises(AssertionError, match=f"^{re.escape(text)}$"):
        expect([b"1", b"1", b"2", b"4"], [b"1", b"2", b"3"])


def test_many_differences_are_cut() -> None:
    """Of many messages, and of long ones, the beginning is shown."""
    with pytest.raises(AssertionError, match=r"^300 of 300 missing: b'0', .* and 290 more$"):
        expect([], [b"%d" % number for number in range(300)])
    with pytest.raises(AssertionError, match=r"^1 of 1 missing: b'x{40}'\.\.\. \(5000 bytes\)$"):
        expect([], [b"x" * 5000])


def test_order_and_repeats_are_asked_for() -> None:
    """Order counts where it is asked for, and repeats where they are not allowed."""
    expect([b"2", b"1"], [b"1", b"2"])
    expect([b"1", b"1"], [b"1"], repeats=True)
    expect([b"1", b"1"], [b"1", b"1"], order=True)
    with pytest.raises(AssertionError, match="out of order from position 1 on: b'3', b'2'"):
        expect([b"1", b"3", b"2"], [b"1", b"2", b"3"], order=True)


def test_large_values_are_not_shown() -> None:
    """Of a large value that differs the place is told."""
    expect_bytes(b"same", b"same")
    with pytest.raises(AssertionError, match=r"^3 bytes arrived of 4; .* from byte 3 on$"):
        expect_bytes(b"abc", b"abcd")
    with pytest.raises(AssertionError, match="from byte 1 on"):
        expect_bytes(b"axc", b"abc")


def test_wait_says_what_is_missing() -> None:
    """A wait for several messages says which did not come."""

    async def wait() -> None:
        probe = Probe(deadline=0.01)
        await probe(Message("topic", b"1"))
        await probe.saw_all([b"1"])
        await probe.saw_all([b"1", b"2"])

    with pytest.raises(AssertionError, match=r"^waited 0\.01 s: 1 of 2 missing: b'2'$"):
        asyncio.run(wait())


def test_leftovers_are_told_by_what_they_are() -> None:
    """A thread and a file that are new are found, whatever they are called."""

    async def look() -> None:
        before, over = Leftovers(), threading.Event()
        thread = threading.Thread(target=over.wait, name=threading.current_thread().name)
        with tempfile.TemporaryFile():
            thread.start()
            try:
                with pytest.raises(AssertionError, match=r"left behind: file \d+ .*, thread \w+"):
                    await before.gone(0.05)
            finally:
                over.set()
                thread.join()
        await before.gone(5)

    asyncio.run(look())


def test_huge_errors_are_kept_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """The case with huge texts does not flood the log, and logs as before afterwards."""
    handlers = list(logging.getLogger().handlers)
    Sound().test_exception_of_any_text()
    assert len(caplog.text) < 10_000
    assert logging.getLogger().handlers == handlers


@pytest.mark.parametrize(
    ("claims", "error", "text"),
    [
        ({"redelivres": True}, TypeError, "'redelivres' is no capability; did you mean redelivers"),
        ({"sings": True}, TypeError, "'sings' is no capability; there are redelivers, durable,"),
        ({"durable": "yes"}, TypeError, "durable is claimed with True or False, not with 'yes'"),
        ({"message_limit": True}, TypeError, "message_limit is a number, or None"),
        ({"in_flight_limit": 0}, ValueError, "in_flight_limit is at least 1"),
    ],
)
def test_wrong_claims(claims: dict[str, Any], error: type[Exception], text: str) -> None:
    """A claim that is none says so, with a suggestion."""
    with pytest.raises(error, match=text):
        Capabilities(**claims)


def _suite(**members: object) -> type[Stage]:
    return type("TestMine", (Sound,), members)


async def _async(self: object, **arguments: object) -> None: ...


@pytest.mark.parametrize(
    ("suite", "text"),
    [
        (_suite(), None),
        (type("TestMine", (ConformanceSuite,), {}), "it makes no broker: write def make_broker"),
        (_suite(capabilities={"durable": True}), "capabilities is {'durable': True}; write"),
        (_suite(deadline=0.5), "deadline is 0.5 s; less than 2 s fails sound adapters"),
        (_suite(deadline="10s"), "deadline is '10s'; it has to be a number of seconds"),
        (_suite(make_broker=_async), "make_broker is async; it has to be a plain function"),
        (_suite(make_broker=lambda self: None), "make_broker cannot be called with policy="),
        (
            _suite(capabilities=Capabilities(foreign=True)),
            "it claims foreign, and has no publish_foreign: write one, or do not claim it",
        ),
        (
            _suite(capabilities=Capabilities(unreachable=True), make_unreachable_broker=_async),
            "make_unreachable_broker has to be written with 'def'",
        ),
    ],
)
def test_mistakes_of_a_suite(suite: type[Stage], text: str | None) -> None:
    """A suite that cannot work is told what is wrong with it."""
    found = mistakes_of(suite, runs_all=True)
    assert found == [] if text is None else found[0].startswith(f"TestMine: {text}")


async def _later() -> None: ...


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (lambda: None, "returned None; does it lack a return?"),
        (_later, "is async; it has to be a plain function"),
        (lambda: InMemoryMessageBroker, "returned the class InMemoryMessageBroker"),
        (object, r"returned a object, which has no publish\(\), subscribe\(\), start\(\), stop"),
    ],
)
def test_what_is_no_broker(made: Any, text: str) -> None:
    """What ``make_broker`` returns in place of a broker is told in the first case."""
    suite = _suite(make_broker=lambda self, **_: made())
    with pytest.raises(TypeError, match=rf"^TestMine\.make_broker {text}"):
        suite().test_stop_twice()  # type: ignore[attr-defined]


def test_same_broker_twice() -> None:
    """A broker that is made once for all is told."""
    broker = InMemoryMessageBroker()
    suite = _suite(make_broker=lambda self, **_: broker)
    with pytest.raises(TypeError, match="returned the same broker as before"):
        suite().test_stop_twice()  # type: ignore[attr-defined]


def test_publish_that_waits_is_told_of_its_capability() -> None:
    """A publish that waits for handlers, where that is not claimed, is told of the capability."""
    suite = _suite(capabilities=Capabilities(), deadline=0.1)
    with pytest.raises((AssertionError, Exception), match="settles_on_publish"):
        suite().test_stop_begins_nothing_more()  # type: ignore[attr-defined]


class Stuck(Fault):
    """Hangs in its stop, in a task that swallows a cancellation."""

    async def stop(self) -> None:
        await self.inner.stop()
        await self.spawn(self._hang())

    async def _hang(self) -> None:
        for _ in range(2):
            with contextlib.suppress(asyncio.CancelledError):
                await self._wait_for_the_server()

    async def _wait_for_the_server(self) -> None:
        await asyncio.Event().wait()


class StuckSuite(Sound):
    """The in-memory broker that hangs in its stop."""

    deadline = 0.2

    def make_broker(self, *, policy: ListenerPolicy, timeouts: Timeouts) -> MessageBrokerPort:
        return Stuck(lambda own: InMemoryMessageBroker(policy=own, timeouts=timeouts), policy)


def test_stop_that_hangs_shows_where_each_task_waits() -> None:
    """The failure of a stop that hangs has the stacks of the tasks, innermost call last."""
    with pytest.raises(AssertionError, match=r"^waited 0\.4 s for stop\(\) to return") as caught:
        StuckSuite().test_restart()
    (note,) = caught.value.__notes__
    assert note.startswith("The tasks that still run:\ntask ")
    order = ["in test_restart", "in within", "in stop", "in _hang", "in _wait_for_the_server"]
    assert [note.count(name) > 0 for name in order] == [True] * len(order)
    assert note.index("in _hang") < note.index("in _wait_for_the_server")


def test_many_tasks_are_counted() -> None:
    """Of very many tasks the first are shown, and how many there are more."""

    async def show() -> str:
        tasks = [asyncio.create_task(asyncio.sleep(3600), name=f"no {n:02}") for n in range(30)]
        await asyncio.sleep(0)
        try:
            return stacks(tasks)
        finally:
            await end_task(*tasks)

    text = asyncio.run(show())
    assert text.count("in sleep") == 20
    assert text.endswith("... and 10 more tasks\n")


class LeavingSuite(Sound):
    """The in-memory broker that leaves a task behind."""

    deadline = 0.2

    def make_broker(self, *, policy: ListenerPolicy, timeouts: Timeouts) -> MessageBrokerPort:
        def make(own: ListenerPolicy) -> InMemoryMessageBroker:
            return InMemoryMessageBroker(policy=own, timeouts=timeouts)

        return LeavesATask(make, policy)


def test_task_left_behind_is_told_after_every_case() -> None:
    """A task that outlives the brokers of a case fails it, with its name and where it waits."""
    with pytest.raises(
        AssertionError, match=r"stopped, and left behind: task Task-.*sleep"
    ) as caught:
        LeavingSuite().test_every_byte_in_a_value()
    (note,) = caught.value.__notes__
    assert "in sleep" in note


@pytest.mark.parametrize(
    ("seconds", "error"), [(True, TypeError), ("1", TypeError), (0, ValueError), (-0.5, ValueError)]
)
def test_takeover_is_a_number_of_seconds(seconds: Any, error: type[Exception]) -> None:
    """The time after which a claim expires is a number of seconds, with fractions if need be."""
    assert Capabilities(takeover=0.5).missing(("takeover",)) is None
    assert Capabilities().missing(("takeover",)) == "takeover"
    with pytest.raises(error, match=r"^takeover is"):
        Capabilities(takeover=seconds)
