"""The adapter of the guide: installed, it is a provider like ours, and it keeps the contract."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from ruamel.yaml import YAML

from pyfly_messaging import (
    ConfigurationError,
    Message,
    MessagingSettings,
    bootstrap,
    build_broker,
    message_listener,
)
from pyfly_messaging.errors import BrokerUnavailableError
from pyfly_messaging.settings import isolated
from pyfly_messaging.settings.views.explain import explain
from pyfly_messaging.settings.views.schema import json_schema
from pyfly_messaging.settings.views.show import effective_values
from tests.examples.distribution import describe

EXAMPLE = Path(__file__).parent.parent.parent / "docs" / "examples" / "sqlite_adapter"

YAML_TEXT = """\
pyfly:
  messaging:
    provider: sqlite
    listener: {retries: 0}
    sqlite:
      path: shop.db
      poll-interval: 5ms
      lease: 300ms
"""

CRASHING = """\
import asyncio, os
from pyfly_messaging import build_broker

async def handle(message):
    print(message.value.decode(), flush=True)
    if message.value == b"2":
        os._exit(9)

async def main():
    broker = build_broker()
    await broker.start()
    for value in (b"1", b"2", b"3"):
        await broker.publish("orders", value, key=b"key")
    await broker.subscribe("orders", handle, "billing")
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the metadata that an installation of the example would have."""
    folder = tmp_path_factory.mktemp("site")
    with (EXAMPLE / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    points = project["entry-points"]["pyfly_messaging.adapters"]
    describe(folder, project["name"], "".join(f"{name} = {at}\n" for name, at in points.items()))
    return folder


@pytest.fixture
def sqlite(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example looks installed."""
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.syspath_prepend(str(EXAMPLE))
    yield
    sys.modules.pop("sqlite_adapter", None)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, with a file that chooses the adapter."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "pyfly.yaml"
    path.write_text(YAML_TEXT)
    return path


def environment(site: Path) -> dict[str, str]:
    """The environment of a process that has the example installed."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYFLY_")}
    return environ | {"PYTHONPATH": os.pathsep.join([str(site), str(EXAMPLE)])}


@pytest.mark.slow
def test_kit(site: Path, tmp_path: Path) -> None:
    """The example passes the conformance kit with what it claims, its test file as it stands."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", EXAMPLE, "--timeout=250"],
        cwd=tmp_path,
        env=environment(site),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counted = re.search(r"^conformance: Sqlite: (\d+) passed, (\d+) not claimed", done.stdout, re.M)
    assert counted, done.stdout
    assert int(counted[1]) >= 110
    assert "500 received, 0 lost, 0 duplicated" in done.stdout


@pytest.mark.usefixtures("sqlite")
class TestProvider:
    """The provider `sqlite` beside ours."""

    async def test_yaml(self, folder: Path) -> None:
        """A file chooses and configures the adapter, and messages go through it."""
        heard: asyncio.Queue[Message] = asyncio.Queue()

        @message_listener("orders", group="billing")
        async def on_order(message: Message) -> None:
            await heard.put(message)

        with isolated(path=folder):
            async with bootstrap(on_order) as broker:
                assert type(broker).__name__ == "SqliteAdapter"
                await broker.publish("orders", b"1", key=b"key", headers={"a": "b"})
                message = await asyncio.wait_for(heard.get(), 30)
        assert message == Message("orders", b"1", b"key", {"a": "b"})
        assert (folder.parent / "shop.db").exists()

    def test_environment(self, folder: Path) -> None:
        """Variables win over the file, in the units of ours."""
        environ = {
            "PYFLY_MESSAGING__SQLITE__PATH": "other.db",
            "PYFLY_MESSAGING__SQLITE__LEASE": "2m",
        }
        with isolated(environ, path=folder):
            settings = MessagingSettings()
        model = importlib.import_module("sqlite_adapter").SqliteSettings
        section: Any = settings.section(model)
        assert (section.path, section.poll_interval, section.lease) == ("other.db", 0.005, 120.0)
        assert str(settings.origin("sqlite.path")) == "env PYFLY_MESSAGING__SQLITE__PATH"

    def test_mistakes(self, folder: Path) -> None:
        """A mistake is reported at its place, with a suggestion."""
        folder.write_text(YAML_TEXT.replace("poll-interval: 5ms", "pol-interval: 5ms"))
        with isolated(path=folder), pytest.raises(ConfigurationError) as caught:
            MessagingSettings()
        (found,) = caught.value.diagnostics
        assert found.origin is not None
        assert (found.origin.line, found.origin.column) == (7, 7)
        assert found.help == 'did you mean "poll-interval"?'

    def test_explain_and_show(self, folder: Path) -> None:
        """Its settings are explained and shown with their units, and ours are beside them."""
        with isolated(path=folder):
            settings = MessagingSettings()
        explained = explain("sqlite.poll-interval", settings)
        assert (explained.type, explained.default, explained.current) == ("duration", "50ms", "5ms")
        assert explained.origin.endswith("pyfly.yaml:7:22")
        values = {value.setting: value.text for value in effective_values(settings)}
        assert values["sqlite.path"] == '"shop.db"'
        assert values["listener.retries"] == "0"

    def test_schema(self) -> None:
        """An editor completes and checks its section."""
        validator = Draft7Validator(json_schema())
        yaml = YAML(typ="safe", pure=True)
        assert not list(validator.iter_errors(yaml.load(YAML_TEXT)))
        assert list(validator.iter_errors(yaml.load(YAML_TEXT.replace("path:", "pth:"))))

    async def test_no_folder(self, tmp_path: Path) -> None:
        """A file that cannot be made is a `BrokerUnavailableError` that names it."""
        path = str(tmp_path / "missing" / "shop.db")
        with isolated():
            broker = build_broker(MessagingSettings(provider="sqlite", sqlite={"path": path}))
        with pytest.raises(BrokerUnavailableError, match=re.escape(path)) as caught:
            await broker.start()
        assert isinstance(caught.value.__cause__, sqlite3.Error)

    async def test_subscribe_that_fails(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A subscribe that fails on a running broker leaves nothing, and can be repeated."""
        heard: asyncio.Queue[bytes] = asyncio.Queue()

        async def handle(message: Message) -> None:
            await heard.put(message.value)

        with isolated(path=folder):
            broker = build_broker()
        await broker.start()
        with monkeypatch.context() as patch:
            patch.setattr(sys.modules["sqlite_adapter"], "_LAST", "SELECT id FROM missing")
            with pytest.raises(BrokerUnavailableError, match="no such table: missing"):
                await broker.subscribe("orders", handle)
        await broker.subscribe("orders", handle)
        await broker.publish("orders", b"1")
        assert await asyncio.wait_for(heard.get(), 30) == b"1"
        await broker.stop()

    async def test_crash(self, folder: Path, site: Path) -> None:
        """What a process had not settled when it died goes to the next one, in order."""
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", CRASHING],
            cwd=folder.parent,
            env=environment(site),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stdout.split()) == (9, ["1", "2"]), done.stderr
        heard: asyncio.Queue[bytes] = asyncio.Queue()

        async def handle(message: Message) -> None:
            await heard.put(message.value)

        with isolated(path=folder):
            broker = build_broker()
        await broker.subscribe("orders", handle, "billing")
        await broker.start()
        values = [await asyncio.wait_for(heard.get(), 30)]
        while values[-1] != b"3":
            values.append(await asyncio.wait_for(heard.get(), 30))
        await broker.stop()
        assert values[-2:] == [b"2", b"3"]
        assert values in ([b"2", b"3"], [b"1", b"2", b"3"])
