"""`build_broker`: every provider gives its adapter, and what is missing is named."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyfly_messaging import (
    ConfigurationError,
    ListenerPolicy,
    MessageBrokerPort,
    MessagingSettings,
    build_broker,
)
from pyfly_messaging.adapters.kafka import KafkaAdapter
from pyfly_messaging.adapters.memory import InMemoryMessageBroker
from pyfly_messaging.adapters.rabbitmq import RabbitMQAdapter
from pyfly_messaging.errors import MissingDependencyError, TopologyError
from pyfly_messaging.factory import detect
from pyfly_messaging.policy import Timeouts
from pyfly_messaging.ports import AppliesPolicies, PublishesBatches, ReportsHealth
from pyfly_messaging.settings import isolated
from tests.examples.distribution import install

ADAPTERS: dict[str, type[object]] = {
    "memory": InMemoryMessageBroker,
    "kafka": KafkaAdapter,
    "rabbitmq": RabbitMQAdapter,
}
CLIENTS = {"aiokafka", "aio_pika"}

Only = Callable[..., None]

FAILS = """\
from pyfly_messaging.errors import TopologyError
from pyfly_messaging.settings import AdapterPlugin, Section
class Pigeon(Section):
    note: str = ""
    words: str = ""
    password: str = ""
def build(settings, **_):
    raise OSError(settings.note)
PLUGIN = AdapterPlugin(settings=Pigeon, build=build)
"""


def settings_of(**changes: Any) -> MessagingSettings:
    """Settings that the machine's environment and files have no part in."""
    with isolated():
        return MessagingSettings(**changes)


@pytest.fixture(autouse=True)
def logger_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's logger, as it was before import-linter configured logging in another test."""
    monkeypatch.setattr(logging.getLogger("pyfly_messaging"), "disabled", False)


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Only:
    """A function that lets these client libraries be the installed ones."""

    def installed(*packages: str) -> None:
        def find_spec(package: str) -> object | None:
            assert package in CLIENTS
            return object() if package in packages else None

        monkeypatch.setattr("importlib.util.find_spec", find_spec)

    return installed


@pytest.mark.parametrize("provider", ADAPTERS)
async def test_provider(provider: str) -> None:
    """Each provider gives its own adapter, which offers the port and all that goes beyond it."""
    broker = build_broker(settings_of(provider=provider))
    assert type(broker) is ADAPTERS[provider]
    for protocol in (MessageBrokerPort, AppliesPolicies, PublishesBatches, ReportsHealth):
        assert isinstance(broker, protocol)


@pytest.mark.parametrize("provider", ADAPTERS)
async def test_default_policy(provider: str) -> None:
    """The section `listener` is the policy of subscriptions that come without one."""
    broker = build_broker(settings_of(provider=provider, listener={"retries": 7}))
    assert isinstance(broker, AppliesPolicies)
    assert broker.default_policy == ListenerPolicy(retries=7)


async def test_settings_are_loaded() -> None:
    """Without settings it loads them."""
    with isolated({"PYFLY_MESSAGING__PROVIDER": "rabbitmq"}):
        assert isinstance(build_broker(), RabbitMQAdapter)


def test_unknown_provider() -> None:
    """A provider that does not exist is refused with a suggestion."""
    with isolated({"PYFLY_MESSAGING__PROVIDER": "kafak"}), pytest.raises(ConfigurationError) as e:
        build_broker()
    assert 'did you mean "kafka"?' in str(e.value)


def test_memory_warns(caplog: pytest.LogCaptureFixture) -> None:
    """The memory broker comes with a warning; the others say nothing."""
    with caplog.at_level(logging.DEBUG, "pyfly_messaging"):
        for provider in ADAPTERS:
            build_broker(settings_of(provider=provider))
    assert caplog.record_tuples == [
        ("pyfly_messaging", logging.WARNING, "provider memory: nothing outlives this process")
    ]


@pytest.mark.parametrize(
    ("packages", "provider", "reason"),
    [
        (
            ("aiokafka", "aio_pika"),
            "kafka",
            "aiokafka and aio_pika are installed, and aiokafka comes first",
        ),
        (("aiokafka",), "kafka", "aiokafka is installed"),
        (("aio_pika",), "rabbitmq", "aio_pika is installed"),
        ((), "memory", "neither aiokafka nor aio_pika is installed"),
    ],
)
def test_auto(
    only: Only,
    caplog: pytest.LogCaptureFixture,
    packages: tuple[str, ...],
    provider: str,
    reason: str,
) -> None:
    """With `auto` the first client that is installed decides, and the log says which and why."""
    only(*packages)
    settings = settings_of(provider="auto")
    with caplog.at_level(logging.INFO, "pyfly_messaging"):
        assert type(build_broker(settings)) is ADAPTERS[provider]
    told = [record.getMessage() for record in caplog.records if record.name == "pyfly_messaging"]
    assert told[0] == f"provider auto: {provider}, because {reason}"
    assert len(told) == (2 if provider == "memory" else 1)
    assert detect() == (provider, reason)


@pytest.mark.parametrize(("package", "extra"), [("aiokafka", "kafka"), ("aio_pika", "rabbitmq")])
def test_client_missing_at_the_load(only: Only, package: str, extra: str) -> None:
    """A provider whose client is missing is refused when the settings are loaded."""
    only(*CLIENTS - {package})
    with pytest.raises(ConfigurationError) as caught:
        settings_of(provider=extra)
    assert f'pip install "pyfly-messaging[{extra}]"' in str(caught.value)


@pytest.mark.parametrize(("package", "extra"), [("aiokafka", "kafka"), ("aio_pika", "rabbitmq")])
def test_client_missing_at_the_build(only: Only, package: str, extra: str) -> None:
    """A client that is missing later is named with its extra and the place that asked for it."""
    with isolated({"PYFLY_MESSAGING__PROVIDER": extra}):
        settings = MessagingSettings()
    only()
    with pytest.raises(MissingDependencyError) as caught:
        build_broker(settings)
    assert str(caught.value) == (
        f"provider {extra!r} (env PYFLY_MESSAGING__PROVIDER) needs the package {package!r}, which"
        f' is not installed: pip install "pyfly-messaging[{extra}]"'
    )
    assert (caught.value.package, caught.value.extra) == (package, extra)


def test_client_missing_for_settings_from_nowhere(only: Only) -> None:
    """Of settings that were made without a load no place is known, and none is named."""
    only()
    with pytest.raises(MissingDependencyError, match=r"^provider 'kafka' needs the package"):
        build_broker(MessagingSettings.model_construct(provider="kafka"))


class TestInstalledAdapter:
    """Adapters of others."""

    def test_build(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """An installed adapter is built from its section, the timeouts and the policy."""
        install(tmp_path, monkeypatch, {"pigeon": "PLUGIN"})
        settings = settings_of(
            provider="pigeon",
            pigeon={"loft": "roof"},
            publish_timeout=7,
            startup={"timeout": 8},
            listener={"retries": 9},
        )
        broker: Any = build_broker(settings)
        section, timeouts, policy = broker.made_with
        assert section is settings.section("pigeon")
        assert timeouts == Timeouts(publish=7, startup=8)
        assert policy == ListenerPolicy(retries=9)

    def test_without_a_load(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Settings that were made without a load build an adapter from its defaults."""
        code = (
            "from pyfly_messaging.adapters.memory import InMemoryMessageBroker as Broker\n"
            "from pyfly_messaging.settings import AdapterPlugin, MemorySettings\n"
            "PLUGIN = AdapterPlugin(settings=MemorySettings, build=Broker.from_settings)\n"
        )
        install(tmp_path, monkeypatch, {"pigeon": "PLUGIN"}, code=code)
        settings = MessagingSettings.model_construct(provider="pigeon")
        assert isinstance(build_broker(settings), InMemoryMessageBroker)

    def test_no_broker(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What an adapter builds must have the four methods of the port."""
        install(tmp_path, monkeypatch, {"plain": "PLAIN"})
        with pytest.raises(ConfigurationError) as caught:
            build_broker(settings_of(provider="plain"))
        (found,) = caught.value.diagnostics
        assert found.message == (
            "the adapter 'plain' of the distribution pigeon-post cannot be used"
        )
        assert found.label == "its build gave str, which is no MessageBrokerPort"
        assert found.origin is not None
        assert found.origin.place == "argument provider"

    def test_gone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """An adapter that is not installed any more is named."""
        with monkeypatch.context() as patch:
            install(tmp_path, patch, {"pigeon": "PLUGIN"})
            settings = settings_of(provider="pigeon", pigeon={"loft": "roof"})
        with pytest.raises(ConfigurationError, match="there is no adapter 'pigeon'"):
            build_broker(settings)

    def test_failure_of_its_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What an adapter raises while it is built names its distribution, and where it was."""
        module = install(tmp_path, monkeypatch, {"pigeon": "PLUGIN"}, code=FAILS)
        with pytest.raises(ConfigurationError) as caught:
            build_broker(settings_of(provider="pigeon", pigeon={"note": "no room"}))
        (found,) = caught.value.diagnostics
        assert (found.code, found.message) == (
            "CFG218",
            "the adapter 'pigeon' of the distribution pigeon-post cannot be used",
        )
        assert found.label == f"its build failed with OSError: no room ({module}.py:8)"
        assert caught.value.__cause__ is None

    @pytest.mark.parametrize(
        "section",
        [
            {"note": "no hunter2", "password": "hunter2"},
            {"note": "no hunter2", "words": "${DB_PASSWORD}"},
            {"note": "no amqp://app:hunter2@mq"},
        ],
    )
    def test_failure_shows_no_secret(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        section: dict[str, str],
    ) -> None:
        """An error of an adapter that repeats a secret is named without its words."""
        install(tmp_path, monkeypatch, {"pigeon": "PLUGIN"}, code=FAILS)
        lines = [f"      {key}: {value}" for key, value in section.items()]
        text = "\n".join(["pyfly:", "  messaging:", "    provider: pigeon", "    pigeon:", *lines])
        (tmp_path / "pyfly.yaml").write_text(text)
        settings = MessagingSettings.load(
            path=tmp_path / "pyfly.yaml", environ={"DB_PASSWORD": "hunter2"}
        )
        with caplog.at_level(logging.DEBUG), pytest.raises(ConfigurationError) as caught:
            build_broker(settings)
        assert "its build failed with OSError" in str(caught.value)
        assert "hunter2" not in str(caught.value) + repr(caught.value.diagnostics) + caplog.text

    def test_error_of_its_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """An adapter that raises an error of this library has said what there is to say."""
        code = FAILS.replace("OSError(settings.note)", "TopologyError('no such queue')")
        install(tmp_path, monkeypatch, {"pigeon": "PLUGIN"}, code=code)
        with pytest.raises(TopologyError, match=r"^no such queue"):
            build_broker(settings_of(provider="pigeon"))
