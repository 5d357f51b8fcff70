"""Cases of point 2: a process that is killed loses nothing."""
# ruff: noqa: S101 - pytest explains an assertion that fails

from __future__ import annotations

import asyncio

from pyfly_messaging.message import Message
from pyfly_messaging.testing.conformance.another_process import Tell, crash
from pyfly_messaging.testing.conformance.case import case
from pyfly_messaging.testing.conformance.compare import expect
from pyfly_messaging.testing.conformance.stage import QUICK, Stage

_HELD, _BEHIND = b"held", b"behind it"
_BEFORE = (b"before 1", b"before 2")
_BESIDE = tuple(b"beside %d" % number for number in range(20))
_ALL = {*_BEFORE, _HELD, _BEHIND, *_BESIDE}


class CrashCases(Stage):
    """2 Crash."""

    @case("survives_crash", deadlines=8)
    async def test_killed_process_leaves_what_it_had_not_settled(self) -> None:
        """What a process had not settled when it was killed goes to the next one of its group:
        the message that a handler held, what waited behind it, and whatever nobody had handled.
        """
        topic, group = self.name(), self.name("group")
        handled = set(await crash(self, _hold_one, topic, group))
        left = _ALL - handled
        assert _HELD in left
        _, _, probe = await self.listening(topic=topic, group=group)
        await probe.saw_all(left)
        expect(set(probe.values) - handled, left)

    @case("survives_crash", "groups_across_instances", deadlines=8)
    async def test_killed_process_leaves_its_share_to_the_others(self) -> None:
        """What a process held when it was killed goes to those of its group that live on."""
        group = self.name("group")
        _, topic, probe = await self.listening(group=group)
        held = await crash(self, _hold_a_share, topic, group)
        assert held
        await probe.saw_all(_BESIDE)
        expect(probe.values, _BESIDE, repeats=True)

    @case("survives_crash", deadlines=8)
    async def test_killed_publisher_loses_nothing(self) -> None:
        """When publish has returned its process may be killed at once, and nothing is lost."""
        group = self.name("group")
        listener, topic, _ = await self.listening(group=group)
        await self.stop(listener)  # from now on the broker knows the group
        taken = set(await crash(self, _publish, topic, group))
        assert len(taken) == len(_BESIDE)
        _, _, probe = await self.listening(topic=topic, group=group)
        await probe.saw_all(taken)


async def _hold_one(stage: Stage, tell: Tell, topic: str, group: str) -> None:
    """Handle messages before, beside and behind one that is held; tell which were handled."""

    async def hold(message: Message) -> None:
        if message.value == _HELD:
            await asyncio.Event().wait()

    broker, _, probe = await stage.listening(
        hold, policy=QUICK.replace(concurrency=4), topic=topic, group=group
    )
    await stage.hand_over(broker, topic, *_BEFORE)
    await probe.handled(len(_BEFORE))
    await stage.hand_over(broker, topic, _HELD, _BEHIND)
    for value in _BESIDE:  # one after the other: time to acknowledge too much
        await stage.hand_over(broker, topic, value, key=value)
        await probe.saw(value)
    for value in probe.values:
        tell(value)


async def _hold_a_share(stage: Stage, tell: Tell, topic: str, group: str) -> None:
    """Publish to the whole group, and hold what comes here; tell what that is."""
    broker, _, probe = await stage.listening(
        lambda _: asyncio.Event().wait(), topic=topic, group=group
    )
    for value in _BESIDE:
        await broker.publish(topic, value, key=value)
    for message in await probe.began(1):
        tell(message.value)


async def _publish(stage: Stage, tell: Tell, topic: str, group: str) -> None:
    """Publish, and tell what was taken."""
    broker = stage.broker()
    await stage.start(broker)
    for value in _BESIDE:
        await broker.publish(topic, value, key=value)
        tell(value)
