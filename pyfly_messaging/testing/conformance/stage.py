"""What every case stands on: brokers that are stopped afterwards, names, waits with a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, ClassVar, NoReturn, TypeVar, cast

from pyfly_messaging.delivery.ending import CANCEL_AGAIN_AFTER, end_task
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.ports import AppliesPolicies, MessageBrokerPort, MessageHandler
from pyfly_messaging.testing.conformance.capabilities import Capabilities
from pyfly_messaging.testing.conformance.made_broker import check_broker
from pyfly_messaging.testing.conformance.probe import Probe
from pyfly_messaging.testing.conformance.stacks import stacks

T = TypeVar("T")

QUICK = ListenerPolicy(retries=2, retry_delay=0.01, retry_max_delay=0.05, retry_jitter=0.0)
"""The policy of the kit's brokers where a case does not ask for another."""

ENDS = "the text of a handler's exception has ended the event loop"
"""What the kit's exceptions say that end a program; such an end is a failed case."""

_OF_A_CASE = ("_brokers", "_publishes", "_gates")

_TAKEN = "publish to return (does it wait for handlers? Then the suite claims settles_on_publish)"

_names = itertools.count(1)


class HandlerError(Exception):
    """What the kit's handlers raise."""


class Stage:
    """The base of all cases, and what an adapter's suite fills in.

    Attributes:
        capabilities: What the adapter claims.
        deadline: Seconds for each wait, and for publish, start and stop of the brokers.

    """

    capabilities: ClassVar[Capabilities] = Capabilities()
    deadline: ClassVar[float] = 30.0

    _brokers: list[MessageBrokerPort]
    _publishes: list[asyncio.Task[None]]
    _gates: list[asyncio.Event]

    def __getstate__(self) -> dict[str, object]:
        """Return what the suite is in another process: all but what a running case has."""
        return {name: value for name, value in vars(self).items() if name not in _OF_A_CASE}

    def make_broker(self, *, policy: ListenerPolicy, timeouts: Timeouts) -> MessageBrokerPort:
        """Return a new broker, not started; every call is another instance.

        Args:
            policy: Of subscriptions that come without one.
            timeouts: Of publish, start and stop.

        """
        __tracebackhide__ = True
        raise NotImplementedError(_absent(self, "make_broker"))

    def make_unreachable_broker(
        self, *, policy: ListenerPolicy, timeouts: Timeouts
    ) -> MessageBrokerPort:
        """Return a broker at an address where nobody answers; for ``unreachable``."""
        __tracebackhide__ = True
        raise NotImplementedError(_absent(self, "make_unreachable_broker"))

    async def publish_foreign(
        self, topic: str, value: bytes | None, headers: Mapping[str, bytes]
    ) -> None:
        """Publish with the client library alone, as a stranger would; for ``foreign``.

        ``value`` is None for a tombstone, where the broker has such a thing.
        """
        __tracebackhide__ = True
        raise NotImplementedError(_absent(self, "publish_foreign"))

    async def break_connection(self) -> None:
        """Cut the broker off, until `restore`; for ``reconnects``."""
        __tracebackhide__ = True
        raise NotImplementedError(_absent(self, "break_connection"))

    async def restore(self) -> None:
        """Let the broker be reached again; for ``reconnects``."""
        __tracebackhide__ = True
        raise NotImplementedError(_absent(self, "restore"))

    def play(self, case: Coroutine[Any, Any, None], limit: float) -> None:
        """Run a case to its end, in an event loop of its own."""
        __tracebackhide__ = True
        try:
            with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
                runner.run(self._play(case, limit))
        except (SystemExit, KeyboardInterrupt) as end:
            if end.args != (ENDS,):
                raise
            raise AssertionError(f"{type(end).__name__}: {ENDS}") from end

    async def _play(self, case: Coroutine[Any, Any, None], limit: float) -> None:
        __tracebackhide__ = True
        self._brokers, self._publishes, self._gates = [], [], []
        try:
            await self.within(case, "the end of the case", limit)
        except BaseException:
            await self._strike()
            # The end of the event loop would wait for ever for one that swallows a cancellation.
            await end_task(*_others())
            raise
        for result in await self._strike():
            if isinstance(result, BaseException):
                raise result
        await self._no_task_left()

    async def _strike(self) -> list[BaseException | None]:
        """End what the case began; return what became of each broker's stop."""
        for gate in self._gates:
            gate.set()
        stops = (self.stop(broker) for broker in self._brokers)
        results = await asyncio.gather(*stops, return_exceptions=True)
        endless = await end_task(*self._publishes)
        ended = (publish for publish in self._publishes if publish not in endless)
        await asyncio.gather(*ended, return_exceptions=True)
        return results

    async def _no_task_left(self) -> None:
        """Check that all has ended that ran in this event loop.

        Raises:
            AssertionError: A task still runs after the deadline; it says which, and a note where.

        """
        __tracebackhide__ = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.deadline):
                while _others():
                    await asyncio.sleep(0.01)
        if left := _others():
            names = ", ".join(sorted(f"{task.get_name()}: {task.get_coro()}" for task in left))
            error = AssertionError(f"all brokers are stopped, and left behind: task {names}")
            error.add_note(stacks(left))
            await end_task(*left)
            raise error

    def broker(
        self, policy: ListenerPolicy = QUICK, *, shutdown: float | None = None
    ) -> MessageBrokerPort:
        """Return a new broker that is stopped after the case."""
        __tracebackhide__ = True
        timeouts = Timeouts(
            publish=self.deadline, startup=self.deadline, shutdown=shutdown or self.deadline
        )
        return self.taken(self.make_broker(policy=policy, timeouts=timeouts))

    def taken(self, broker: MessageBrokerPort) -> MessageBrokerPort:
        """Check a broker that the suite has made, and have it stopped after the case."""
        __tracebackhide__ = True
        check_broker(type(self).__name__, broker, self._brokers)
        self._brokers.append(broker)
        return broker

    def name(self, what: str = "kit") -> str:
        """Return a name for a topic or group that nobody else uses."""
        return f"{what}-{secrets.token_hex(4)}-{next(_names)}"

    def probe(self, then: Callable[[Message], Awaitable[object]] | None = None) -> Probe:
        """Return a handler that notes what it is given."""
        return Probe(then, deadline=self.deadline)

    def gate(self) -> asyncio.Event:
        """Return an event that holds handlers, and that is set after the case at the latest."""
        gate = asyncio.Event()
        self._gates.append(gate)
        return gate

    async def listening(
        self,
        then: Callable[[Message], Awaitable[object]] | None = None,
        *,
        policy: ListenerPolicy = QUICK,
        topic: str | None = None,
        group: str | None = None,
        shutdown: float | None = None,
    ) -> tuple[MessageBrokerPort, str, Probe]:
        """Return a started broker, a topic, and the handler that listens there in a named group."""
        __tracebackhide__ = True
        broker, probe = self.broker(policy, shutdown=shutdown), self.probe(then)
        topic = topic or self.name()
        await broker.subscribe(topic, probe, group or self.name("group"))
        await self.start(broker)
        return broker, topic, probe

    async def burying(
        self,
        then: Callable[[Message], Awaitable[object]],
        *,
        policy: ListenerPolicy = QUICK,
        group: str | None = None,
    ) -> tuple[MessageBrokerPort, str, Probe, Probe]:
        """Return what `listening` does, and the handler that gets the dead letters."""
        __tracebackhide__ = True
        broker, topic = self.broker(policy), self.name()
        probe, letters = self.probe(then), self.probe()
        await broker.subscribe(topic, probe, group or self.name("group"))
        target = policy.dead_letter_topic_for(topic)
        if target is not None:
            await broker.subscribe(target, letters, self.name("letters"))
        await self.start(broker)
        return broker, topic, probe, letters

    async def listen(
        self,
        broker: MessageBrokerPort,
        topic: str,
        handler: MessageHandler,
        group: str | None = None,
        *,
        policy: ListenerPolicy | None = None,
        name: str | None = None,
    ) -> None:
        """Subscribe with a policy or a name; for ``policies``."""
        __tracebackhide__ = True
        applies = cast("AppliesPolicies", broker)
        await applies.subscribe(topic, handler, group, policy=policy, name=name)

    async def hand_over(
        self, broker: MessageBrokerPort, topic: str, *values: bytes, key: bytes | None = b"key"
    ) -> None:
        """Publish one value after the other, for handlers that will wait.

        Returns when the broker has them. Where a publish waits for the handlers (capability
        ``settles_on_publish``) it goes on in a task of its own.
        """
        __tracebackhide__ = True
        for value in values:
            publish = asyncio.create_task(broker.publish(topic, value, key=key))
            self._publishes.append(publish)
            if self.capabilities.settles_on_publish:
                await turns()
            else:
                await self.within(publish, _TAKEN)

    async def start(self, broker: MessageBrokerPort) -> None:
        """Start a broker; fail when it hangs."""
        __tracebackhide__ = True
        await self.within(broker.start(), "start() to return", 2 * self.deadline)

    async def stop(self, broker: MessageBrokerPort) -> None:
        """Stop a broker; fail when it hangs."""
        __tracebackhide__ = True
        await self.within(broker.stop(), "stop() to return", 2 * self.deadline)

    async def within(self, step: Awaitable[T], what: str, seconds: float | None = None) -> T:
        """Return what a step returns.

        Raises:
            AssertionError: It is not over within ``seconds``, by default the suite's deadline. A
                note says where each task waits.

        """
        __tracebackhide__ = True
        limit = _Limit(seconds or self.deadline)
        try:
            with limit:
                result = await step
        except asyncio.CancelledError:
            if not limit.is_over:
                raise
        else:
            if not limit.is_over:
                return result
        error = AssertionError(f"waited {limit.seconds:g} s for {what}")
        error.add_note(limit.stacks)
        raise error


class _Limit:
    """Cancels the current task when the time is over, and again each second while it goes on.

    ``asyncio.timeout`` cancels once, and waits for ever for a step that swallows that.

    Attributes:
        seconds: The time.
        is_over: Whether it was over before the end.
        stacks: Where each task waited when it was over.

    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.is_over = False
        self.stacks = ""
        self._cancelled = 0

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - it is awaited in one
        self._task = task
        self._timer = asyncio.get_running_loop().call_later(self.seconds, self._expire)

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        for _number in range(self._cancelled):
            self._task.uncancel()

    def _expire(self) -> None:
        if not self.is_over:
            self.is_over = True
            self.stacks = stacks()  # before the cancellation, which unwinds them
        self._cancelled += 1
        self._task.cancel()
        self._timer = asyncio.get_running_loop().call_later(CANCEL_AGAIN_AFTER, self._expire)


def _others() -> set[asyncio.Task[Any]]:
    """Return the tasks of this event loop, without the current one."""
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


def _absent(suite: Stage, method: str) -> str:
    return f"{type(suite).__name__} has no {method}; docs/writing-an-adapter.md shows one"


async def fail(message: Message) -> NoReturn:
    """Fail, whatever the message is."""
    raise HandlerError(f"no use for {message.value[:40]!r}")


async def turns(count: int = 20) -> None:
    """Let everything that is ready run, ``count`` times over."""
    for _ in range(count):
        await asyncio.sleep(0)
