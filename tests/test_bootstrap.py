"""Bootstrap: what is subscribed with which policy, on which broker; start, stop, and signals."""

import asyncio
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pyfly_messaging import (
    ConfigurationError,
    ListenerPolicy,
    Message,
    MessageBrokerPort,
    MessageHandler,
    MessagingSettings,
    bootstrap,
    message_listener,
    run,
)
from pyfly_messaging.adapters.memory import InMemoryMessageBroker
from pyfly_messaging.container import bean, configuration, service
from pyfly_messaging.errors import BrokerUnavailableError, ContainerError, NotStartedError
from pyfly_messaging.settings import isolated


def settings_of(path: Path | None = None, **changes: Any) -> MessagingSettings:
    """Settings that the machine's environment and files have no part in."""
    with isolated(path=path):
        return MessagingSettings(**changes)


@pytest.fixture
def settings() -> MessagingSettings:
    return settings_of()


class Recorder(InMemoryMessageBroker):
    """The memory broker, which also keeps what happened to it."""

    def __init__(self, log: list[str] | None = None) -> None:
        super().__init__()
        self.log: list[str] = [] if log is None else log
        self.subscribed: dict[str, tuple[str, str | None, ListenerPolicy]] = {}

    async def subscribe(
        self,
        topic: str,
        handler: MessageHandler,
        group: str | None = None,
        *,
        policy: ListenerPolicy | None = None,
        name: str | None = None,
    ) -> None:
        assert policy is not None
        assert name is not None
        self.subscribed[name] = (topic, group, policy)
        await super().subscribe(topic, handler, group, policy=policy, name=name)

    async def start(self) -> None:
        self.log.append("start broker")
        await super().start()

    async def stop(self) -> None:
        self.log.append("stop broker")
        await super().stop()


class Plain:
    """A broker with the four methods of the port and no more."""

    def __init__(self) -> None:
        self._inner = InMemoryMessageBroker()
        self.published: list[Message] = []

    async def publish(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.published.append(Message(topic, value, key, headers or {}))
        await self._inner.publish(topic, value, key=key, headers=headers)

    async def subscribe(
        self, topic: str, handler: MessageHandler, group: str | None = None
    ) -> None:
        await self._inner.subscribe(topic, handler, group)

    async def start(self) -> None:
        await self._inner.start()

    async def stop(self) -> None:
        await self._inner.stop()


class Unreachable(Recorder):
    """A broker that is not there."""

    async def start(self) -> None:
        raise BrokerUnavailableError("nobody answers at mq:5672", address="mq:5672")


@service
class Notifications:
    def __init__(self, broker: MessageBrokerPort) -> None:
        self.broker = broker
        self.seen: list[Message] = []

    @message_listener("orders", group="notifications")
    async def on_order(self, message: Message) -> None:
        self.seen.append(message)


@message_listener("orders")
async def on_order(message: Message) -> None: ...


def module(**members: object) -> ModuleType:
    made = ModuleType("shop")
    vars(made).update(members, __all__=list(members))
    return made


class TestListeners:
    async def test_listeners_of_services_hear_what_is_published(
        self, settings: MessagingSettings
    ) -> None:
        """A service's listener is subscribed with its instance, which the broker is injected to."""
        application = bootstrap(module(Notifications=Notifications), settings=settings)
        async with application as broker:
            await broker.publish("orders", b"1", key=b"k")
            found = application.get(Notifications)
            assert found.seen == [Message("orders", b"1", b"k")]
            assert found.broker is broker is application.broker

    async def test_functions_instances_and_static_methods_listen(
        self, settings: MessagingSettings
    ) -> None:
        """Every kind of source is subscribed under its own name, once each."""

        class Audit:
            @staticmethod
            @message_listener("audit")
            async def on_entry(message: Message) -> None: ...

        broker = Recorder()
        instance = Notifications(broker)
        sources = (on_order, module(on_order=on_order), instance, Audit)
        async with bootstrap(*sources, settings=settings, broker=broker):
            assert sorted(broker.subscribed) == [
                "audit-on-entry",
                "notifications-on-order",
                "on-order",
            ]
            await broker.publish("orders", b"1")
        assert len(instance.seen) == 1

    async def test_listeners_of_beans_are_subscribed(self, settings: MessagingSettings) -> None:
        """What a bean method returns listens too, if it has listeners; a string has none."""

        @configuration
        class Wiring:
            @bean
            def notifications(self, broker: MessageBrokerPort) -> Notifications:
                return Notifications(broker)

            @bean
            def name(self) -> str:
                return "shop"

        application = bootstrap(Wiring, settings=settings)
        async with application as broker:
            await broker.publish("orders", b"1")
            assert len(application.get(Notifications).seen) == 1
            assert application.get(str) == "shop"

    async def test_the_settings_are_injected(self, settings: MessagingSettings) -> None:
        """A service can ask for the settings with which it runs."""

        class Reader:
            def __init__(self, settings: MessagingSettings) -> None:
                self.settings = settings

        application = bootstrap(Reader, settings=settings)
        async with application:
            assert application.get(Reader).settings is settings

    async def test_settings_are_loaded_when_none_are_given(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without settings the environment counts."""
        application = bootstrap(on_order)
        monkeypatch.setenv("PYFLY_MESSAGING__PROVIDER", "memory")
        monkeypatch.setenv("PYFLY_MESSAGING__SHUTDOWN__TIMEOUT", "7s")
        async with application:
            assert application.get(MessagingSettings).shutdown.timeout == 7

    async def test_the_same_name_twice_is_refused(self, settings: MessagingSettings) -> None:
        """Two listeners with one name are refused, both functions named, and nothing started."""

        class Other:
            @message_listener("orders", name="on-order")
            async def hear(self, message: Message) -> None: ...

        broker = Recorder()
        application = bootstrap(on_order, Other, settings=settings, broker=broker)
        with pytest.raises(ConfigurationError) as caught:
            await application.start()
        assert f"called 'on-order': {__name__}.on_order and {__name__}." in str(caught.value)
        assert "Other.hear; give one of them a name of its own" in str(caught.value)
        assert broker.log == []

    async def test_two_instances_of_one_class_are_refused(
        self, settings: MessagingSettings
    ) -> None:
        """Two instances of one class would share a name: the error says to pass only one."""
        broker = Recorder()
        sources = (Notifications(broker), Notifications(broker))
        with pytest.raises(ConfigurationError, match="two instances of one class listen as"):
            await bootstrap(*sources, settings=settings, broker=broker).start()


class TestPolicies:
    async def test_from_default_to_operator(self, tmp_path: Path) -> None:
        """The built-in default, `listener:`, the decorator and `listeners:` win in this order."""
        path = tmp_path / "pyfly.yaml"
        path.write_text(
            "pyfly:\n"
            "  messaging:\n"
            "    listener: {retries: 5, retry-delay: 2s, concurrency: 2, timeout: 3s}\n"
            "    listeners:\n"
            "      hear: {timeout: 9s, group: theirs}\n"
        )

        @message_listener("orders", group="mine", name="hear", concurrency=4, timeout=8, retries=6)
        async def hear(message: Message) -> None: ...

        broker = Recorder()
        async with bootstrap(hear, settings=settings_of(path), broker=broker):
            topic, group, policy = broker.subscribed["hear"]
        assert (topic, group) == ("orders", "theirs")
        assert (policy.timeout, policy.concurrency, policy.retries) == (9, 4, 6)
        assert (policy.retry_delay, policy.retry_multiplier) == (2, 2)

    async def test_an_operator_moves_a_listener_to_another_topic(self) -> None:
        """`listeners: <name>: topic` is where the listener is subscribed, in its own group."""
        broker = Recorder()
        settings = settings_of(listeners={"notifications-on-order": {"topic": "orders.v2"}})
        application = bootstrap(Notifications, settings=settings, broker=broker)
        async with application:
            assert broker.subscribed["notifications-on-order"][:2] == ("orders.v2", "notifications")
            await broker.publish("orders.v2", b"1")
            assert len(application.get(Notifications).seen) == 1

    async def test_a_listener_that_is_off_is_left_out(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """`enabled: false` leaves a listener out, and the log says so."""
        broker = Recorder()
        settings = settings_of(listeners={"on-order": {"enabled": False}})
        with caplog.at_level(logging.INFO):
            async with bootstrap(on_order, settings=settings, broker=broker):
                assert broker.subscribed == {}
        assert "listener on-order is off: listeners.on-order.enabled is false" in caplog.text
        assert "started Recorder with 0 listeners: none" in caplog.text

    async def test_a_name_that_matches_no_listener_is_refused(self, tmp_path: Path) -> None:
        """A misspelt name fails the start at its place in the file, with the right name."""
        path = tmp_path / "pyfly.yaml"
        path.write_text("pyfly:\n  messaging:\n    listeners:\n      on-ordr: {retries: 1}\n")
        broker = Recorder()
        with pytest.raises(ConfigurationError) as caught:
            await bootstrap(on_order, settings=settings_of(path), broker=broker).start()
        assert re.search(r"pyfly\.yaml:4:7", str(caught.value))
        assert 'did you mean "on-order"?' in str(caught.value)
        assert broker.log == []

    @pytest.mark.parametrize(
        ("changes", "setting"),
        [
            ({"listener": {"dead_letter_topic": "orders"}}, "listener.dead-letter-topic"),
            (
                {"listeners": {"on-order": {"dead_letter_topic": "orders"}}},
                "listeners.on-order.dead-letter-topic",
            ),
        ],
    )
    async def test_dead_letters_that_would_return_are_refused(
        self, changes: dict[str, Any], setting: str
    ) -> None:
        """A dead-letter topic that is the topic itself fails the start, with the setting."""
        with pytest.raises(ConfigurationError) as caught:
            await bootstrap(on_order, settings=settings_of(**changes)).start()
        assert "the dead-letter topic of 'orders' is the topic itself" in str(caught.value)
        assert setting in caught.value.diagnostics[0].setting


class TestBroker:
    async def test_one_that_is_passed_in_wins_over_a_bean(
        self, settings: MessagingSettings, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The broker argument is injected everywhere, and the bean is not even made."""

        @configuration
        class Wiring:
            @bean
            def broker(self) -> MessageBrokerPort:
                raise AssertionError

        broker = Recorder()
        application = bootstrap(Wiring, Notifications, settings=settings, broker=broker)
        with caplog.at_level(logging.INFO):
            async with application as running:
                assert running is broker
                assert application.get(Notifications).broker is broker
        assert "Wiring.broker is not made: a broker was passed in" in caplog.text

    async def test_a_bean_wins_over_the_settings(self) -> None:
        """A bean that provides the port, or an adapter, is the broker whatever the provider."""

        @configuration
        class Wiring:
            @bean
            def broker(self) -> Recorder:
                return Recorder()

        application = bootstrap(Wiring, settings=settings_of(provider="kafka"))
        async with application as running:
            assert running is application.get(Recorder)

    async def test_an_instance_among_the_sources_is_a_broker_too(
        self, settings: MessagingSettings
    ) -> None:
        """A broker that is passed as a source is the broker."""
        broker = Recorder()
        async with bootstrap(on_order, broker, settings=settings) as running:
            assert running is broker

    async def test_several_broker_beans_are_ambiguous(self, settings: MessagingSettings) -> None:
        """Two beans that are brokers are refused, both named, even when nobody asks for one."""

        @configuration
        class Wiring:
            @bean
            def one(self) -> MessageBrokerPort:
                raise AssertionError

            @bean
            def two(self) -> InMemoryMessageBroker:
                raise AssertionError

        with pytest.raises(ContainerError, match=r"2 are brokers \(.*Wiring\.one, .*Wiring\.two\)"):
            await bootstrap(Wiring, on_order, settings=settings).start()

    async def test_a_second_set_of_settings_is_refused(self, settings: MessagingSettings) -> None:
        """Settings come as an argument; a bean or source with others would be silently ignored."""
        with pytest.raises(ContainerError, match="would be a second set of settings: pass it as"):
            await bootstrap(settings).start()

    async def test_a_bean_that_is_no_broker_after_all_is_refused(
        self, settings: MessagingSettings
    ) -> None:
        """A bean that promises a broker and gives something else is named with what it lacks."""

        @configuration
        class Wiring:
            @bean
            def broker(self) -> MessageBrokerPort:
                return object()  # type: ignore[return-value]

        with pytest.raises(TypeError, match="gave object, which is no MessageBrokerPort: it lacks"):
            await bootstrap(Wiring, settings=settings).start()

    @pytest.mark.parametrize(
        ("broker", "message"),
        [
            (InMemoryMessageBroker, "broker= the class InMemoryMessageBroker: an instance of it"),
            (object(), "it lacks publish, subscribe, start, stop"),
        ],
    )
    def test_what_is_no_broker_is_refused_at_once(self, broker: Any, message: str) -> None:
        """A class, or an object without the four methods, is no broker."""
        with pytest.raises(TypeError, match=message):
            bootstrap(on_order, broker=broker)

    def test_what_are_no_settings_is_refused_at_once(self) -> None:
        """Settings are `MessagingSettings`, not a dictionary."""
        with pytest.raises(TypeError, match="settings must be MessagingSettings, got dict"):
            bootstrap(on_order, settings={"provider": "kafka"})  # type: ignore[arg-type]

    async def test_a_broker_is_not_given_the_same_listeners_twice(
        self, settings: MessagingSettings
    ) -> None:
        """A second start with the same broker would listen twice: it is refused."""
        application = bootstrap(Notifications, settings=settings, broker=Recorder())
        async with application:
            pass
        with pytest.raises(RuntimeError, match="still has the listeners of the first start"):
            await application.start()

    async def test_without_a_broker_of_its_own_an_application_starts_again(
        self, settings: MessagingSettings
    ) -> None:
        """After a stop everything is made anew."""
        application = bootstrap(Notifications, settings=settings)
        made = []
        for _ in range(2):
            async with application as broker:
                await broker.publish("orders", b"1")
                made.append(application.get(Notifications))
        assert made[0] is not made[1]
        assert [len(one.seen) for one in made] == [1, 1]


class TestPlainBroker:
    async def test_policies_are_kept_around_the_handler(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A broker with four methods gets retries and dead letters, and the log says what not."""
        attempts: list[Message] = []

        @message_listener("orders", group="mine", retries=2, retry_delay=0)
        async def hear(message: Message) -> None:
            attempts.append(message)
            raise ValueError("never")

        broker = Plain()
        async with bootstrap(hear, settings=settings_of(), broker=broker):
            await broker.publish("orders", b"1", key=b"k", headers={"a": "b"})
        assert len(attempts) == 3
        letter = broker.published[1]
        assert (letter.topic, letter.value, letter.key) == ("orders.dlt", b"1", b"k")
        assert letter.headers["x-pyfly-attempts"] == "3"
        assert letter.headers["x-pyfly-original-group"] == "mine"
        assert "Plain offers only the four methods of MessageBrokerPort" in caplog.text
        assert "concurrency, order and acknowledgement are the broker's own" in caplog.text

    async def test_a_storm_of_failures_is_summed_up_at_the_stop(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What was not logged one by one until the stop is told then."""

        @message_listener("orders", retries=0, dead_letter_topic="dead")
        async def hear(message: Message) -> None:
            raise ValueError("never")

        broker = Plain()
        async with bootstrap(hear, settings=settings_of(), broker=broker):
            for _ in range(15):
                await broker.publish("orders", b"1")
        assert any("5 messages go to dead letters" in text for text in caplog.messages)

    async def test_the_timeout_of_an_attempt_is_kept(self) -> None:
        """An attempt over the listener's timeout fails on a broker with four methods too."""

        @message_listener("orders", timeout=0.01, retries=0)
        async def hear(message: Message) -> None:
            await asyncio.Event().wait()

        broker = Plain()
        async with bootstrap(hear, settings=settings_of(), broker=broker):
            await broker.publish("orders", b"1")
        assert broker.published[1].headers["x-pyfly-exception"] == "TimeoutError"

    async def test_without_listeners_there_is_nothing_to_say(
        self, settings: MessagingSettings, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A program that only publishes is not warned."""
        async with bootstrap(settings=settings, broker=Plain()):
            pass
        assert caplog.records == []

    async def test_a_broker_that_passes_keywords_on_is_given_policies(self) -> None:
        """`**options` in a broker's subscribe takes the policy and the name."""
        inner = Recorder()

        class Tracing(Plain):
            async def subscribe(
                self, topic: str, handler: MessageHandler, group: str | None = None, **options: Any
            ) -> None:
                await inner.subscribe(topic, handler, group, **options)

        async with bootstrap(on_order, settings=settings_of(), broker=Tracing()):
            assert list(inner.subscribed) == ["on-order"]


class TestStartAndStop:
    async def test_everything_stops_in_the_reverse_order(self, settings: MessagingSettings) -> None:
        """The broker stops before the beans that handlers use, the last made bean first."""
        log: list[str] = []

        class Pool: ...

        class Repository: ...

        @configuration
        class Wiring:
            @bean
            async def repository(self, pool: Pool) -> AsyncIterator[Repository]:
                log.append("open repository")
                yield Repository()
                log.append("close repository")

            @bean
            def pool(self) -> Iterator[Pool]:
                log.append("open pool")
                yield Pool()
                log.append("close pool")

        application = bootstrap(Wiring, on_order, settings=settings, broker=Recorder(log))
        await application.start()
        await application.start()
        await application.stop()
        await application.stop()
        assert log == [
            "open pool",
            "open repository",
            "start broker",
            "stop broker",
            "close repository",
            "close pool",
        ]

    async def test_a_start_that_fails_leaves_nothing_behind(
        self, settings: MessagingSettings, caplog: pytest.LogCaptureFixture
    ) -> None:
        """When the broker cannot start, what was made is undone and the broker's error raised."""
        log: list[str] = []

        class Pool: ...

        @configuration
        class Wiring:
            @bean
            def pool(self) -> Iterator[Pool]:
                yield Pool()
                log.append("close pool")
                raise ValueError("the pool is broken, too")

        application = bootstrap(Wiring, settings=settings, broker=Unreachable(log))
        with pytest.raises(BrokerUnavailableError, match="nobody answers"):
            await application.start()
        assert log == ["stop broker", "close pool"]
        assert "the pool is broken, too" in caplog.text
        with pytest.raises(NotStartedError, match="the application is not running"):
            _ = application.broker
        await application.stop()
        assert len(log) == 2

    async def test_no_broker_is_touched_when_the_container_cannot_be_resolved(
        self, settings: MessagingSettings
    ) -> None:
        """A missing dependency is found before anything is made or connected."""

        class Missing: ...

        class Reader:
            def __init__(self, missing: Missing) -> None: ...

        @configuration
        class Wiring:
            @bean
            def name(self) -> str:
                raise AssertionError

        broker = Recorder()
        with pytest.raises(ContainerError, match=r"Reader\(missing: Missing\) needs Missing"):
            await bootstrap(Wiring, Reader, settings=settings, broker=broker).start()
        assert broker.log == []

    async def test_a_handler_that_cannot_be_subscribed_fails_the_start(
        self, settings: MessagingSettings
    ) -> None:
        """An error of subscribe undoes the start."""

        class Refusing(Recorder):
            async def subscribe(self, *args: Any, **options: Any) -> None:
                raise ValueError("no room")

        broker = Refusing()
        with pytest.raises(ValueError, match="no room"):
            await bootstrap(on_order, settings=settings, broker=broker).start()
        assert broker.log == ["stop broker"]

    async def test_errors_of_the_stop_come_together(self, settings: MessagingSettings) -> None:
        """A broker and a bean that both fail to stop are both tried and both reported."""

        class Sticky(Recorder):
            async def stop(self) -> None:
                await super().stop()
                raise OSError("sticky broker")

        class Pool: ...

        @configuration
        class Wiring:
            @bean
            def pool(self) -> Iterator[Pool]:
                yield Pool()
                raise OSError("sticky pool")

        application = bootstrap(Wiring, settings=settings, broker=Sticky())
        await application.start()
        with pytest.raises(ExceptionGroup) as caught:
            await application.stop()
        assert [str(error) for error in caught.value.exceptions] == ["sticky broker", "sticky pool"]
        await application.stop()

    async def test_a_cancelled_start_is_undone(self, settings: MessagingSettings) -> None:
        """Cancelling a start that waits for its broker stops everything, and is not swallowed."""
        begun = asyncio.Event()

        class Waiting(Recorder):
            async def start(self) -> None:
                begun.set()
                await asyncio.Event().wait()

        broker = Waiting()
        starting = asyncio.create_task(
            bootstrap(on_order, settings=settings, broker=broker).start()
        )
        await begun.wait()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert broker.log == ["stop broker"]

    async def test_nothing_can_be_asked_for_before_the_start(
        self, settings: MessagingSettings
    ) -> None:
        """Broker and beans exist between start and stop only."""
        application = bootstrap(on_order, settings=settings)
        with pytest.raises(NotStartedError, match="start it first"):
            application.get(Notifications)
        with pytest.raises(NotStartedError, match="start it first"):
            _ = application.broker


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


class Signalled(Recorder):
    """A broker that, once started, sends signals to this process."""

    def __init__(self, *numbers: signal.Signals) -> None:
        super().__init__()
        self._numbers = numbers

    async def start(self) -> None:
        await super().start()
        for number in self._numbers:
            send(number)


class TestRun:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_it(self, settings: MessagingSettings, number: signal.Signals) -> None:
        """SIGTERM and SIGINT stop the application; run returns with the old handlers in place."""

        def mine(*_: object) -> None: ...

        before = signal.signal(number, mine)
        try:
            broker = Signalled(number)
            run(on_order, settings=settings, broker=broker)
            assert broker.log == ["start broker", "stop broker"]
            assert signal.getsignal(number) is mine
        finally:
            signal.signal(number, before)

    def test_a_signal_ends_a_start_that_still_tries(
        self, settings: MessagingSettings, caplog: pytest.LogCaptureFixture
    ) -> None:
        """While the broker cannot be reached, the first signal gives up and returns."""

        class Waiting(Recorder):
            async def start(self) -> None:
                send(signal.SIGTERM)
                await asyncio.Event().wait()

        broker = Waiting()
        with caplog.at_level(logging.INFO):
            run(on_order, settings=settings, broker=broker)
        assert broker.log == ["stop broker"]
        assert "SIGTERM: stopping" in caplog.text
        assert "stopped before the start was complete" in caplog.text

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
    def test_a_second_signal_forces(
        self, settings: MessagingSettings, number: signal.Signals, code: int
    ) -> None:
        """A second signal cancels a stop that hangs; the exit code tells the signal."""

        class Hanging(Signalled):
            async def stop(self) -> None:
                await super().stop()
                send(number)
                await asyncio.Event().wait()

        with pytest.raises(SystemExit) as caught:
            run(on_order, settings=settings, broker=Hanging(signal.SIGTERM))
        assert caught.value.code == code

    def test_a_second_signal_forces_a_start_that_does_not_give_up(
        self, settings: MessagingSettings
    ) -> None:
        """A second signal ends the cleanup of a start that was given up."""

        class Hanging(Recorder):
            async def start(self) -> None:
                send(signal.SIGINT)
                await asyncio.Event().wait()

            async def stop(self) -> None:
                send(signal.SIGINT)
                await asyncio.Event().wait()

        with pytest.raises(SystemExit) as caught:
            run(on_order, settings=settings, broker=Hanging())
        assert caught.value.code == 130

    def test_an_error_of_the_start_is_raised_as_it_is(self, settings: MessagingSettings) -> None:
        """What the start raises comes out of run unchanged."""
        with pytest.raises(BrokerUnavailableError, match="nobody answers"):
            run(on_order, settings=settings, broker=Unreachable())

    def test_a_wrong_configuration_is_all_that_is_said(self) -> None:
        """A configuration error comes without the way that it took through this library."""
        settings = settings_of(listeners={"nobody": {"retries": 1}})
        with pytest.raises(ConfigurationError, match="matches no listener") as caught:
            run(on_order, settings=settings)
        assert [entry.name for entry in caught.traceback][1:] == ["run", "run_application"]

    def test_a_cancellation_without_a_signal_is_not_swallowed(
        self, settings: MessagingSettings
    ) -> None:
        """When something else cancels the program, run says so."""

        class Cancelling(Recorder):
            async def start(self) -> None:
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            run(on_order, settings=settings, broker=Cancelling())

    def test_where_loops_have_no_signal_handlers(
        self, settings: MessagingSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where the event loop has no signal handlers (Windows), those of Python serve."""

        def unsupported(*_: object) -> None:
            raise NotImplementedError

        monkeypatch.setattr(asyncio.SelectorEventLoop, "add_signal_handler", unsupported)
        monkeypatch.setattr(asyncio.SelectorEventLoop, "remove_signal_handler", unsupported)
        before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
        broker = Signalled(signal.SIGTERM)
        run(on_order, settings=settings, broker=broker)
        assert broker.log == ["start broker", "stop broker"]
        assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before

    async def test_inside_a_loop_it_is_refused(self) -> None:
        """run blocks: inside of an event loop it says what to use instead."""
        with pytest.raises(RuntimeError, match="use bootstrap"):
            run(on_order)

    def test_outside_of_the_main_thread_it_is_refused(self) -> None:
        """Signals reach the main thread only: elsewhere run says what to use instead."""
        refused: list[str] = []

        def program() -> None:
            try:
                run(on_order)
            except RuntimeError as error:
                refused.append(str(error))

        thread = threading.Thread(target=program)
        thread.start()
        thread.join()
        assert refused == ["run() gets its signals in the main thread only: use bootstrap() here"]


PROGRAM = '''
import asyncio
import logging
import sys
from contextlib import suppress

from pyfly_messaging import Message, MessagingError, MessagingSettings, message_listener, run
from pyfly_messaging.adapters.memory import InMemoryMessageBroker


class Broker(InMemoryMessageBroker):
    """Publishes one message when it has started, as another program would."""

    async def start(self) -> None:
        await super().start()
        self.publishing = asyncio.create_task(self._publish())

    async def stop(self) -> None:
        await super().stop()
        if "--exit" in sys.argv:
            print("kept", self.health().consumers[0].in_flight, flush=True)

    async def _publish(self) -> None:
        with suppress(MessagingError):
            await self.publish("orders", b"1")


@message_listener("orders")
async def on_order(message: Message) -> None:
    print("handling", flush=True)
    if "--hang" in sys.argv:
        await asyncio.Event().wait()
    if "--exit" in sys.argv:
        await asyncio.sleep(0)
        sys.exit(7)
    await asyncio.to_thread(sys.stdin.readline)
    print("handled", flush=True)


logging.basicConfig(level=logging.INFO, format="%(message)s")
run(on_order, settings=MessagingSettings(), broker=Broker())
print("returned", flush=True)
'''


@pytest.fixture
def program(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    yield from start_program(tmp_path)


@pytest.fixture
def hanging_program(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    yield from start_program(tmp_path, "--hang")


@pytest.fixture
def exiting_program(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    yield from start_program(tmp_path, "--exit")


def start_program(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    script = folder / "program.py"
    script.write_text(PROGRAM)
    environ = {k: v for k, v in os.environ.items() if not k.startswith("PYFLY_")}
    with subprocess.Popen(
        [sys.executable, "-W", "error", str(script), *arguments],
        cwd=folder,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        yield started
        started.kill()


def wait_for(stream: Any, text: str) -> None:
    """Read lines until one has the text; the test's own timeout is the deadline."""
    seen = []
    for line in stream:
        seen.append(line)
        if text in line:
            return
    raise AssertionError(f"{text!r} never came: {seen}")


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
class TestProcess:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_running_handler_is_drained(
        self, program: subprocess.Popen[str], number: signal.Signals
    ) -> None:
        """After the signal a handler finishes, the program goes on after run, and exits with 0."""
        wait_for(program.stdout, "handling")
        program.send_signal(number)
        wait_for(program.stderr, f"{number.name}: stopping")
        output, errors = program.communicate("\n", timeout=60)
        assert output.split() == ["handled", "returned"]
        assert program.returncode == 0, errors
        assert "Traceback" not in errors

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
    def test_a_second_signal_ends_a_handler_that_hangs(
        self, hanging_program: subprocess.Popen[str], number: signal.Signals, code: int
    ) -> None:
        """A second signal cancels the handler; the program ends at once with 128 + the signal."""
        wait_for(hanging_program.stdout, "handling")
        hanging_program.send_signal(number)
        wait_for(hanging_program.stderr, f"{number.name}: stopping")
        hanging_program.send_signal(number)
        output, errors = hanging_program.communicate(timeout=60)
        assert output == ""
        assert hanging_program.returncode == code, errors
        assert "Traceback" not in errors

    def test_a_handler_that_ends_the_program(self, exiting_program: subprocess.Popen[str]) -> None:
        """sys.exit() in a handler stops in order, keeps its message and gives the exit code."""
        output, errors = exiting_program.communicate(timeout=60)
        assert output.splitlines() == ["handling", "kept 1"]
        assert exiting_program.returncode == 7, errors
        assert "Task was destroyed" not in errors
