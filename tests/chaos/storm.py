"""A storm of cancellations: every call of several brokers, at random moments, under real traffic.

A site is one broker with its listeners, its publishers, and what starts and stops it. The calls of
a site are cancelled at moments that a seed draws; in between it does the same without.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from pyfly_messaging.errors import NotStartedError, PublishError
from pyfly_messaging.message import Message
from pyfly_messaging.ports import MessageBrokerPort, PublishesBatches, ReportsHealth
from pyfly_messaging.testing.conformance.moments import Moment

CALLS = int(os.environ.get("PYFLY_STORM_CALLS", "0"))
"""How many calls of each method are cancelled, if that is set; else each test has its number."""

SEED = int(os.environ.get("PYFLY_STORM_SEED", "20260"))

DEADLINE_S = 120.0
"""For one step of a broker, and for the messages to arrive after the storm."""

_METHODS = ("start", "stop", "subscribe", "publish", "publish_many")
_TURNS = (1, 1, 2, 3, 4, 6, 9, 14, 20, 30, 50)
_EXTRA_LISTENERS = 8  # then a site gets a new broker
_HANDLER_S = 0.003
_LONGER = 2.0  # than a call took that was not disturbed: so some return
_REPORT_EVERY_S = 10.0


class Broker(MessageBrokerPort, PublishesBatches, ReportsHealth, Protocol):
    """What our adapters offer."""


class Inbox:
    """A handler that takes a moment, and counts what it has handled."""

    def __init__(self, chance: random.Random) -> None:
        self.handled: Counter[bytes] = Counter()
        self._chance = chance

    async def __call__(self, message: Message) -> None:
        await asyncio.sleep(self._chance.uniform(0, _HANDLER_S))
        self.handled[message.value] += 1


@dataclass(frozen=True, slots=True)
class Listener:
    """One subscription."""

    topic: str
    inbox: Inbox
    group: str | None


@dataclass(slots=True)
class Record:
    """What a storm did, and what it owes.

    Attributes:
        confirmed: For each topic the values whose publish returned.
        cancelled: For each method how many calls were cancelled.
        returned: For each method how many calls returned before or in spite of that.

    """

    confirmed: dict[str, set[bytes]] = field(default_factory=dict)
    cancelled: Counter[str] = field(default_factory=Counter)
    returned: Counter[str] = field(default_factory=Counter)

    def calls(self, method: str) -> int:
        """Return how many calls of a method were made to be cancelled."""
        return self.cancelled[method] + self.returned[method]

    def __str__(self) -> str:
        parts = (f"{m} {self.cancelled[m]} of {self.calls(m)}" for m in _METHODS)
        messages = sum(map(len, self.confirmed.values()))
        return f"cancelled: {', '.join(parts)}; {messages} messages confirmed"


class Site:
    """One broker in the storm.

    Args:
        name: Of its topic and its groups.
        make: Makes its broker.
        record: What all sites have in common.
        chance: Draws the moments.
        restless: Whether it is started and stopped; else it runs all the time, and each of its
            listeners gets each message once.
        shared: A listener that other sites have, too.

    """

    def __init__(
        self,
        name: str,
        make: Callable[[], Broker],
        record: Record,
        chance: random.Random,
        *,
        restless: bool,
        shared: Listener | None = None,
    ) -> None:
        self.topic = name
        self.record = record
        self.restless = restless
        self.base = [
            Listener(name, Inbox(chance), f"{name}-one"),
            Listener(name, Inbox(chance), f"{name}-two"),
            Listener(name, Inbox(chance), None),
        ]
        if shared is not None:
            self.base.append(shared)
        self.topics = [name] if shared is None else [name, name, shared.topic]
        for topic in self.topics:
            record.confirmed.setdefault(topic, set())
        self.extra: list[Listener] = []
        self.broker = make()
        self._make = make
        self._chance = chance
        self._count = 0
        self._names = 0
        self._up = 0  # odd while the broker runs; every change counts
        self._longest = dict.fromkeys(_METHODS, 0.01)

    async def open(self) -> None:
        """Subscribe and start, undisturbed; note how long the calls take."""
        for listener in self.base:
            await self.broker.subscribe(listener.topic, listener.inbox, listener.group)
        await self._time("start", self.broker.start())
        self._up += 1
        if self.restless:
            self._up += 1
            await self._time("stop", self.broker.stop())
            await self.start()
        self._longest["subscribe"] = self._longest["start"]

    async def start(self) -> None:
        """Start undisturbed, if it does not run."""
        async with asyncio.timeout(DEADLINE_S):
            await self.broker.start()
        self._up += not self._up % 2

    async def close(self) -> None:
        """Stop undisturbed."""
        self._up += self._up % 2
        async with asyncio.timeout(DEADLINE_S):
            await self.broker.stop()

    async def publish(self, enough: Callable[[], bool]) -> None:
        """Publish one message or many, over and over; cancel half of the calls."""
        while not enough():
            many, topic = self._chance.random() < 0.3, self._chance.choice(self.topics)
            values = [self._value() for _ in range(5 if many else 1)]
            messages = [Message(topic, value, value[-1:]) for value in values]
            method, call = "publish", self.broker.publish(topic, values[0], key=values[0][-1:])
            if many:
                call.close()
                method, call = "publish_many", self.broker.publish_many(messages)
            up = self._up
            try:
                if self._chance.random() < 0.5:
                    taken = not await self._cancel(method, call)
                else:
                    await call
                    taken = True
            except (NotStartedError, PublishError):
                if up % 2 and up == self._up:  # neither starting nor stopping
                    raise
            else:
                if taken:
                    self.record.confirmed[topic].update(values)
            await asyncio.sleep(self._chance.uniform(0, 0.01))

    async def conduct(self, enough: Callable[[], bool]) -> None:
        """Subscribe, stop and start, over and over; cancel most of the calls."""
        while not enough():
            for _ in range(self._chance.randint(1, 3)):
                if len(self.extra) < _EXTRA_LISTENERS:
                    await self._subscribe()
            if self.restless:
                await self._restart()
            else:
                await self._healthy()
                await asyncio.sleep(0.01)

    async def expect_health(self) -> None:
        """See that health lists exactly the listeners whose subscribe returned, all running."""
        found = [(each.topic, each.group) for each in self.broker.health().consumers]
        assert found == [(each.topic, each.group) for each in (*self.base, *self.extra)]
        await self._healthy()

    async def _healthy(self) -> None:
        """See that the broker runs and can publish, and that every listener runs.

        One whose group is joined by another may wait a moment for its partitions, and a broker
        that is slow to answer may be taken for one that is away.
        """
        deadline = time.monotonic() + DEADLINE_S
        while not (health := self.broker.health()).healthy:
            assert health.started, health
            assert time.monotonic() < deadline, health
            await asyncio.sleep(0.01)

    async def _subscribe(self) -> None:
        """Subscribe to a new topic, in a new group or in one that is there, or in none."""
        self._names += 1
        group = self._chance.choice((f"{self.topic}-one", f"{self.topic}-g{self._names}", None))
        listener = Listener(f"{self.topic}-{self._names}", Inbox(self._chance), group)
        before = [(each.topic, each.group) for each in self.broker.health().consumers]
        call = self.broker.subscribe(listener.topic, listener.inbox, listener.group)
        if await self._cancel("subscribe", call):
            after = [(each.topic, each.group) for each in self.broker.health().consumers]
            assert after == before, f"a cancelled subscribe: {after}, before: {before}"
        else:
            self.extra.append(listener)

    async def _restart(self) -> None:
        """Stop and start; what is cancelled may have to be done again."""
        self._up += 1
        await self._cancel("stop", self.broker.stop())
        assert not self.broker.health().started, "a cancelled stop has not stopped"
        if self._chance.random() < 0.3:
            await self._cancel("stop", self.broker.stop())
        if len(self.extra) >= _EXTRA_LISTENERS:
            await self._renew()
        for _ in range(3):
            if not await self._cancel("start", self.broker.start()):
                break
            assert not self.broker.health().started, "a cancelled start has started"
            if self._chance.random() < 0.3:
                await self._cancel("stop", self.broker.stop())
        await asyncio.wait_for(self.broker.start(), DEADLINE_S)
        self._up += 1

    async def _renew(self) -> None:
        """Go on with a new broker, without the listeners that came in the storm."""
        await asyncio.wait_for(self.broker.stop(), DEADLINE_S)
        self.extra.clear()
        self.broker = self._make()
        for listener in self.base:
            await self.broker.subscribe(listener.topic, listener.inbox, listener.group)

    async def _cancel(self, method: str, call: Coroutine[Any, Any, None]) -> bool:
        """Cancel a call at a random moment; tell whether it was cancelled."""
        chance = self._chance
        by_turns, turns = chance.random() < 0.5, chance.choice(_TURNS)
        seconds, again = chance.uniform(0, _LONGER * self._longest[method]), chance.choice(_TURNS)
        moment = Moment(
            seed=SEED,
            number=self.record.calls(method),
            turns=turns if by_turns else None,
            seconds=seconds,
            again=again if chance.random() < 0.2 else None,
        )
        task = asyncio.create_task(call, name=f"{method} {moment}")
        await moment.cancel(task)
        done, _ = await asyncio.wait({task}, timeout=DEADLINE_S)
        assert done, f"{method}() {moment} does not end"
        if task.cancelled():
            self.record.cancelled[method] += 1
            return True
        self.record.returned[method] += 1
        if (error := task.exception()) is not None:
            if isinstance(error, (NotStartedError, PublishError)) and "publish" in method:
                raise error
            raise AssertionError(f"{method}() {moment} raised {error!r}") from error
        return False

    async def _time(self, method: str, call: Coroutine[Any, Any, None]) -> None:
        began = time.monotonic()
        async with asyncio.timeout(DEADLINE_S):
            await call
        self._longest[method] = min(1.0, time.monotonic() - began)

    def _value(self) -> bytes:
        self._count += 1
        return f"{self.topic}:{self._count}".encode()


class Storm:
    """Several sites at once.

    Args:
        make: Makes a broker.
        prefix: Begins the names of topics and groups.
        calls: How many calls of each method are cancelled.
        shared: Whether the restless sites have a group in common.
        report: Told from time to time how far it is.

    """

    def __init__(
        self,
        make: Callable[[], Broker],
        prefix: str,
        calls: int,
        *,
        shared: bool,
        report: Callable[[str], None],
    ) -> None:
        self.record = Record()
        chance = random.Random(SEED)
        common = Listener(f"{prefix}-shared", Inbox(chance), f"{prefix}-together")
        self.sites = [
            Site(
                f"{prefix}-{number}",
                make,
                self.record,
                random.Random(f"{SEED} {number}"),
                restless=number > 0,
                shared=common if shared and number > 0 else None,
            )
            for number in range(3)
        ]
        self._calls = CALLS or calls
        self._report = report

    async def open(self) -> None:
        """Start all sites."""
        for site in self.sites:
            await site.open()

    async def rage(self) -> None:
        """Cancel so many calls of each method; at the end all sites run."""
        try:
            async with asyncio.TaskGroup() as group:
                reporting = group.create_task(self._report_on())
                calls = [site.conduct(self._enough) for site in self.sites]
                calls += [site.publish(self._enough) for site in self.sites for _ in range(2)]
                await asyncio.gather(*map(group.create_task, calls))
                reporting.cancel()
        except BaseExceptionGroup as failed:
            first = _first(failed)
            raise AssertionError(f"seed {SEED}: {first!r} ({self.record})") from first
        for site in self.sites:
            await site.start()
            await site.expect_health()

    async def settle(self) -> None:
        """See that each group has handled each confirmed message, and the steady site once."""
        for site in self.sites:
            for listener in site.base:
                wanted = self.record.confirmed[listener.topic]
                if listener.group is not None or not site.restless:
                    await self._handled(listener, wanted)
                twice = [value for value, times in listener.inbox.handled.items() if times > 1]
                assert site.restless or not twice, f"seed {SEED}: redelivered: {twice[:10]}"

    async def close(self) -> None:
        """Stop all sites."""
        for site in self.sites:
            await site.close()

    def listeners(self) -> Iterable[Listener]:
        """Return the listeners of all sites."""
        return (each for site in self.sites for each in (*site.base, *site.extra))

    async def _handled(self, listener: Listener, wanted: set[bytes]) -> None:
        handled = listener.inbox.handled
        deadline = time.monotonic() + DEADLINE_S
        while missing := wanted - handled.keys():
            assert time.monotonic() < deadline, (
                f"seed {SEED}: {listener.topic} {listener.group}: {len(missing)} of {len(wanted)}"
                f" missing: {sorted(missing)[:10]}"
            )
            await asyncio.sleep(0.05)

    def _enough(self) -> bool:
        return all(self.record.calls(method) >= self._calls for method in _METHODS)

    async def _report_on(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_EVERY_S)
            self._report(f"seed {SEED}, {self._calls} calls of each: {self.record}")


def _first(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = failed
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
