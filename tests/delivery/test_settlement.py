"""What becomes of a message: settled, tried again, dead-lettered or dropped."""

from __future__ import annotations

import asyncio
import inspect
import logging
from datetime import UTC, datetime

import pytest

from pyfly_messaging.delivery.settlement import Settlement, is_fatal
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy
from tests.delivery.clock import on_virtual_time, turns
from tests.delivery.samples import (
    Graveyard,
    failing,
    message,
    nowhere,
    settlement,
    subscription,
    to_the_end,
)
from tests.logs.samples import CONTROL, HOSTILE


class OrderError(Exception):
    """The root of some application's errors."""


class InvalidOrder(OrderError):
    """An error that no retry can mend."""


class Wrecked(BaseException):
    """An exception that is no `Exception`."""


@on_virtual_time
async def test_success_settles() -> None:
    """A handler that returns, whatever it returns, has settled its message."""

    async def handler(message: Message) -> None:
        return "ignored"  # type: ignore[return-value]

    assert await settlement(handler).attempt(message()) is None


@on_virtual_time
async def test_a_failure_is_tried_again_with_growing_pauses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each failed attempt answers the next one and its pause, until one succeeds."""
    handler, calls = failing(ValueError("first"), KeyError("second"), None)
    pauses = await to_the_end(settlement(handler, retry_delay=2.0).attempt(message()))
    assert pauses == [2.0, 4.0]
    assert calls == [message()] * 3
    assert caplog.messages == [
        "listener listener: attempt 1 of 4 failed on topic orders, next in 2 s: ValueError: first",
        "listener listener: attempt 2 of 4 failed on topic orders, next in 4 s: KeyError: 'second'",
    ]


@on_virtual_time
@pytest.mark.parametrize("headers", [{}, {"trace": "1"}])
async def test_headers_that_a_failed_attempt_changed(headers: dict[str, str]) -> None:
    """What a handler does to the headers reaches neither the next attempt nor the dead letter."""
    graveyard, seen = Graveyard(), []

    async def spoil(message: Message) -> None:
        seen.append(dict(message.headers))
        message.headers.clear()
        message.headers["mine"] = "changed"
        raise ValueError

    sent = Message("orders", b"v", None, headers)
    await to_the_end(settlement(spoil, graveyard.bury, retries=1).attempt(sent))
    assert seen == [headers] * 2
    own = {n: v for n, v in graveyard.letters[0].headers.items() if not n.startswith("x-pyfly-")}
    assert own == headers


@on_virtual_time
async def test_headers_that_a_cancelled_attempt_changed() -> None:
    """What goes back to the broker is what came, also when the handler was cancelled."""
    begun = asyncio.Event()

    async def spoil(message: Message) -> None:
        message.headers["mine"] = "changed"
        begun.set()
        await asyncio.sleep(60)

    sent = message()
    attempt = asyncio.create_task(settlement(spoil).attempt(sent))
    await begun.wait()
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert sent == message()


@on_virtual_time
async def test_the_draw_is_the_jitter() -> None:
    """The pause varies by what the random source draws."""
    handler, _ = failing(ValueError())
    policy = subscription(handler, retry_delay=10.0, retry_jitter=0.5)
    retry = await Settlement(policy, nowhere, draw=lambda: 1.0).attempt(message())
    assert retry is not None
    assert retry.delay == 15.0


@on_virtual_time
async def test_a_spent_message_is_dead_lettered(caplog: pytest.LogCaptureFixture) -> None:
    """After the retries the message is published as a dead letter, and then settled."""
    errors = [ValueError(number) for number in range(3)]
    handler, calls = failing(*errors)
    graveyard, spent = Graveyard(), list[BaseException]()
    made = Settlement(
        subscription(handler, retries=2),
        graveyard.bury,
        on_spent=spent.append,
        now=lambda: datetime(2024, 5, 1, tzinfo=UTC),
    )
    pauses = await to_the_end(made.attempt(message(b"v", key=b"k")))
    assert pauses == [1.0, 2.0]
    assert len(calls) == 3
    assert graveyard.letters == [
        Message(
            "orders.dlt",
            b"v",
            b"k",
            {
                "trace": "1",
                "x-pyfly-original-topic": "orders",
                "x-pyfly-original-group": "group",
                "x-pyfly-attempts": "3",
                "x-pyfly-exception": "ValueError",
                "x-pyfly-exception-message": "2",
                "x-pyfly-dead-lettered-at": "2024-05-01T00:00:00.000+00:00",
            },
        )
    ]
    assert graveyard.errors == spent == [errors[2]]
    last = caplog.records[-1]
    assert last.getMessage() == (
        "listener listener: message on topic orders goes to orders.dlt after 3 attempts"
    )
    assert last.exc_info is not None
    assert last.exc_info[1] is errors[2]


@on_virtual_time
async def test_without_retries_the_first_failure_is_the_last() -> None:
    """With `retries=0` one failed attempt spends the message."""
    handler, calls = failing(ValueError())
    graveyard = Graveyard()
    assert await settlement(handler, graveyard.bury, retries=0).attempt(message()) is None
    assert len(calls) == len(graveyard.letters) == 1


@on_virtual_time
async def test_without_dead_letters_a_spent_message_is_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With `dead_letter=False` a spent message is logged, told, and settled."""
    error = ValueError("no")
    handler, _ = failing(error)
    spent: list[BaseException] = []
    policy = subscription(handler, retries=0, dead_letter=False)
    assert await Settlement(policy, nowhere, on_spent=spent.append).attempt(message()) is None
    assert spent == [error]
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (
        logging.ERROR,
        "listener listener: message on topic orders dropped after 1 attempts (dead_letter is off)",
    )
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@pytest.mark.parametrize("refusal", [ConnectionError("away"), asyncio.CancelledError()])
@on_virtual_time
async def test_an_unconfirmed_dead_letter_is_published_again(
    refusal: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """A dead letter is tried with growing pauses until confirmed; the handler is left alone."""
    handler, calls = failing(ValueError("no"))
    graveyard = Graveyard(refusal, ConnectionError("still away"))
    pauses = await to_the_end(
        settlement(handler, graveyard.bury, retries=0, retry_delay=3.0).attempt(message())
    )
    assert pauses == [3.0, 6.0]
    assert len(calls) == 1
    assert len(graveyard.letters) == 1
    assert graveyard.letters[0].headers["x-pyfly-exception-message"] == "no"
    assert caplog.messages[1].startswith(
        "listener listener: dead letter to orders.dlt not confirmed, the message stays"
        " unacknowledged, next try in 3 s: "
    )


@on_virtual_time
async def test_an_unconfirmed_dead_letter_is_never_tried_without_a_pause() -> None:
    """Without a retry_delay, publishing a dead letter again waits a second nevertheless."""
    handler, _ = failing(ValueError())
    graveyard = Graveyard(*[ConnectionError()] * 3)
    pauses = await to_the_end(
        settlement(handler, graveyard.bury, retries=0, retry_delay=0.0).attempt(message())
    )
    assert pauses == [1.0, 1.0, 1.0]


@on_virtual_time
async def test_a_cancelled_dead_letter_is_no_refusal() -> None:
    """A task that is cancelled while it publishes a dead letter ends; nothing is settled."""
    gate = asyncio.Event()

    async def bury(letter: Message, error: BaseException) -> None:
        await gate.wait()

    handler, _ = failing(ValueError())
    task = asyncio.create_task(_attempt(settlement(handler, bury, retries=0)))
    await turns()
    task.cancel()
    await turns()
    assert task.cancelled()


async def _attempt(settlement: Settlement) -> object:
    return await settlement.attempt(message())


@on_virtual_time
async def test_an_attempt_has_a_time_limit() -> None:
    """An attempt over the timeout is cancelled and has failed."""
    cancelled: list[float] = []

    async def slow(message: Message) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(asyncio.get_running_loop().time())
            raise

    graveyard = Graveyard()
    made = settlement(slow, graveyard.bury, timeout=2.5, retries=1)
    assert await to_the_end(made.attempt(message())) == [1.0]
    assert cancelled == [2.5, 5.0]
    assert graveyard.letters[0].headers["x-pyfly-exception"] == "TimeoutError"


@on_virtual_time
async def test_a_handler_within_its_time_limit() -> None:
    """A handler that is quick enough does not notice the timeout."""

    async def quick(message: Message) -> None:
        await asyncio.sleep(2)

    assert await settlement(quick, timeout=2.5).attempt(message()) is None


@pytest.mark.parametrize(
    ("fatal", "is_one"),
    [
        (InvalidOrder, True),
        (OrderError, True),
        (ValueError, False),
        (f"{__name__}.InvalidOrder", True),
        (f"{__name__}.OrderError", True),
        ("Exception", True),
        ("other.InvalidOrder", False),
    ],
)
@on_virtual_time
async def test_fatal_exceptions_are_not_retried(
    fatal: type[BaseException] | str, is_one: bool
) -> None:
    """An exception that the policy names, by class or name, itself or a base, spends at once."""
    handler, calls = failing(*[InvalidOrder()] * 4)
    graveyard = Graveyard()
    made = settlement(handler, graveyard.bury, fatal_exceptions=("KeyError", fatal))
    await to_the_end(made.attempt(message()))
    assert len(calls) == (1 if is_one else 4)
    assert graveyard.letters[0].headers["x-pyfly-attempts"] == str(len(calls))


def test_nothing_is_fatal_by_default() -> None:
    """Without `fatal_exceptions` every failure is worth another attempt."""
    assert not is_fatal(ListenerPolicy(), InvalidOrder())


@pytest.mark.parametrize(
    "error",
    [Wrecked("x"), asyncio.CancelledError("x"), StopAsyncIteration(), GeneratorExit("x")],
)
@on_virtual_time
async def test_any_exception_of_the_handler_is_a_failure(error: BaseException) -> None:
    """What a handler raises on its own is a failed attempt, be it no `Exception`."""
    handler, calls = failing(error, None)
    assert await to_the_end(settlement(handler).attempt(message())) == [1.0]
    assert len(calls) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@on_virtual_time
async def test_what_ends_the_process_passes(error: type[BaseException]) -> None:
    """KeyboardInterrupt and SystemExit are not caught."""
    handler, _ = failing(error())
    with pytest.raises(error):
        await settlement(handler).attempt(message())


@pytest.mark.parametrize("limit", [None, 10.0])
@pytest.mark.parametrize("cleans_up", ["not", "raises", "raises another", "returns"])
@pytest.mark.parametrize("way", ["close", "throw"])
def test_a_closed_coroutine_is_no_failure(
    caplog: pytest.LogCaptureFixture, limit: float | None, cleans_up: str, way: str
) -> None:
    """When the coroutine is closed, nothing is decided, logged or awaited, whatever the handler
    does then.
    """
    ended = []

    async def waits(message: Message) -> None:
        try:
            await asyncio.sleep(3600)
        except GeneratorExit:
            if cleans_up == "raises":
                raise
            if cleans_up == "raises another":
                raise GeneratorExit("another") from None

    async def begin() -> None:
        handled = settlement(waits, timeout=limit).attempt(message())
        handled.send(None)
        if way == "close":
            handled.close()
        else:
            with pytest.raises(GeneratorExit, match="thrown"):
                handled.throw(GeneratorExit("thrown"))
        ended.append(inspect.getcoroutinestate(handled))

    asyncio.run(begin())
    assert ended == [inspect.CORO_CLOSED]
    assert caplog.messages == []


@on_virtual_time
async def test_a_cancelled_task_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """When the task that runs a handler is cancelled, nothing is decided or logged."""
    gate = asyncio.Event()

    async def waits(message: Message) -> None:
        await gate.wait()

    task = asyncio.create_task(_attempt(settlement(waits)))
    await turns()
    task.cancel()
    await turns()
    assert task.cancelled()
    assert caplog.messages == []


@on_virtual_time
async def test_a_failure_that_ended_the_task_counts_like_any_other() -> None:
    """Counting an attempt as failed from outside goes the same way as a raised exception."""
    graveyard = Graveyard()
    handler, calls = failing()
    made = settlement(handler, graveyard.bury, retries=1)
    first = await made.failed(message(), GeneratorExit("one"))
    assert first is not None
    assert first.delay == 1.0
    assert await first.failed(GeneratorExit("two")) is None
    assert calls == []
    assert graveyard.letters[0].headers["x-pyfly-attempts"] == "2"
    assert graveyard.letters[0].headers["x-pyfly-exception-message"] == "two"


@on_virtual_time
async def test_a_dead_letter_that_was_broken_off_is_still_to_be_published() -> None:
    """Ending the task that publishes a dead letter changes nothing about it."""
    graveyard = Graveyard(ConnectionError())
    handler, _ = failing(ValueError("no"))
    retry = await settlement(handler, graveyard.bury, retries=0).attempt(message())
    assert retry is not None
    assert await retry.failed(GeneratorExit()) is retry
    assert await retry() is None
    assert graveyard.letters[0].headers["x-pyfly-exception-message"] == "no"


@on_virtual_time
async def test_the_first_attempt_can_be_a_step_of_its_own() -> None:
    """`first` is the first attempt, without a pause, and counted as the first."""
    graveyard = Graveyard()
    handler, calls = failing(ValueError())
    step = settlement(handler, graveyard.bury, retries=1).first(message())
    assert step.delay == 0.0
    assert calls == []
    assert await to_the_end(step()) == [1.0]
    assert len(calls) == 2
    failed = settlement(handler, graveyard.bury, retries=0).first(message())
    assert await failed.failed(GeneratorExit()) is None
    assert graveyard.letters[0].headers["x-pyfly-attempts"] == "1"


@pytest.mark.parametrize("dead_letter", [True, False])
@pytest.mark.parametrize("kind", HOSTILE)
@on_virtual_time
async def test_a_hostile_exception_is_an_ordinary_failure(kind: str, dead_letter: bool) -> None:
    """A handler's exception that raises when it is looked at is retried and given up as any."""
    error = HOSTILE[kind]
    handler, calls = failing(error, error)
    graveyard = Graveyard(error)
    fatal = ("KeyError", KeyError)
    made = settlement(
        handler, graveyard.bury, retries=1, dead_letter=dead_letter, fatal_exceptions=fatal
    )
    await to_the_end(made.attempt(message()))
    assert len(calls) == 2
    assert len(graveyard.letters) == dead_letter
    for letter in graveyard.letters:
        text = letter.headers["x-pyfly-exception"] + letter.headers["x-pyfly-exception-message"]
        assert not CONTROL.search(text)


class Claims(Exception):
    """An exception that says it is another."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return SystemExit


@on_virtual_time
async def test_an_exception_is_what_its_type_says() -> None:
    """A handler's exception that only claims to be `SystemExit` is a failed attempt."""
    handler, calls = failing(Claims(), None)
    assert await to_the_end(settlement(handler).attempt(message())) == [1.0]
    assert len(calls) == 2


@on_virtual_time
async def test_a_failing_message_costs_one_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """Retries, and dead letters that are not confirmed, are a line each, without a traceback."""
    handler, _ = failing(*[ValueError("one\ntwo")] * 4)
    graveyard = Graveyard(*[ConnectionError("away\nfor long")] * 3)
    await to_the_end(settlement(handler, graveyard.bury, retries=3).attempt(message()))
    lines = caplog.text.rstrip().split("\n")
    traceback = lines.index("Traceback (most recent call last):")
    assert lines.count("Traceback (most recent call last):") == 1
    assert len([line for line in lines if line.startswith(("WARNING", "ERROR"))]) == 7
    assert lines[traceback - 1].endswith("goes to orders.dlt after 4 attempts")


@on_virtual_time
async def test_huge_exceptions_are_bounded_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A huge text, chain, group or note costs a bounded number of lines and characters."""
    chain = ValueError("root")
    for number in range(3_000):
        later = ValueError(str(number))
        later.__cause__, chain = chain, later
    itself = ValueError("itself")
    itself.__cause__ = itself
    noted = ValueError("noted")
    noted.add_note("note\n" * 1_000_000)
    group = ExceptionGroup("many", [ValueError(n) for n in range(100_000)])
    huge = ValueError("\x1b[31m" * 1_000_000)
    for error in (chain, itself, noted, group, huge):
        caplog.clear()
        graveyard = Graveyard()
        handler, _ = failing(error, error)
        await to_the_end(settlement(handler, graveyard.bury, retries=1).attempt(message()))
        assert len(graveyard.letters) == 1
        assert len(caplog.text) < 20_000
        assert not CONTROL.search(caplog.text.replace("\n", ""))


def test_a_name_that_is_no_exception_is_refused() -> None:
    """A bare name that is no built-in exception would never match anything."""
    with pytest.raises(ValueError, match=r"'InvalidOrder' is no built-in exception"):
        ListenerPolicy(fatal_exceptions=("InvalidOrder",))
