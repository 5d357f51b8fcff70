"""Which handlers get a message."""

from __future__ import annotations

import asyncio

import pytest

from pyfly_messaging.delivery.lanes import Batch, lanes_for
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.delivery.settlement import Settlement
from pyfly_messaging.message import Message
from pyfly_messaging.ports import MessageHandler
from tests.delivery.clock import on_virtual_time
from tests.delivery.samples import Graveyard, message, settlement, to_the_end


def named(name: str, log: list[str], *errors: BaseException | None) -> MessageHandler:
    """Return a handler that logs its calls, and raises these errors at the first of them."""
    outcomes = list(errors)

    async def handler(message: Message) -> None:
        log.append(f"{name} {message.value.decode()}")
        error = outcomes.pop(0) if outcomes else None
        if error is not None:
            raise error

    return handler


def route_of(group: str | None, *settlements: Settlement) -> Route:
    route = Route("orders", group)
    for each in settlements:
        route.add(each)
    return route


@on_virtual_time
async def test_one_handler_is_asked_directly() -> None:
    """A route with one handler attempts what that handler's settlement attempts."""
    log: list[str] = []
    only = settlement(named("a", log))
    route = route_of("group", only)
    assert route.attempt == only.attempt
    assert await route.attempt(message(b"1")) is None
    assert log == ["a 1"]


@pytest.mark.parametrize("group", ["group", None])
@on_virtual_time
async def test_the_only_handlers_failure_is_its_own(group: str | None) -> None:
    """What ended the task of the only handler is its failed attempt."""
    log: list[str] = []
    route = route_of(group, settlement(named("a", log), retry_delay=4.0))
    retry = await route.failed(message(b"1"), GeneratorExit())
    assert retry is not None
    assert retry.delay == 4.0
    assert await retry() is None
    assert log == ["a 1"]


@on_virtual_time
async def test_a_group_takes_turns() -> None:
    """Of the handlers in a group each message goes to the next one."""
    log: list[str] = []
    route = route_of("group", *(settlement(named(name, log)) for name in "abc"))
    for number in range(7):
        await to_the_end(route.attempt(message(str(number).encode())))
    assert log == ["a 0", "b 1", "c 2", "a 3", "b 4", "c 5", "a 6"]


@on_virtual_time
async def test_a_retry_stays_with_its_handler() -> None:
    """A message is tried again by the handler that failed, whose turn was the only one used."""
    log: list[str] = []
    route = route_of(
        "group", settlement(named("a", log, ValueError())), settlement(named("b", log))
    )
    assert await to_the_end(route.attempt(message(b"1"))) == [0.0, 1.0]
    assert await to_the_end(route.attempt(message(b"2"))) == [0.0]
    assert log == ["a 1", "a 1", "b 2"]


@on_virtual_time
async def test_a_handler_in_turn_that_ends_its_task_has_failed_itself() -> None:
    """When a handler in turn ends its task, it is the one whose attempts count."""
    log: list[str] = []
    graveyard = Graveyard()
    route = route_of(
        "group",
        settlement(named("a", log), graveyard.bury, name="a", retries=0),
        settlement(named("b", log), name="b"),
    )
    step = await route.attempt(message(b"1"))
    assert step is not None
    assert await step.failed(GeneratorExit("a did it")) is None
    assert graveyard.letters[0].headers["x-pyfly-exception-message"] == "a did it"
    assert log == []


def test_it_is_as_concurrent_as_the_most_concurrent() -> None:
    """The concurrency of a route is the highest of its subscriptions'."""
    log: list[str] = []
    route = route_of(
        "group",
        settlement(named("a", log), concurrency=2),
        settlement(named("b", log), concurrency=5),
        settlement(named("c", log)),
    )
    assert route.concurrency == 5


@on_virtual_time
async def test_handlers_can_be_taken_out() -> None:
    """A handler that was taken out gets nothing more, and without any a message is an error."""
    log: list[str] = []
    first, second = settlement(named("a", log)), settlement(named("b", log))
    route = route_of("group", first, second)
    route.remove(first.subscription)
    assert route.subscriptions == (second.subscription,)
    await route.attempt(message(b"1"))
    assert log == ["b 1"]
    route.remove(second.subscription)
    with pytest.raises(AssertionError, match="no handler for topic 'orders'"):
        await route.attempt(message(b"2"))


@on_virtual_time
async def test_each_handler_keeps_to_its_own_concurrency() -> None:
    """In lanes that allow five at once, a handler with a concurrency of one runs alone."""
    now = {"one": 0, "five": 0}
    most = dict(now)

    def counted(name: str) -> MessageHandler:
        async def handler(message: Message) -> None:
            now[name] += 1
            most[name] = max(most[name], now[name])
            await asyncio.sleep(1)
            now[name] -= 1

        return handler

    route = route_of(
        "group", settlement(counted("one")), settlement(counted("five"), concurrency=5)
    )
    assert route.concurrency == 5
    settled: list[int] = []
    lanes = lanes_for(route.name, route.concurrency)
    numbers = range(20)
    lanes.submit(Batch(route, [message(b"") for _ in numbers], numbers, settled.append))
    await lanes.room(1)
    await lanes.drain()
    assert sorted(settled) == list(numbers)
    assert most["one"] == 1
    assert most["five"] > 1
