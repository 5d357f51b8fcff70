"""Messages in a file of SQLite: durable, with groups, for the processes of one machine.

Every message stays in the table ``messages``. Of each group the table ``progress`` says up to which
message it has settled all, and which instance has the lease to go on from there.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, TypeVarTuple

from pydantic import Field

from pyfly_messaging.delivery import Batch, Deadline, Ledger, Reader, ReadingBroker, Route
from pyfly_messaging.errors import BrokerUnavailableError, PublishError
from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.settings import AdapterPlugin, Section
from pyfly_messaging.settings.models import types

T = TypeVar("T")
Args = TypeVarTuple("Args")
_TABLES = """
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT, value BLOB, key BLOB, headers TEXT
);
CREATE INDEX IF NOT EXISTS by_topic ON messages (topic, id);
CREATE TABLE IF NOT EXISTS progress (
    topic TEXT, name TEXT, settled INTEGER, owner TEXT, until REAL, PRIMARY KEY (topic, name)
);
"""
_INSERT = "INSERT INTO messages (topic, value, key, headers) VALUES (?, ?, ?, ?)"
_LAST = "SELECT coalesce(max(id), 0) FROM messages"
_NEXT = "SELECT id, value, key, headers FROM messages WHERE topic=? AND id>? ORDER BY id LIMIT ?"
_CLAIM = """
INSERT INTO progress VALUES (?, ?, 0, ?, ?) ON CONFLICT DO UPDATE
SET owner = excluded.owner, until = excluded.until WHERE owner = excluded.owner OR until < ?
RETURNING settled
"""
_SAVE = """
UPDATE progress SET settled = coalesce(?, settled), until = ?
WHERE topic = ? AND name = ? AND owner = ? RETURNING 1
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


class SqliteAdapter(ReadingBroker):
    """A broker whose messages are in a file."""

    def __init__(
        self, settings: SqliteSettings, *, timeouts: Timeouts, policy: ListenerPolicy
    ) -> None:
        super().__init__(timeouts=timeouts, policy=policy)
        self._settings = settings
        self._file = _File(settings.path, min(timeouts.publish, timeouts.startup))

    async def _open(self, deadline: Deadline) -> None:
        await self._file.open()

    async def _disconnect(self) -> None:
        await self._file.close()

    def _reader(self, route: Route) -> Reader:
        return _Consumer(route, self._settings, self._file)

    async def _send(
        self, topic: str, value: bytes, key: bytes | None, headers: dict[str, str] | None
    ) -> None:
        try:
            async with asyncio.timeout(self._timeouts.publish):
                await self._file.do(_INSERT, topic, value, key, json.dumps(headers or {}))
        except (BrokerUnavailableError, TimeoutError) as error:
            raise PublishError(f"not written: {error}") from error
        self._wake(topic)


class _Consumer(Reader):
    """Reads the messages of one (topic, group), as long as it has the lease."""

    def __init__(self, route: Route, settings: SqliteSettings, file: _File) -> None:
        super().__init__(route, in_flight=200, interval=settings.poll_interval)
        self._lease = settings.lease
        self._file = file
        self._owner = secrets.token_hex(8)
        self._position = 0  # the last message that was read
        self._settled: int | None = None  # the last message of the settled beginning

    async def _begin(self) -> bool:
        self._ledger, self._renewal = Ledger(), time.time() + self._lease
        if (group := self.route.group) is not None:
            self._settled = None
            claim = (self.route.topic, group, self._owner, self._renewal, time.time())
            if not (rows := await self._file.do(_CLAIM, *claim)):
                return False
            self._settled = rows[0][0]
        elif self._settled is None:  # from now on
            self._settled = (await self._file.do(_LAST))[0][0]
        self._position = self._settled
        return True

    async def _read(self, room: int) -> Batch[int] | None:
        topic = self.route.topic
        if not (rows := await self._file.do(_NEXT, topic, self._position, room)):
            return None
        tokens = [row[0] for row in rows]
        messages = [Message(topic, value, key, json.loads(text)) for _, value, key, text in rows]
        self._position = tokens[-1]
        self._ledger.take(tokens)
        return Batch(self.route, messages, tokens, self._ledger.settle)

    async def _end(self) -> None:
        await self._acknowledge(lease=0.0)

    async def _acknowledge(self, lease: float | None = None) -> bool:
        lease = self._lease if lease is None else lease
        settled = self._settled if self._ledger.prefix is None else self._ledger.prefix
        news, self._settled = settled != self._settled, settled
        now = time.time()
        if self.route.group is None or (lease and not news and now + lease * 0.7 < self._renewal):
            return True  # nothing to tell the file
        self._renewal = now + lease
        place = (self.route.topic, self.route.group, self._owner)
        return bool(await self._file.do(_SAVE, settled, self._renewal, *place))


class _File:
    """A connection in a thread of its own."""

    def __init__(self, path: str, busy: float) -> None:
        self._path, self._busy = path, busy
        self._db: sqlite3.Connection | None = None

    async def open(self) -> None:
        self._thread = ThreadPoolExecutor(1, "sqlite")
        await self._run(self._connect)

    async def close(self) -> None:
        await self._run(self._disconnect)
        self._thread.shutdown(wait=False)

    async def do(self, statement: str, *values: str | bytes | float | None) -> list[Any]:
        """Run a statement, which is a transaction; return its rows."""
        return await self._run(self._execute, statement, values)

    async def _run(self, work: Callable[[*Args], T], *args: *Args) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)
        except sqlite3.Error as error:
            raise BrokerUnavailableError(f"{self._path}: {error}", address=self._path) from error

    def _connect(self) -> None:
        self._db = sqlite3.connect(self._path, timeout=self._busy, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")  # a commit outlives a loss of power
        self._db.executescript(_TABLES)

    def _execute(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        if self._db is None:
            raise sqlite3.ProgrammingError("it is closed")
        return self._db.execute(statement, values).fetchall()

    def _disconnect(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


PLUGIN = AdapterPlugin(
    settings=SqliteSettings,
    build=SqliteAdapter,
    description="A file of SQLite, for the processes of one machine.",
)
