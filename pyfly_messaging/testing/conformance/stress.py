"""The case that counts: many publishers, many handlers, failures, and an instance that leaves."""
# ruff: noqa: S101 - pytest explains an assertion that fails

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import astuple, dataclass, fields

import pytest

from pyfly_messaging.errors import PublishError
from pyfly_messaging.message import Message
from pyfly_messaging.ports import MessageBrokerPort
from pyfly_messaging.testing.conformance.case import case
from pyfly_messaging.testing.conformance.stage import QUICK, Stage, fail

STRESS = "conformance stress"
"""The property of a test report that carries the figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What became of the messages, in the terms of RabbitMQ's Jepsen tests.

    Attributes:
        attempted: Publishes that were tried.
        acknowledged: Of those, the ones that returned.
        received: Messages that were acknowledged and handled.
        lost: Messages that were acknowledged and never handled.
        duplicated: Messages that were handled more than once.
        recovered: Messages whose publish raised, and that were handled nevertheless.
        unexpected: Messages that were handled and that nobody published.

    """

    attempted: int = 0
    acknowledged: int = 0
    received: int = 0
    lost: int = 0
    duplicated: int = 0
    recovered: int = 0
    unexpected: int = 0

    @classmethod
    def of(
        cls, attempted: set[bytes], acknowledged: set[bytes], handled: Counter[bytes]
    ) -> Figures:
        """Count."""
        return cls(
            attempted=len(attempted),
            acknowledged=len(acknowledged),
            received=len(acknowledged & handled.keys()),
            lost=len(acknowledged - handled.keys()),
            duplicated=sum(1 for times in handled.values() if times > 1),
            recovered=len((attempted - acknowledged) & handled.keys()),
            unexpected=len(handled.keys() - attempted),
        )

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Figures)}
        )

    def __str__(self) -> str:
        names = (field.name for field in fields(Figures))
        return ", ".join(
            f"{count} {name}" for name, count in zip(names, astuple(self), strict=True)
        )


class _Round:
    """One round: what was published, what was handled."""

    def __init__(self, stage: Stage, messages: int, workers: int) -> None:
        self.topic, self.group = stage.name(), stage.name("group")
        self.attempted: set[bytes] = set()
        self.acknowledged: set[bytes] = set()
        self.handled: Counter[bytes] = Counter()
        self.probe = stage.probe(self._handle)
        self._stage = stage
        self._each = messages // workers
        self._workers = workers
        self._failed: set[bytes] = set()

    async def _handle(self, message: Message) -> None:
        if int(message.value) % 50 == 0 and message.value not in self._failed:
            self._failed.add(message.value)
            await fail(message)
        await asyncio.sleep(0)
        self.handled[message.value] += 1

    async def consumer(self, handlers: int) -> MessageBrokerPort:
        """Return a started broker with so many handlers of the group."""
        policy = QUICK.replace(concurrency=handlers)
        broker = self._stage.broker(policy, shutdown=0.1)
        for _ in range(handlers):
            await broker.subscribe(self.topic, self._stage.probe(self.probe), self.group)
        await self._stage.start(broker)
        return broker

    async def publish(self, broker: MessageBrokerPort) -> None:
        """Publish everything, with as many publishers as there are workers."""

        async def work(number: int) -> None:
            for value in (b"%d" % (number * self._each + n) for n in range(self._each)):
                self.attempted.add(value)
                with contextlib.suppress(PublishError):
                    await broker.publish(self.topic, value, key=b"%d" % number)
                    self.acknowledged.add(value)

        await asyncio.gather(*(work(number) for number in range(self._workers)))

    async def disturb(self, consumer: MessageBrokerPort) -> None:
        """Stop a consumer in the midst of its work, and start it again."""
        await self.probe.began(self._each)
        await self._stage.stop(consumer)
        await self._stage.start(consumer)

    async def figures(self) -> Figures:
        """Wait until everything has arrived, or nothing does any more; count."""
        with contextlib.suppress(AssertionError):
            await self.probe.until(self._arrived, "every message")
        return Figures.of(self.attempted, self.acknowledged, self.handled)

    def _arrived(self) -> bool:
        few = len(self.handled) < len(self.acknowledged)  # quicker to see than which are missing
        return not few and self.acknowledged <= self.handled.keys()


class StressCases(Stage):
    """Stress."""

    @case(deadlines=60)
    async def test_stress(self, request: pytest.FixtureRequest) -> None:
        """Under many publishers and handlers, failing handlers, and an instance that leaves in the
        midst of its work and comes back, no message is lost and none is invented.
        """
        stress = request.config.getoption("--stress", default=False)
        rounds, messages, workers = (10, 5000, 50) if stress else (1, 500, 10)
        total = Figures()
        for _ in range(rounds):
            total += await self._round(messages, workers)
            request.node.user_properties.append((STRESS, str(total)))
        assert (total.lost, total.unexpected) == (0, 0), str(total)
        assert total.attempted == rounds * messages

    async def _round(self, messages: int, workers: int) -> Figures:
        play = _Round(self, messages, workers)
        if not (self.capabilities.durable and self.capabilities.groups_across_instances):
            broker = await play.consumer(workers)
            await play.publish(broker)
            figures = await play.figures()
            await self.stop(broker)
            return figures
        staying, leaving = await play.consumer(workers // 2), await play.consumer(workers // 2)
        publisher = self.broker()
        await self.start(publisher)
        disturbing = asyncio.create_task(play.disturb(leaving))
        await play.publish(publisher)
        await disturbing
        figures = await play.figures()
        for broker in (publisher, staying, leaving):
            await self.stop(broker)
        return figures
