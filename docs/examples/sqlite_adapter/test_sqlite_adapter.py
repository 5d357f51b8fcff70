"""The contract on SQLite."""

from pathlib import Path

import pytest
from sqlite_adapter import SqliteAdapter, SqliteSettings

from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.testing.conformance import Capabilities, ConformanceSuite


class TestSqlite(ConformanceSuite):
    """All cases; each broker is another instance on the same file."""

    capabilities = Capabilities(
        redelivers=True,
        durable=True,
        groups_across_instances=True,
        broadcast=True,
        backlog_for_named_groups=True,
        key_order=True,
        topic_order=True,
        policies=True,
        batches=True,
        health=True,
        unreachable=True,
    )

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "messages.db"

    def make_broker(self, *, policy: ListenerPolicy, timeouts: Timeouts) -> SqliteAdapter:
        settings = SqliteSettings(path=str(self.path), poll_interval=0.01)
        return SqliteAdapter(settings, policy=policy, timeouts=timeouts)

    def make_unreachable_broker(
        self, *, policy: ListenerPolicy, timeouts: Timeouts
    ) -> SqliteAdapter:
        settings = SqliteSettings(path=str(self.path.parent / "missing" / "messages.db"))
        return SqliteAdapter(settings, policy=policy, timeouts=timeouts)
