"""Cases beyond the port: several messages in one round."""
# ruff: noqa: S101 - pytest explains an assertion that fails

from __future__ import annotations

import pytest

from pyfly_messaging.errors import BatchPublishError, NotStartedError
from pyfly_messaging.message import Message
from pyfly_messaging.ports import MessageBrokerPort, PublishesBatches
from pyfly_messaging.testing.conformance.case import case
from pyfly_messaging.testing.conformance.compare import expect
from pyfly_messaging.testing.conformance.stage import Stage


class BatchCases(Stage):
    """Batches."""

    @case("batches")
    async def test_batch_arrives(self) -> None:
        """``publish_many`` returns when the broker has all messages, each as it was given."""
        broker, topic, probe = await self.listening()
        second, other = self.probe(), self.name()
        await broker.subscribe(other, second, self.name("group"))
        messages = [
            Message(topic, b"", b"key", {"größe": "Straße"}),
            Message(topic, bytes(range(256)), b"key"),
            Message(topic, b"third", b"key", {"a": "1", "b": ""}),
        ]
        elsewhere = Message(other, b"elsewhere")
        await _batches(broker).publish_many([messages[0], elsewhere, *messages[1:]])
        assert await probe.handled(3) == messages
        assert await second.handled() == [elsewhere]

    @case("batches")
    async def test_batch_keeps_its_order(self) -> None:
        """Messages of a batch that share a key arrive in its order; batches follow each other."""
        broker, topic, probe = await self.listening()
        values = [b"%d" % number for number in range(300)]
        for start in (0, 100, 200):
            batch = (Message(topic, value, b"key") for value in values[start : start + 100])
            await _batches(broker).publish_many(batch)
        await probe.handled(300)
        expect(probe.values, values, order=True)

    @case("batches")
    async def test_empty_batch(self) -> None:
        """A batch of nothing is taken."""
        broker, _, _ = await self.listening()
        await _batches(broker).publish_many([])

    @case("batches")
    async def test_batch_before_start_and_after_stop(self) -> None:
        """Before ``start()`` and after ``stop()`` a batch raises ``NotStartedError``."""
        broker, topic, probe = self.broker(), self.name(), self.probe()
        await broker.subscribe(topic, probe, self.name("group"))
        with pytest.raises(NotStartedError):
            await _batches(broker).publish_many([Message(topic, b"too early")])
        await self.start(broker)
        await _batches(broker).publish_many([Message(topic, b"in time")])
        await probe.handled()
        await self.stop(broker)
        with pytest.raises(NotStartedError):
            await _batches(broker).publish_many([Message(topic, b"too late")])
        assert probe.values == [b"in time"]

    @case("batches")
    async def test_batch_with_a_wrong_message(self) -> None:
        """Of a batch with a message that nobody could carry nothing is sent."""
        broker, topic, probe = await self.listening()
        good = Message(topic, b"good", b"key")
        for wrong, error in (
            (Message(topic, "text"), TypeError),  # type: ignore[arg-type]
            (Message(topic, b"value", "text"), TypeError),  # type: ignore[arg-type]
            (Message(topic, b"value", None, {"number": 1}), TypeError),  # type: ignore[dict-item]
            (Message("no topic", b"value"), ValueError),
        ):
            with pytest.raises(error):
                await _batches(broker).publish_many([good, wrong, good])
        await broker.publish(topic, b"marker", key=b"key")
        await probe.saw(b"marker")
        assert probe.values == [b"marker"]

    @case("batches", "message_limit")
    async def test_batch_error_names_what_was_refused(self) -> None:
        """The error of a batch names the messages that were not taken; the others were."""
        limit = self.capabilities.message_limit
        assert limit is not None
        broker, topic, probe = await self.listening()
        await self._expect_refusals(broker, Message(topic, bytes(limit + 1)), topic)
        await probe.handled(3)
        expect(probe.values, (b"0", b"2", b"4"))

    @case("batches", "unroutable")
    async def test_batch_error_names_what_is_unroutable(self) -> None:
        """The error of a batch names the messages that no queue takes; the others were taken."""
        broker, topic, probe = await self.listening()
        await self._expect_refusals(broker, Message(self.name("nobody"), b"lost"), topic)
        await probe.handled(3)
        expect(probe.values, (b"0", b"2", b"4"))

    async def _expect_refusals(
        self, broker: MessageBrokerPort, refused: Message, topic: str
    ) -> None:
        __tracebackhide__ = True
        batch = [refused if n % 2 else Message(topic, b"%d" % n, b"key") for n in range(5)]
        with pytest.raises(BatchPublishError) as caught:
            await _batches(broker).publish_many(batch)
        assert [position for position, _ in caught.value.failed] == [1, 3]
        assert all(isinstance(error, Exception) for _, error in caught.value.failed)


def _batches(broker: MessageBrokerPort) -> PublishesBatches:
    assert isinstance(broker, PublishesBatches), "the broker has no publish_many"
    return broker
