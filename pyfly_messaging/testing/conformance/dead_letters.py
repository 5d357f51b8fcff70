"""Cases of point 5: where a spent message goes, and what it carries there."""
# ruff: noqa: S101 - pytest explains an assertion that fails

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy
from pyfly_messaging.testing.conformance.case import case
from pyfly_messaging.testing.conformance.quiet import quiet
from pyfly_messaging.testing.conformance.stage import ENDS, QUICK, HandlerError, Stage, fail

_OURS = "x-pyfly-"
# Colours, a line of its own, a cleared screen, a turned line, and what UTF-8 cannot encode.
_CONTROLS = "\x1b[31m\nERROR forged line\r\x9b2J\x00\u2028\u202e\udcff"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\ud800-\udfff]")
# Characters; a bound, and not what an adapter should use up.
_HEADER_LIMIT, _LOG_LIMIT = 10_000, 1_000_000


class DeadLetterCases(Stage):
    """5 Dead letters."""

    @case()
    async def test_dead_letter_is_the_message_unchanged(self) -> None:
        """A dead letter goes to ``{topic}.dlt`` with value, key and headers unchanged."""
        broker, topic, _, letters = await self.burying(fail)
        value, headers = bytes(range(256)), {"größe": "Straße", "empty": ""}
        await broker.publish(topic, value, key=b"\x00\xff", headers=headers)
        (letter,) = await letters.handled()
        own = {name: text for name, text in letter.headers.items() if not name.startswith(_OURS)}
        assert Message(letter.topic, letter.value, letter.key, own) == Message(
            f"{topic}.dlt", value, b"\x00\xff", headers
        )

    @case()
    async def test_dead_letter_says_why_it_is_one(self) -> None:
        """Headers of a dead letter tell topic, group, attempts, exception, its text, and when."""
        group, before = self.name("group"), datetime.now(UTC)
        broker, topic, _, letters = await self.burying(fail, group=group)
        await broker.publish(topic, b"spent")
        (letter,) = await letters.handled()
        told = dict(letter.headers)
        moment = told.pop("x-pyfly-dead-lettered-at", "missing")
        assert told == {
            "x-pyfly-original-topic": topic,
            "x-pyfly-original-group": group,
            "x-pyfly-attempts": "3",
            "x-pyfly-exception": f"{HandlerError.__module__}.{HandlerError.__qualname__}",
            "x-pyfly-exception-message": "no use for b'spent'",
        }
        assert moment != "missing"
        late = datetime.now(UTC) + timedelta(seconds=1)
        assert before - timedelta(seconds=1) < datetime.fromisoformat(moment) < late

    @case()
    async def test_dead_letter_without_a_group(self) -> None:
        """A dead letter of a listener without a group names no group."""
        broker, topic = self.broker(), self.name()
        letters = self.probe()
        await broker.subscribe(topic, self.probe(fail))
        await broker.subscribe(topic + ".dlt", letters)
        await self.start(broker)
        await broker.publish(topic, b"spent")
        (letter,) = await letters.handled()
        assert letter.headers["x-pyfly-original-topic"] == topic
        assert "x-pyfly-original-group" not in letter.headers

    @case()
    async def test_dead_letter_says_nothing_that_was_forged(self) -> None:
        """Headers of a dead letter tell the truth, also where its message had some of that name."""
        broker, topic, _, letters = await self.burying(fail, group=self.name("group"))
        names = ("original-topic", "original-group", "attempts", "exception", "exception-message")
        forged = {_OURS + name: "forged" for name in (*names, "dead-lettered-at")}
        await broker.publish(topic, b"spent", headers=forged)
        (letter,) = await letters.handled()
        assert "forged" not in letter.headers.values()
        assert letter.headers[f"{_OURS}original-topic"] == topic

    @case()
    async def test_header_of_a_dead_letter_chooses_no_handler(self) -> None:
        """A message belongs to its topic, also where a header names another one."""
        broker, topic, other = self.broker(), self.name("one"), self.name("other")
        group, probe, of_other = self.name("group"), self.probe(), self.probe()
        await broker.subscribe(topic, probe, group)
        await broker.subscribe(other, of_other, group)
        await self.start(broker)
        await broker.publish(topic, b"mine", headers={f"{_OURS}original-topic": other})
        await probe.saw(b"mine")
        await broker.publish(other, b"its own")
        await of_other.saw(b"its own")
        assert of_other.values == [b"its own"]

    @case()
    async def test_every_group_has_its_own_dead_letter(self) -> None:
        """Of a message that several groups spend each leaves a dead letter."""
        broker, topic, groups = self.broker(), self.name(), {self.name("a"), self.name("b")}
        letters = self.probe()
        for group in groups:
            await broker.subscribe(topic, self.probe(fail), group)
        await broker.subscribe(topic + ".dlt", letters, self.name("letters"))
        await self.start(broker)
        await broker.publish(topic, b"spent")
        found = await letters.handled(2)
        assert {letter.headers["x-pyfly-original-group"] for letter in found} == groups

    @case("policies")
    async def test_dead_letter_topic_of_ones_own(self) -> None:
        """``dead_letter_topic`` names another topic, with or without the original one in it."""
        broker, topic, fixed = self.broker(), self.name(), self.name("parked")
        for target, place in ((fixed, fixed), ("{topic}.parked", f"{topic}.parked")):
            letters, policy = self.probe(), QUICK.replace(dead_letter_topic=target)
            await self.listen(broker, topic, self.probe(fail), self.name("group"), policy=policy)
            await broker.subscribe(place, letters, self.name("letters"))
            await self.start(broker)
            await broker.publish(topic, b"spent")
            (letter, *_) = await letters.handled()
            assert letter.headers["x-pyfly-original-topic"] == topic

    @case("policies")
    async def test_dead_letters_switched_off(self) -> None:
        """With ``dead_letter`` false a spent message is dropped, and the next one is handled."""
        broker, topic = self.broker(), self.name()
        policy = ListenerPolicy(retries=0, dead_letter=False)

        async def fail_for_poison(message: Message) -> None:
            if message.value == b"poison":
                await fail(message)

        probe, letters = self.probe(fail_for_poison), self.probe()
        await self.listen(broker, topic, probe, self.name("group"), policy=policy)
        await broker.subscribe(topic + ".dlt", letters, self.name("letters"))
        await self.start(broker)
        await broker.publish(topic, b"poison", key=b"key")
        await broker.publish(topic, b"next", key=b"key")
        await probe.saw(b"next")
        await broker.publish(topic + ".dlt", b"marker", key=b"key")
        await letters.saw(b"marker")
        assert (len(probe.called), letters.values) == (2, [b"marker"])

    @case()
    async def test_listener_on_a_dead_letter_topic_may_fail(self) -> None:
        """A listener on a dead-letter topic is one like any other, with dead letters of its own."""
        broker, topic = self.broker(), self.name()
        last = self.probe()
        await broker.subscribe(topic, self.probe(fail), self.name("group"))
        await broker.subscribe(topic + ".dlt", self.probe(fail), self.name("letters"))
        await broker.subscribe(topic + ".dlt.dlt", last, self.name("last"))
        await self.start(broker)
        await broker.publish(topic, b"spent", key=b"key", headers={"number": "1"})
        (letter,) = await last.handled()
        assert (letter.value, letter.key, letter.headers["number"]) == (b"spent", b"key", "1")
        assert letter.headers["x-pyfly-original-topic"] == topic + ".dlt"

    @case()
    async def test_exception_of_any_text(self) -> None:
        """A message is dead-lettered whatever the exception's text is: huge, broken, or raising."""

        class Unspeakable(Exception):  # noqa: N818 - a name of its own says more here
            def __str__(self) -> str:
                raise HandlerError

        errors = iter((HandlerError("long " * 100_000), HandlerError("\udcff\x00"), Unspeakable()))

        async def raise_next(message: Message) -> None:
            raise next(errors)

        broker, topic, _, letters = await self.burying(raise_next, policy=ListenerPolicy(retries=0))
        with quiet():  # half a megabyte of "long" helps nobody
            for value in (b"1", b"2", b"3"):
                await broker.publish(topic, value, key=b"key")
            found = await letters.handled(3)
        assert letters.values == [b"1", b"2", b"3"]
        assert found[0].headers["x-pyfly-exception-message"].startswith("long long ")

    @case()
    async def test_exception_whose_text_raises_an_exit(self) -> None:
        """An exception whose ``__str__`` raises ``SystemExit`` is a failure like any other."""

        class Ending(Exception):  # noqa: N818 - a name of its own says more here
            def __init__(self, end: type[BaseException]) -> None:
                self.end = end

            def __str__(self) -> str:
                raise self.end(ENDS)

        errors = iter((Ending(SystemExit), Ending(KeyboardInterrupt)))

        async def raise_next(message: Message) -> None:
            raise next(errors)

        broker, topic, _, letters = await self.burying(raise_next, policy=ListenerPolicy(retries=0))
        for value in (b"1", b"2"):
            await broker.publish(topic, value, key=b"key")
        await letters.handled(2)
        assert letters.values == [b"1", b"2"]

    @case()
    async def test_exception_text_is_escaped_and_bounded(self) -> None:
        """Control characters of an exception's text reach neither the log nor the dead letter.

        Nor does its length: 10 MB become a bounded header, and bounded lines.
        """
        texts = {b"1": _CONTROLS, b"2": _CONTROLS * 400_000}

        async def raise_text(message: Message) -> None:
            raise HandlerError(texts[message.value])

        policy = QUICK.replace(retries=1)
        broker, topic, _, letters = await self.burying(raise_text, policy=policy)
        with quiet() as log:
            for value in texts:
                await broker.publish(topic, value, key=b"key")
            found = await letters.handled(2)
        for letter in found:
            text = letter.headers["x-pyfly-exception-message"]
            assert len(text) <= _HEADER_LIMIT
            assert not _CONTROL.search(text)
        lines = [line for text in log.texts for line in text.split("\n")]
        assert not [line for line in lines if _CONTROL.search(line)]
        assert not [line for line in lines if line.startswith("ERROR forged")]
        assert log.size <= _LOG_LIMIT

    @case()
    async def test_failing_message_costs_one_traceback(self) -> None:
        """However often a message is tried again, at most one traceback of it is in the log."""
        broker, topic, _, letters = await self.burying(fail, policy=QUICK.replace(retries=3))
        with quiet() as log:
            await broker.publish(topic, b"spent", key=b"key")
            await letters.handled()
        assert log.tracebacks <= 1
