"""Deprecations, on a model that has some: the old name works, warns, and says what to use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from pyfly_messaging.errors import ConfigurationError
from pyfly_messaging.settings import Deprecation, MessagingSettings
from pyfly_messaging.settings.views.explain import explain, render_explanation
from pyfly_messaging.settings.views.reference import reference_yaml
from pyfly_messaging.settings.views.schema import json_schema
from pyfly_messaging.settings.views.show import effective_values
from tests.settings.corpus import below_messaging

RENAMED = Deprecation(
    reason="it is a client's name, not an application's",
    since="0.2",
    replacement="kafka.client-id",
)
IDLE = Deprecation(reason="nothing needs it any more", since="0.3")
GONE = Deprecation(
    reason="brokers are named by their addresses",
    since="0.4",
    replacement="kafka.bootstrap-servers",
    level="error",
)


class OldSettings(MessagingSettings):
    """Settings with three fields that should no longer be used."""

    app_name: Annotated[str | None, RENAMED] = None
    threads: Annotated[int, IDLE] = Field(default=1)
    brokers: Annotated[str | None, GONE] = None


def load(folder: Path, body: str, **environ: str) -> OldSettings:
    """Load a file and variables."""
    (folder / "pyfly.yaml").write_text(below_messaging(body))
    variables = {f"PYFLY_MESSAGING__{name}": value for name, value in environ.items()}
    return OldSettings.load(environ=variables, provider="kafka")


def test_the_old_name_works(folder: Path) -> None:
    """The value is moved to the new name; the warning has its place and the replacement."""
    settings = load(folder, "app-name: shop")
    assert settings.kafka.client_id == "shop"
    assert settings.app_name is None
    assert str(settings.origin("kafka.client-id")) == "pyfly.yaml:3:15"
    (note,) = settings.notes
    assert (note.code, note.severity, str(note.origin)) == ("CFG120", "warning", "pyfly.yaml:3:15")
    assert note.message == "pyfly.messaging.app-name is deprecated since 0.2"
    assert note.label == RENAMED.reason
    assert note.help == "use pyfly.messaging.kafka.client-id"


def test_in_the_environment(folder: Path) -> None:
    """The old name works as a variable, and has the rank of the environment."""
    settings = load(folder, "kafka: {client-id: file}", APP_NAME="variable")
    assert settings.kafka.client_id == "variable"
    assert [note.code for note in settings.notes] == ["CFG120"]


def test_the_new_name_wins(folder: Path) -> None:
    """Where both names are given in one place, the new one counts, and the old one still warns."""
    for body in (
        "app-name: old\nkafka: {client-id: new}",
        "kafka: {client-id: new}\napp-name: old",
    ):
        settings = load(folder, body)
        assert settings.kafka.client_id == "new"
        assert [note.code for note in settings.notes] == ["CFG120"]


def test_without_a_replacement(folder: Path) -> None:
    """A setting without a replacement keeps its value."""
    settings = load(folder, "threads: 4")
    assert settings.threads == 4
    assert settings.notes[0].help == "remove it"


def test_removed(folder: Path) -> None:
    """A removed setting is refused, with what to use instead."""
    with pytest.raises(ConfigurationError) as caught:
        load(folder, "brokers: a:1")
    (found,) = caught.value.diagnostics
    assert (found.code, str(found.origin)) == ("CFG121", "pyfly.yaml:3:14")
    assert found.help == "use pyfly.messaging.kafka.bootstrap-servers"


def test_in_the_tools(folder: Path) -> None:
    """`explain` says it, the schema marks it, the others leave it out."""
    text = render_explanation(explain("app-name", settings_cls=OldSettings))
    assert (
        "deprecated  it is a client's name, not an application's (since 0.2); "
        "use pyfly.messaging.kafka.client-id"
    ) in text
    section = json_schema(OldSettings)["properties"]["pyfly"]["properties"]["messaging"]
    assert section["properties"]["app-name"]["deprecated"] is True
    assert "app-name" not in reference_yaml(settings_cls=OldSettings)
    names = {value.setting for value in effective_values(load(folder, "provider: kafka"))}
    assert "app-name" not in names
    assert "app-name" not in dict(explain("", settings_cls=OldSettings).children)


def test_never_suggested(folder: Path) -> None:
    """Nobody is led to a setting that should no longer be used."""
    with pytest.raises(ConfigurationError) as caught:
        load(folder, "app-nam: shop")
    assert "app-name" not in caught.value.diagnostics[0].help
