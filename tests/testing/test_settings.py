"""`settings_override`: a test's own configuration."""

from pathlib import Path

import pytest

from pyfly_messaging import ConfigurationError, MessagingSettings, build_broker
from pyfly_messaging.adapters.memory import InMemoryMessageBroker
from pyfly_messaging.testing import settings_override


def test_changes_are_the_settings() -> None:
    """Inside, every load yields the changes and the defaults."""
    with settings_override(
        provider="kafka",
        kafka={"client_id": "test", "bootstrap-servers": ["a:1", "b:2"], "options": {"x": None}},
        publish_timeout=0.5,
        listeners={"on-order": {"retries": 7}},
    ) as settings:
        assert settings == MessagingSettings()
        assert (settings.provider, settings.kafka.client_id) == ("kafka", "test")
        assert settings.kafka.bootstrap_servers == ("a:1", "b:2")
        assert (settings.publish_timeout, settings.shutdown.timeout) == (0.5, 30.0)
        assert settings.policy_for("on-order", "orders", {}).retries == 7


def test_machine_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the environment nor a file of the machine has a say; afterwards they have again."""
    (tmp_path / "pyfly.yaml").write_text("pyfly: {messaging: {publish-timeout: 9}}")
    (tmp_path / ".env").write_text("PYFLY_MESSAGING__KAFKA__CLIENT_ID=from-env-file\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYFLY_MESSAGING__PROVIDER", "rabbitmq")
    monkeypatch.setenv("PYFLY_MESSAGING__NONSENSE", "1")
    with settings_override() as settings:
        assert (settings.provider, settings.publish_timeout) == ("memory", 30.0)
        assert settings.kafka.client_id == "pyfly"
    monkeypatch.delenv("PYFLY_MESSAGING__NONSENSE")
    settings = MessagingSettings()
    assert (settings.provider, settings.publish_timeout) == ("rabbitmq", 9.0)


def test_override_inside_another() -> None:
    """An override inside another one begins anew, and gives back what was there."""
    with settings_override(publish_timeout=1):
        with settings_override(provider="kafka") as settings:
            assert (settings.provider, settings.publish_timeout) == ("kafka", 30.0)
        assert MessagingSettings().publish_timeout == 1.0


def test_broker_is_built_from_it() -> None:
    """What builds a broker from the settings takes these."""
    with settings_override(memory={"raise_errors": True}):
        broker = build_broker()
    assert isinstance(broker, InMemoryMessageBroker)


def test_wrong_change_is_reported() -> None:
    """A change that is no setting is reported like one in a file."""
    with pytest.raises(ConfigurationError, match="did you mean"), settings_override(providr="x"):
        pass


def test_value_that_no_file_could_hold() -> None:
    """A value that is no plain one is a TypeError."""
    with pytest.raises(TypeError), settings_override(provider=object()):
        pass


async def test_tasks_see_it() -> None:
    """What a coroutine inside loads sees it, too."""
    with settings_override(provider="rabbitmq"):
        assert await _provider() == "rabbitmq"


async def _provider() -> str:
    return MessagingSettings().provider
