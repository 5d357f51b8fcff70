"""``config init`` and ``config schema``."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from pyfly_messaging.settings import MessagingSettings
from pyfly_messaging.settings.validate import validate
from tests.cli.conftest import Invoke


def test_init(invoke: Invoke, project: Path) -> None:
    """Without options it writes config/pyfly.yaml and its schema, and says what to do next."""
    result = invoke("init")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "wrote config/pyfly.yaml: every setting at its default",
        "wrote config/pyfly.schema.json: with it an editor completes and checks the file",
        "next: pyfly-messaging config validate",
    ]
    first = (project / "config/pyfly.yaml").read_text().partition("\n")[0]
    assert first == "# yaml-language-server: $schema=./pyfly.schema.json"
    assert invoke("validate", "--strict").exit_code == 0


@pytest.mark.parametrize("provider", ["memory", "kafka", "rabbitmq", "auto"])
def test_provider(invoke: Invoke, provider: str) -> None:
    """For a provider the file chooses it, has its section alone, and is good without a warning."""
    invoke("init", "--provider", provider, "--output", "pyfly.yaml")
    text = Path("pyfly.yaml").read_text()
    assert f"\n    provider: {provider}\n" in text
    for section in {"memory", "kafka", "rabbitmq"} - {provider}:
        assert f"\n    {section}:\n" not in text
    validation = validate()
    assert validation.settings is not None
    assert validation.settings.provider == provider
    assert not [note for note in validation.diagnostics if note.severity != "info"]


def test_no_overwriting(invoke: Invoke, project: Path) -> None:
    """A file that exists is kept, with 1 as the exit code, unless --force is given."""
    path = project / "config/pyfly.yaml"
    path.parent.mkdir()
    path.write_text("mine")
    result = invoke("init")
    assert result.exit_code == 1
    assert result.stderr == (
        "config/pyfly.yaml exists; --force overwrites it, --output writes elsewhere\n"
    )
    assert path.read_text() == "mine"
    assert not (project / "config/pyfly.schema.json").exists()
    assert invoke("init", "--force").exit_code == 0
    assert path.read_text() != "mine"


def test_elsewhere(invoke: Invoke) -> None:
    """For a file in another place, the next step names it."""
    result = invoke("init", "--output", "deploy/shop.yaml")
    assert (
        result.stdout.splitlines()[-1] == "next: pyfly-messaging config validate deploy/shop.yaml"
    )
    assert Path("deploy/pyfly.schema.json").exists()


def test_standard_output(invoke: Invoke, project: Path) -> None:
    """With - as the file, it is printed, and nothing is written."""
    result = invoke("init", "--provider", "kafka", "--output", "-")
    assert "    provider: kafka\n" in result.stdout
    assert list(project.iterdir()) == []


def test_unknown_provider(invoke: Invoke) -> None:
    """A misspelt provider exits with 2 and a suggestion."""
    result = invoke("init", "--provider", "kakfa")
    assert result.exit_code == 2
    assert 'did you mean "kafka"?' in " ".join(result.stderr.replace("│", "").split())


def test_missing_client(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the client library is missing, the next step is to install it."""
    monkeypatch.setattr("pyfly_messaging.cli.init.has_client", lambda package: False)
    result = invoke("init", "--provider", "kafka")
    assert 'next: pip install "pyfly-messaging[kafka]", which brings aiokafka\n' in result.stdout


@pytest.mark.parametrize("command", ["init", "schema"])
def test_not_writable(invoke: Invoke, project: Path, command: str) -> None:
    """Where a file cannot be written, it says why and exits with 1."""
    (project / "file").touch()
    result = invoke(command, "--output", "file/below")
    assert result.exit_code == 1
    assert "file/below cannot be written: " in result.stderr


def test_schema(invoke: Invoke, project: Path) -> None:
    """The schema is printed, or written to a file, and is the same."""
    printed = invoke("schema").stdout
    result = invoke("schema", "--output", "schema.json")
    assert result.stdout == "wrote schema.json\n"
    assert (project / "schema.json").read_text() == printed
    Draft7Validator.check_schema(json.loads(printed))


def test_init_gives_the_defaults(invoke: Invoke) -> None:
    """What init writes changes nothing: every value is the default."""
    before = MessagingSettings().model_dump()
    invoke("init")
    assert MessagingSettings().model_dump() == before
