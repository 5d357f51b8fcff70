"""Cases of point 12: a message is what was published."""
# ruff: noqa: S101 - pytest explains an assertion that fails

from __future__ import annotations

from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy
from pyfly_messaging.testing.conformance.case import case
from pyfly_messaging.testing.conformance.compare import expect, expect_bytes
from pyfly_messaging.testing.conformance.stage import HandlerError, Stage

_EVERY_BYTE = bytes(range(256))
_LARGE = 900 * 1024


class MessageCases(Stage):
    """12 Message."""

    async def _sent(
        self, value: bytes, key: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Message:
        """Publish a message; return it as its handler got it."""
        __tracebackhide__ = True
        broker, topic, probe = await self.listening()
        await broker.publish(topic, value, key=key, headers=headers)
        (message,) = await probe.handled()
        assert message.topic == topic
        return message

    @case()
    async def test_message_is_what_was_published(self) -> None:
        """Topic, value, key and headers arrive as they were published."""
        broker, topic, probe = await self.listening()
        await broker.publish(topic, b'{"id": 1}', key=b"customer-42", headers={"type": "created"})
        assert await probe.handled() == [
            Message(topic, b'{"id": 1}', b"customer-42", {"type": "created"})
        ]

    @case()
    async def test_empty_value(self) -> None:
        """An empty value arrives empty."""
        assert (await self._sent(b"")).value == b""

    @case()
    async def test_every_byte_in_a_value(self) -> None:
        """A value of any bytes arrives byte for byte."""
        assert (await self._sent(_EVERY_BYTE)).value == _EVERY_BYTE

    @case()
    async def test_large_value(self) -> None:
        """A value of 900 KiB arrives whole, or one of half the limit where that is lower."""
        limit = self.capabilities.message_limit
        size = _LARGE if limit is None or limit > _LARGE else limit // 2
        value = (_EVERY_BYTE * (_LARGE // 256))[:size]
        expect_bytes((await self._sent(value)).value, value)

    @case()
    async def test_no_key(self) -> None:
        """A message without a key arrives without one."""
        assert (await self._sent(b"value")).key is None

    @case()
    async def test_empty_key(self) -> None:
        """An empty key arrives as an empty key, and is another thing than none."""
        assert (await self._sent(b"value", b"")).key == b""

    @case()
    async def test_every_byte_in_a_key(self) -> None:
        """A key of any bytes arrives byte for byte."""
        assert (await self._sent(b"value", _EVERY_BYTE)).key == _EVERY_BYTE

    @case()
    async def test_no_headers(self) -> None:
        """A message without headers arrives without any, the adapter's own included."""
        assert (await self._sent(b"value", b"key")).headers == {}

    @case()
    async def test_headers_in_any_script(self) -> None:
        """Names and values of headers arrive as they were written, in any script, empty or long."""
        headers = {
            "Content-Type": "application/json",
            "content-type": "text/plain",
            "größe": "Straße \N{SNOWMAN} 東京 \N{GRINNING FACE}",
            "blank": "",
            " spaced name ": "  \t two\nlines ",
            "x-pyfly-key": "mine",
            "x-delivery-count": "seven",
            "digits": "0042",
            "long": "x" * 10_000,
        }
        assert (await self._sent(b"value", headers=headers)).headers == headers

    @case()
    async def test_many_headers(self) -> None:
        """A hundred headers arrive, each one."""
        headers = {f"name-{number}": f"value {number}" for number in range(100)}
        assert (await self._sent(b"value", headers=headers)).headers == headers

    @case()
    async def test_headers_belong_to_one_message(self) -> None:
        """Who publishes may use the same headers for the next message, changed."""
        broker, topic, probe = await self.listening()
        headers = {"number": "1"}
        await broker.publish(topic, b"without")
        await broker.publish(topic, b"one", key=b"key", headers=headers)
        headers["number"] = "2"
        await broker.publish(topic, b"two", key=b"key", headers=headers)
        await probe.handled(3)
        found = {message.value: message.headers for message in probe.done}
        assert found == {b"without": {}, b"one": {"number": "1"}, b"two": {"number": "2"}}

    @case()
    async def test_retried_message_is_the_same(self) -> None:
        """Every attempt gets the same topic, value, key and headers."""

        async def fail_twice(message: Message) -> None:
            if len(probe.called) < 3:
                raise HandlerError

        broker, topic, probe = await self.listening(fail_twice)
        await broker.publish(topic, _EVERY_BYTE, key=b"\x00\xff", headers={"größe": "Straße"})
        await probe.handled()
        sent = Message(topic, _EVERY_BYTE, b"\x00\xff", {"größe": "Straße"})
        assert probe.called == [sent, sent, sent]

    @case()
    async def test_headers_that_handlers_change(self) -> None:
        """What a handler does to its headers reaches no other handler, attempt or dead letter."""
        broker, topic, letters, seen = self.broker(), self.name(), self.probe(), []

        async def spoil(message: Message) -> None:
            seen.append(dict(message.headers))
            message.headers.clear()
            message.headers["mine"] = "changed"

        async def spoil_and_fail(message: Message) -> None:
            await spoil(message)
            raise HandlerError

        first, alone = self.probe(spoil), self.probe(spoil)
        await broker.subscribe(topic, first, self.name("first"))
        await broker.subscribe(topic, alone)
        await broker.subscribe(topic, self.probe(spoil_and_fail))
        await broker.subscribe(topic, self.probe(spoil_and_fail), self.name("group"))
        await broker.subscribe(f"{topic}.dlt", letters, self.name("letters"))
        await self.start(broker)
        await broker.publish(topic, b"with", headers={"ours": "kept"})
        await broker.publish(topic, b"without")
        spent = await letters.handled(4)
        await first.handled(2)
        await alone.handled(2)
        assert sorted(seen, key=len) == [{}] * 8 + [{"ours": "kept"}] * 8
        for letter in spent:
            own = {name: text for name, text in letter.headers.items() if "x-pyfly" not in name}
            assert own == ({"ours": "kept"} if letter.value == b"with" else {})

    @case()
    async def test_longest_names(self) -> None:
        """A topic of 249 characters and a group of 200 are possible."""
        topic = self.name("topic.With_every-kind").ljust(249, "x")
        group = self.name("Group/with every:kind@of#,+_.-")
        group += "x" * (200 - len(group.encode()))
        broker, _, probe = await self.listening(
            policy=ListenerPolicy(dead_letter=False), topic=topic, group=group
        )
        await broker.publish(topic, b"value")
        assert (await probe.handled())[0].topic == topic

    @case()
    async def test_topics_that_differ_in_one_character(self) -> None:
        """Topics that differ in the case of a letter only, or in the last of 249, never mix."""
        broker = self.broker(ListenerPolicy(dead_letter=False))
        probes = {topic: self.probe() for topic in _alike(self.name("Topic"), 249)}
        for topic, probe in probes.items():
            await broker.subscribe(topic, probe, self.name("group"))
        await self.start(broker)
        for number in range(2):
            for topic in probes:
                await broker.publish(topic, b"%d of %s" % (number, topic.encode()), key=b"key")
        for topic, probe in probes.items():
            await probe.handled(2)
            own = [b"%d of %s" % (number, topic.encode()) for number in range(2)]
            expect(probe.values, own, order=True)

    @case()
    async def test_groups_that_differ_in_one_character(self) -> None:
        """Groups that differ in the case of a letter only, or in the last of 200, never mix."""
        broker, topic = self.broker(), self.name()
        probes = [self.probe() for _ in range(4)]
        for probe, group in zip(probes, _alike(self.name("Group"), 200), strict=True):
            await broker.subscribe(topic, probe, group)
        await self.start(broker)
        for value in (b"1", b"2"):
            await broker.publish(topic, value, key=b"key")
        for probe in probes:
            await probe.handled(2)
            assert probe.values == [b"1", b"2"]


def _alike(name: str, length: int) -> tuple[str, ...]:
    """Return four names that are easily taken for another."""
    long = f"{name}-long".ljust(length - 1, "x")
    return f"{name}-case", f"{name}-Case", f"{long}1", f"{long}2"
