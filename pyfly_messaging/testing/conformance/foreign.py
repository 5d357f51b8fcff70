"""Cases of bad input: messages that others published, with their own ideas."""
# ruff: noqa: S101 - pytest explains an assertion that fails

from __future__ import annotations

from pyfly_messaging.testing.conformance.case import case
from pyfly_messaging.testing.conformance.stage import Stage, fail

_NOT_TEXT = b"\xff\x00\xfe"


class ForeignCases(Stage):
    """Foreign messages."""

    @case("foreign")
    async def test_foreign_message_without_headers(self) -> None:
        """A message of others without headers and without a key arrives as such."""
        _, topic, probe = await self.listening()
        await self.publish_foreign(topic, b"foreign", {})
        (message,) = await probe.handled()
        assert (message.topic, message.value, message.key) == (topic, b"foreign", None)
        assert message.headers == {}

    @case("foreign")
    async def test_foreign_message_without_value(self) -> None:
        """A tombstone, a message without a value, arrives as an empty value."""
        _, topic, probe = await self.listening()
        await self.publish_foreign(topic, None, {})
        await probe.handled()
        assert probe.values == [b""]

    @case("foreign")
    async def test_foreign_header_that_is_not_text(self) -> None:
        """A header that is not text arrives as hex."""
        _, topic, probe = await self.listening()
        await self.publish_foreign(topic, b"foreign", {"text": b"text", "binary": _NOT_TEXT})
        (message,) = await probe.handled()
        assert message.headers == {"text": "text", "binary": "ff00fe"}

    @case("foreign")
    async def test_foreign_headers_that_are_huge(self) -> None:
        """Headers of 60 KiB arrive, each one."""
        _, topic, probe = await self.listening()
        headers = {f"name-{number}": b"x" * 1000 for number in range(60)}
        await self.publish_foreign(topic, b"foreign", headers)
        (message,) = await probe.handled()
        assert message.headers == {name: value.decode() for name, value in headers.items()}

    @case("foreign")
    async def test_foreign_message_that_is_spent(self) -> None:
        """A message of others that cannot be handled is dead-lettered like any other."""
        _, topic, probe, letters = await self.burying(fail)
        await self.publish_foreign(topic, b"foreign", {"binary": _NOT_TEXT})
        (letter,) = await letters.handled()
        assert (letter.value, letter.headers["binary"]) == (b"foreign", "ff00fe")
        assert letter.headers["x-pyfly-attempts"] == "3"
        assert len(probe.called) == 3
