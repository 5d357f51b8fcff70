"""Messages in a file of SQLite: durable, with groups, for the processes of one machine.

Every message stays in the table ``messages``. Of each group the table ``progress`` says up to which
message it has settled all, and which instance has the lease to go on from there. That instance
hands the messages to `pyfly_messaging.delivery`, which runs the handlers; the others stand by.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, TypeVarTuple

from pydantic import Field

from pyfly_messaging.delivery import (
    Batch,
    Deadline,
    Lanes,
    Ledger,
    Lifecycle,
    Registry,
    Route,
    Subscription,
    close_within,
    lanes_for,
)
from pyfly_messaging.errors import (
    BrokerUnavailableError,
    NotStartedError,
    PublishError,
)
from pyfly_messaging.message import Message, check_message
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.ports import MessageHandler
from pyfly_messaging.settings import AdapterPlugin, Section
from pyfly_messaging.settings.models import types

logger = logging.getLogger("sqlite_adapter")

T = TypeVar("T")
Args = TypeVarTuple("Args")
_IN_FLIGHT = 200  # messages that a listener holds, unsettled, at most
_TABLES = """
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT, value BLOB, key BLOB, headers TEXT
);
CREATE INDEX IF NOT EXISTS by_topic ON messages (topic, id);
CREATE TABLE IF NOT EXISTS progress (
    topic TEXT, name TEXT, settled INTEGER, owner TEXT, until REAL, PRIMARY KEY (topic, name)
);
"""


class SqliteSettings(Section):
    """A file of SQLite, for the processes of one machine. Durations are seconds."""

    path: str = Field(default="messages.db", description="The file; its folder must exist.")
    poll_interval: types.Deadline = Field(
        default=0.05, description="How often to look for messages of other processes."
    )
    lease: types.Deadline = Field(
        default=10.0, description="When others take over the groups of a process that crashed."
    )


class SqliteAdapter:
    """A broker whose messages are in a file.

    Args:
        settings: Where, and how often to look.
        timeouts: The deadlines of publish, start and stop, in seconds.
        policy: The policy of subscriptions that come without one.

    """

    def __init__(
        self,
        settings: SqliteSettings,
        *,
        timeouts: Timeouts | None = None,
        policy: ListenerPolicy | None = None,
    ) -> None:
        self.default_policy = policy or ListenerPolicy()
        self._settings = settings
        self._timeouts = timeouts or Timeouts()
        self._registry = Registry(self._bury)
        self._lifecycle = Lifecycle(self._open, self._close)
        self._consumers: list[_Consumer] = []
        self._file: _File | None = None
        self._started = False

    async def publish(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Return when the message is in the file; see `MessageBrokerPort.publish`."""
        check_message(topic, value, key, headers)
        await self._append(Message(topic, value, key, headers or {}))

    async def subscribe(
        self,
        topic: str,
        handler: MessageHandler,
        group: str | None = None,
        *,
        policy: ListenerPolicy | None = None,
        name: str | None = None,
    ) -> None:
        """Register a handler; see `AppliesPolicies.subscribe`."""
        policy = policy or self.default_policy
        subscription = Subscription.of(topic, handler, group, policy=policy, name=name)
        route, new = self._registry.add(subscription)
        if not new:
            return
        consumer = _Consumer(route, self._settings)
        self._consumers.append(consumer)  # first: a stop that comes now has to know it
        if self._started and self._file is not None:
            try:
                await consumer.start(self._file)
            except BaseException as error:
                self._registry.remove(subscription)
                self._consumers.remove(consumer)
                if isinstance(error, sqlite3.Error):
                    raise self._unavailable(error) from error
                raise

    async def start(self) -> None:
        """Open the file and begin to consume."""
        await self._lifecycle.start()

    async def stop(self) -> None:
        """Let running handlers finish within the shutdown timeout, then close the file."""
        await self._lifecycle.stop()

    async def _open(self) -> None:
        self._file = _File(self._settings.path, busy=self._timeouts.publish)
        try:
            async with asyncio.timeout(self._timeouts.startup):
                await self._file.open()
                for consumer in self._consumers:  # those that come meanwhile are met, too
                    await consumer.start(self._file)
        except (sqlite3.Error, TimeoutError) as error:
            raise self._unavailable(error) from error
        self._started = True

    async def _close(self) -> None:
        await close_within(self._timeouts.shutdown, self._release)

    async def _release(self, deadline: Deadline, caller: asyncio.Task[Any] | None) -> None:
        await asyncio.gather(*(consumer.stop(deadline, caller) for consumer in self._consumers))
        self._started = False  # not before: handlers that were finishing may publish
        if self._file is not None:
            await self._file.close()
            self._file = None

    def _unavailable(self, error: Exception) -> BrokerUnavailableError:
        path = self._settings.path
        return BrokerUnavailableError(f"cannot use the file {path}: {error}", address=path)

    async def _bury(self, letter: Message, error: BaseException) -> None:
        await self._append(letter)

    async def _append(self, message: Message) -> None:
        if not self._started or self._file is None:
            raise NotStartedError
        try:
            async with asyncio.timeout(self._timeouts.publish):
                await self._file.do(_insert, message)
        except (sqlite3.Error, TimeoutError) as error:
            raise PublishError(f"not written to {self._settings.path}: {error}") from error
        for consumer in self._consumers:
            if consumer.route.topic == message.topic:
                consumer.news.set()


class _Consumer:
    """Hands the messages of one (topic, group) to its handlers, as long as it has the lease."""

    def __init__(self, route: Route, settings: SqliteSettings) -> None:
        self.route = route
        self.news = asyncio.Event()  # something was published, or everything is settled
        self._settings = settings
        self._owner = secrets.token_hex(8)
        self._settled: int | None = None  # the last message of the settled beginning
        self._renewal = 0.0  # when the lease is due
        self._ledger = Ledger()
        self._lanes: Lanes | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, file: _File) -> None:
        """Begin; without a group, with what is published from now on."""
        self._file = file
        if self.route.group is None and self._settled is None:
            self._settled = await file.do(_last)
        self._task = asyncio.create_task(self._run(), name=f"sqlite {self.route.name}")

    async def stop(self, deadline: Deadline, caller: asyncio.Task[Any] | None) -> None:
        """Take in nothing more, drain, and leave the rest to whoever comes next."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait({self._task})
        if self._lanes is not None:
            await self._lanes.drain(deadline, caller=caller)
        try:
            await self._save(lease=0.0)
        except sqlite3.Error as error:  # what is settled comes again
            logger.warning("listener %s: progress not saved: %s", self.route.name, error)
        self._task = None

    async def _run(self) -> None:
        while True:
            try:
                position = await self._claim()
                if position is not None:
                    await self._consume(position)
            except sqlite3.Error as error:
                logger.warning("listener %s: trying again after: %s", self.route.name, error)
            await self._wait()

    async def _consume(self, position: int) -> None:
        """Feed lanes, until another instance has the lease or the file cannot be used."""
        route, ledger = self.route, self._ledger
        self._lanes = lanes = lanes_for(route.name, route.concurrency, self.news.set)
        try:
            while await self._save(lease=self._settings.lease):
                room = _IN_FLIGHT - lanes.in_flight
                if messages := await self._file.do(_after, route.topic, position, room):
                    position = max(messages)
                    ledger.take(messages)
                    lanes.submit(Batch(route, [*messages.values()], [*messages], ledger.settle))
                await self._wait()
        except sqlite3.Error:
            await lanes.drain(0)
            raise
        await lanes.drain(0)

    async def _claim(self) -> int | None:
        """Return where to go on, or None while another instance has the lease."""
        self._ledger = Ledger()  # first: a stop that comes now must not save the old one again
        if self.route.group is None:
            return self._settled
        self._settled, now = None, time.time()
        until = self._renewal = now + self._settings.lease
        place = (self.route.topic, self.route.group)
        return await self._file.do(_claim, place, self._owner, now, until)

    async def _save(self, *, lease: float) -> bool:
        """Save what is settled; tell whether the lease is still there. Seldom needs the file."""
        settled = self._settled if self._ledger.prefix is None else self._ledger.prefix
        news, self._settled = settled != self._settled, settled
        if self.route.group is None:
            return True
        now = time.time()
        if lease and not news and now + lease * 0.7 < self._renewal:
            return True
        self._renewal = now + lease
        place = (self.route.topic, self.route.group)
        return await self._file.do(_save, place, self._owner, settled, self._renewal)

    async def _wait(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.poll_interval):
                await self.news.wait()
        self.news.clear()


class _File:
    """A connection in a thread of its own, one transaction after the other."""

    def __init__(self, path: str, *, busy: float) -> None:
        self._path = path
        self._busy = busy
        self._thread = ThreadPoolExecutor(1, "sqlite")
        self._db: sqlite3.Connection | None = None

    async def open(self) -> None:
        await self._run(self._connect)

    async def close(self) -> None:
        await self._run(self._disconnect)
        self._thread.shutdown(wait=False)

    async def do(self, work: Callable[[sqlite3.Connection, *Args], T], *args: *Args) -> T:
        """Run ``work`` in a transaction."""

        def transaction() -> T:
            db = self._db
            if db is None:
                raise sqlite3.ProgrammingError("the file is closed")
            db.execute("BEGIN IMMEDIATE")
            with db:  # commits, or rolls back
                return work(db, *args)

        return await self._run(transaction)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _connect(self) -> None:
        self._db = sqlite3.connect(self._path, timeout=self._busy, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")  # a commit outlives a loss of power
        self._db.executescript(_TABLES)

    def _disconnect(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


def _insert(db: sqlite3.Connection, message: Message) -> None:
    row = (message.topic, message.value, message.key, json.dumps(message.headers))
    db.execute("INSERT INTO messages (topic, value, key, headers) VALUES (?, ?, ?, ?)", row)


def _last(db: sqlite3.Connection) -> int:
    (last,) = db.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()
    return int(last)


def _after(db: sqlite3.Connection, topic: str, position: int, limit: int) -> dict[int, Message]:
    rows = db.execute(
        "SELECT id, value, key, headers FROM messages WHERE topic = ? AND id > ?"
        " ORDER BY id LIMIT ?",
        (topic, position, limit),
    )
    return {
        number: Message(topic, value, key, json.loads(text)) for number, value, key, text in rows
    }


def _claim(
    db: sqlite3.Connection, place: tuple[str, str], owner: str, now: float, until: float
) -> int | None:
    db.execute("INSERT OR IGNORE INTO progress VALUES (?, ?, 0, '', 0)", place)
    claimed = db.execute(
        "UPDATE progress SET owner = ?, until = ?"
        " WHERE topic = ? AND name = ? AND (owner = ? OR until < ?)",
        (owner, until, *place, owner, now),
    )
    if not claimed.rowcount:
        return None
    find = "SELECT settled FROM progress WHERE topic = ? AND name = ?"
    return int(db.execute(find, place).fetchone()[0])


def _save(
    db: sqlite3.Connection, place: tuple[str, str], owner: str, settled: int | None, until: float
) -> bool:
    saved = db.execute(
        "UPDATE progress SET settled = coalesce(?, settled), until = ?"
        " WHERE topic = ? AND name = ? AND owner = ?",
        (settled, until, *place, owner),
    )
    return bool(saved.rowcount)


PLUGIN = AdapterPlugin(
    settings=SqliteSettings,
    build=SqliteAdapter,
    description="A file of SQLite, for the processes of one machine.",
)
