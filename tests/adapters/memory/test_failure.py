"""What becomes of a message whose handler fails."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, tzinfo
from typing import Any

import pytest

from pyfly_messaging.adapters.memory import InMemoryMessageBroker
from pyfly_messaging.delivery import dead_letter as dead_letters
from pyfly_messaging.message import Message
from tests.adapters.memory.samples import (
    Service,
    Wrecked,
    fails,
    now,
    policy,
    running,
    this_task,
)
from tests.delivery.clock import on_virtual_time


class TestFailure:
    """What becomes of a message whose handler fails."""

    @on_virtual_time
    async def test_a_spent_message_is_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """After its retries a message is a dead letter, which the broker keeps and delivers."""

        class Clock(datetime):
            """A clock that stands."""

            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Clock:
                return cls(2024, 5, 1, 12, tzinfo=tz)

        monkeypatch.setattr(dead_letters, "datetime", Clock)
        monkeypatch.setattr("pyfly_messaging.delivery.settlement.datetime", Clock)
        broken = Service(fails(*[ValueError("no such order")] * 4))
        undertaker = Service()
        async with running() as broker:
            await broker.subscribe("orders", broken.on_message, "billing")
            await broker.subscribe("orders.dlt", undertaker.on_message, "undertaker")
            await broker.publish("orders", b"v", key=b"k", headers={"trace": "1"})
            assert now() == 7.0
        expected = Message(
            "orders.dlt",
            b"v",
            b"k",
            {
                "trace": "1",
                "x-pyfly-original-topic": "orders",
                "x-pyfly-original-group": "billing",
                "x-pyfly-attempts": "4",
                "x-pyfly-exception": "ValueError",
                "x-pyfly-exception-message": "no such order",
                "x-pyfly-dead-lettered-at": datetime(2024, 5, 1, 12, tzinfo=UTC).isoformat(
                    timespec="milliseconds"
                ),
            },
        )
        assert undertaker.got == list(broker.dead_letters) == [expected]
        assert broken.values == ["v"] * 4

    @on_virtual_time
    async def test_the_newest_dead_letters_are_kept(self) -> None:
        """The broker keeps 10,000 dead letters, the newest ones."""
        assert InMemoryMessageBroker().dead_letters.maxlen == 10_000

    @on_virtual_time
    async def test_a_dead_letter_can_be_spent_too(self) -> None:
        """A dead letter whose own listener fails goes to the dead letters of that topic."""
        async with running(policy=policy(retries=0)) as broker:
            for topic in ("orders", "orders.dlt"):
                await broker.subscribe(topic, Service(fails(ValueError(topic))).on_message)
            await broker.publish("orders", b"v")
        assert [letter.topic for letter in broker.dead_letters] == ["orders.dlt", "orders.dlt.dlt"]

    @on_virtual_time
    async def test_without_dead_letters_it_is_dropped(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """With `dead_letter=False` a spent message is logged and gone."""
        service = Service(fails(ValueError(), ValueError()))
        async with running(policy=policy(retries=1, dead_letter=False)) as broker:
            await broker.subscribe("orders", service.on_message, name="billing")
            await broker.publish("orders", b"v")
        assert not broker.dead_letters
        assert service.values == ["v", "v"]
        record = caplog.records[-1]
        assert record.levelno == logging.ERROR
        assert record.getMessage() == (
            "listener billing: message on topic orders dropped after 2 attempts"
            " (dead_letter is off)"
        )

    @pytest.mark.parametrize("fatal", [ValueError, "ValueError", "Exception"])
    @on_virtual_time
    async def test_a_fatal_exception_is_not_retried(self, fatal: type[Exception] | str) -> None:
        """An exception that is declared fatal, by class or name, spends the message at once."""
        service = Service(fails(*[ValueError()] * 9))
        async with running(policy=policy(fatal_exceptions=(fatal,))) as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.publish("orders", b"v")
            assert now() == 0.0
        assert len(service.got) == len(broker.dead_letters) == 1

    @on_virtual_time
    async def test_an_attempt_has_a_time_limit(self) -> None:
        """An attempt over the timeout has failed."""
        service = Service(lambda message: asyncio.sleep(60))
        async with running(policy=policy(timeout=2.0, retries=1)) as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.publish("orders", b"v")
            assert now() == 5.0
        assert broker.dead_letters[0].headers["x-pyfly-exception"] == "TimeoutError"
        assert service.at_once == 1

    @pytest.mark.parametrize(
        "error", [ValueError("x"), Wrecked("x"), asyncio.CancelledError("x"), StopAsyncIteration()]
    )
    @on_virtual_time
    async def test_the_publisher_sees_no_exception_of_a_handler(self, error: BaseException) -> None:
        """Whatever a handler raises on its own is a failed attempt, not the publisher's affair."""
        service = Service(fails(error))
        async with running() as broker:
            await broker.subscribe("orders", service.on_message)
            await broker.publish("orders", b"v")
            assert now() == 1.0
        assert service.values == ["v", "v"]
        assert this_task().cancelling() == 0

    @on_virtual_time
    async def test_a_value_that_is_returned_is_ignored(self) -> None:
        """A handler that returns something has succeeded."""

        async def returns(message: Message) -> Any:
            calls.append(message)
            return "something"

        calls: list[Message] = []
        async with running() as broker:
            await broker.subscribe("orders", returns)
            await broker.publish("orders", b"v")
        assert len(calls) == 1

    @pytest.mark.parametrize("concurrency", [1, 2])
    @on_virtual_time
    async def test_retries_without_delay_in_tests(self, concurrency: int) -> None:
        """With `skip_retry_delays` retries follow at once, whatever the policy says."""
        service = Service(fails(*[ValueError()] * 3))
        async with running(skip_retry_delays=True) as broker:
            await broker.subscribe(
                "orders",
                service.on_message,
                policy=policy(retry_delay=60.0, concurrency=concurrency),
            )
            await broker.publish("orders", b"v")
            assert now() == 0.0
        assert len(service.got) == 4
        assert not broker.dead_letters


class TestRaiseErrors:
    """With `raise_errors` a publish raises what spent its messages."""

    @pytest.mark.parametrize("concurrency", [1, 2])
    @pytest.mark.parametrize("dead_letter", [True, False])
    @on_virtual_time
    async def test_one_error_is_raised_itself(self, concurrency: int, dead_letter: bool) -> None:
        """A single spent message raises what its last attempt raised."""
        errors = [ValueError(number) for number in range(2)]
        options = policy(retries=1, concurrency=concurrency, dead_letter=dead_letter)
        async with running(raise_errors=True, policy=options) as broker:
            await broker.subscribe("orders", Service(fails(*errors)).on_message)
            with pytest.raises(ValueError, match="1") as caught:
                await broker.publish("orders", b"v")
            assert caught.value is errors[1]
            await broker.publish("orders", b"w")
        assert len(broker.dead_letters) == int(dead_letter)

    @on_virtual_time
    async def test_several_errors_are_a_group(self) -> None:
        """Several spent messages, also those of publishes inside, raise an exception group."""
        errors = [ValueError("first"), KeyError("second"), OSError("inner")]

        async def forward(message: Message) -> None:
            await broker.publish("inner", b"v")

        async with running(raise_errors=True, policy=policy(retries=0)) as broker:
            await broker.subscribe("orders", Service(fails(errors[0])).on_message, "one")
            await broker.subscribe("orders", Service(fails(errors[1])).on_message, "two")
            await broker.subscribe("orders", forward, "three")
            await broker.subscribe("inner", Service(fails(errors[2])).on_message)
            with pytest.raises(ExceptionGroup) as caught:
                await broker.publish("orders", b"v")
        assert caught.value.exceptions == tuple(errors)

    @on_virtual_time
    async def test_a_failure_that_is_mended_is_no_error(self) -> None:
        """A message that is settled by a retry raises nothing."""
        async with running(raise_errors=True) as broker:
            await broker.subscribe("orders", Service(fails(ValueError())).on_message)
            await broker.publish("orders", b"v")

    @on_virtual_time
    async def test_a_publish_inside_raises_at_the_outermost(self) -> None:
        """What a publish inside a handler spends is raised by the outermost publish only."""
        seen: list[str] = []

        async def forward(message: Message) -> None:
            await broker.publish("inner", b"v")
            seen.append("no error inside")

        async with running(raise_errors=True, policy=policy(retries=0)) as broker:
            await broker.subscribe("orders", forward)
            await broker.subscribe("inner", Service(fails(Wrecked("inner"))).on_message)
            with pytest.raises(Wrecked, match="inner"):
                await broker.publish("orders", b"v")
        assert seen == ["no error inside"]
