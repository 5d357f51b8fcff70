"""Cases of bad input: what cannot be is refused at once, before anything is sent."""
# ruff: noqa: S101 - pytest explains an assertion that fails

from __future__ import annotations

from typing import Any

import pytest

from pyfly_messaging.message import Message
from pyfly_messaging.testing.conformance.case import case
from pyfly_messaging.testing.conformance.stage import QUICK, Stage

_NO_TOPICS = ("", ".", "..", "two words", "a/b", "größe", "a\n", "#", "*", "x" * 250)
_NO_GROUPS = ("", " outer", "outer ", "line\nbreak", "\x00", "amq.mine", "ö" * 101)


class BadInputCases(Stage):
    """Bad input."""

    @case()
    async def test_wrong_types_to_publish(self) -> None:
        """A value or key that is not bytes, or a header that is not text, raises ``TypeError``."""
        broker, topic, probe = await self.listening()
        publish: Any = broker.publish
        for value in ("text", None, 1, {"a": 1}, bytearray(b"x"), memoryview(b"x")):
            with pytest.raises(TypeError, match="value"):
                await publish(topic, value, key=b"key")
        for key in ("text", 1, bytearray(b"x")):
            with pytest.raises(TypeError, match="key"):
                await publish(topic, b"value", key=key)
        for headers in ({"a": 1}, {"a": b"x"}, {"a": None}, {1: "a"}, ["a"], "a=b"):
            with pytest.raises(TypeError, match="header"):
                await publish(topic, b"value", key=b"key", headers=headers)
        await self._expect_nothing_but_a_marker(topic, probe, publish)

    @case()
    async def test_empty_header_name(self) -> None:
        """A header without a name raises ``ValueError``."""
        broker, topic, probe = await self.listening()
        with pytest.raises(ValueError, match="header"):
            await broker.publish(topic, b"value", key=b"key", headers={"": "nameless"})
        await self._expect_nothing_but_a_marker(topic, probe, broker.publish)

    @case()
    async def test_headers_that_are_no_unicode(self) -> None:
        """A header that UTF-8 cannot encode raises ``ValueError``."""
        broker, topic, probe = await self.listening()
        for headers in ({"name": "\udcff"}, {"\udcff": "value"}):
            with pytest.raises(ValueError, match=r"header|surrogates"):
                await broker.publish(topic, b"value", key=b"key", headers=headers)
        await self._expect_nothing_but_a_marker(topic, probe, broker.publish)

    @case()
    async def test_impossible_topics(self) -> None:
        """A topic that not every broker takes raises ``ValueError`` at publish and subscribe."""
        broker, _, _ = await self.listening()
        other: Any = self.probe()
        for topic in _NO_TOPICS:
            with pytest.raises(ValueError, match="topic"):
                await self.within(broker.publish(topic, b"value"), "the refusal of a topic")
            with pytest.raises(ValueError, match="topic"):
                await self.within(broker.subscribe(topic, other), "the refusal of a topic")
        subscribe: Any = broker.subscribe
        for wrong in (None, b"topic", 1):
            with pytest.raises(TypeError, match="topic"):
                await subscribe(wrong, other)

    @case()
    async def test_impossible_groups(self) -> None:
        """A group that not every broker takes raises ``ValueError``, no text ``TypeError``."""
        broker, topic, probe = self.broker(), self.name(), self.probe()
        subscribe: Any = broker.subscribe
        for group in _NO_GROUPS:
            with pytest.raises(ValueError, match="group"):
                await subscribe(topic, probe, group)
        for wrong in (b"group", 1, ["group"]):
            with pytest.raises(TypeError, match="group"):
                await subscribe(topic, probe, wrong)
        await self.start(broker)
        await subscribe(topic, probe, self.name("group"))
        await broker.publish(topic, b"message")
        await probe.handled()

    @case()
    async def test_handler_that_cannot_be_awaited(self) -> None:
        """A handler that is no async callable raises ``TypeError`` at subscribe."""
        broker, topic = self.broker(), self.name()
        subscribe: Any = broker.subscribe

        def function(message: Message) -> None: ...

        for handler in (function, print, None, "handler", Message, object()):
            with pytest.raises(TypeError, match="async"):
                await subscribe(topic, handler)

    @case("policies")
    async def test_dead_letter_topic_equal_to_the_topic(self) -> None:
        """A dead-letter topic that is the topic itself raises ``ValueError`` at subscribe."""
        broker, topic = self.broker(), self.name()
        policy = QUICK.replace(dead_letter_topic=topic)
        with pytest.raises(ValueError, match="dead-letter topic"):
            await self.listen(broker, topic, self.probe(), policy=policy)

    @case()
    async def test_refused_subscription_leaves_nothing(self) -> None:
        """A subscribe that was refused leaves no listener behind, and hurts no other."""
        broker, topic, probe = await self.listening()
        refused = self.probe()
        with pytest.raises(ValueError, match="group"):
            await broker.subscribe(topic, refused, " ")
        await broker.publish(topic, b"message", key=b"key")
        await probe.handled()
        await broker.subscribe(topic, refused)
        await broker.publish(topic, b"next", key=b"key")
        await refused.handled()
        assert refused.values == [b"next"]

    async def _expect_nothing_but_a_marker(self, topic: str, probe: Any, publish: Any) -> None:
        __tracebackhide__ = True
        await publish(topic, b"marker", key=b"key")
        await probe.saw(b"marker")
        assert probe.values == [b"marker"]
