"""``config explain`` and ``config codes``."""

import json
from pathlib import Path

import pytest

from pyfly_messaging.settings import MessagingSettings
from pyfly_messaging.settings.catalogue.tree import catalogue
from pyfly_messaging.settings.diagnostics.codes import CODES
from tests.cli.conftest import Invoke, Write


def test_setting(invoke: Invoke) -> None:
    """A setting is explained with type, default, value, variable and its place in YAML."""
    result = invoke("explain", "kafka.sasl.mechanism")
    assert result.exit_code == 0
    assert [line.rstrip() for line in result.stdout.splitlines()] == [
        "kafka.sasl.mechanism",
        "  How the client identifies itself; without it, it does not.",
        "",
        "  type      one of: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, or none",
        "  default   none",
        "  current   none  (default)",
        "  variable  PYFLY_MESSAGING__KAFKA__SASL__MECHANISM",
        "  YAML      pyfly:",
        "              messaging:",
        "                kafka:",
        "                  sasl:",
        "                    mechanism: PLAIN",
    ]


def test_value_and_origin(invoke: Invoke, write: Write) -> None:
    """The current value is shown with its origin and with what it overrides."""
    write("listener:\n  retries: 5")
    text = invoke("explain", "listener.retries", PYFLY_MESSAGING__LISTENER__RETRIES="8").stdout
    assert "current    8  (env PYFLY_MESSAGING__LISTENER__RETRIES)\n" in text
    assert "overrides  5  (pyfly.yaml:4:16)\n" in text


def test_file_and_profile(invoke: Invoke, write: Write) -> None:
    """The current value is the one of the file and the profiles that are named."""
    write("listener:\n  retries: 5", "deploy/pyfly.yaml")
    write("listener:\n  retries: 6", "deploy/pyfly-dev.yaml")
    text = invoke("explain", "listener.retries", "--file", "deploy/pyfly.yaml", "-p", "dev").stdout
    assert "current    6  (deploy/pyfly-dev.yaml:4:16)" in text


@pytest.mark.parametrize(
    "name",
    [
        "kafka.bootstrap-servers",
        "kafka.bootstrap_servers",
        "pyfly.messaging.kafka.bootstrap-servers",
        "PYFLY_MESSAGING__KAFKA__BOOTSTRAP_SERVERS",
        "pyfly_messaging__kafka__bootstrap_servers",
    ],
)
def test_spellings(invoke: Invoke, name: str) -> None:
    """A setting is found by each of its spellings and by its variable."""
    assert invoke("explain", name).stdout.startswith("kafka.bootstrap-servers\n")


@pytest.mark.parametrize("name", ["<name>", "*", "on-order"])
def test_listener(invoke: Invoke, name: str) -> None:
    """A setting of one listener is explained by any name, and its default is what the code says."""
    text = invoke("explain", f"listeners.{name}.concurrency").stdout
    shown = "on-order" if name == "on-order" else "<name>"
    assert text.startswith(f"listeners.{shown}.concurrency\n")
    assert "whole number (at least 1)" in text
    assert "default   the code, else listener.concurrency" in text
    variable = shown.upper().replace("-", "_")
    assert f"PYFLY_MESSAGING__LISTENERS__{variable}__CONCURRENCY" in text


@pytest.mark.parametrize("section", ["kafka", "kafka.tls", "listeners", ""])
def test_section(invoke: Invoke, section: str) -> None:
    """A section is explained by its keys, each with default and meaning."""
    text = invoke("explain", section).stdout
    assert "variable" not in text
    node = catalogue(MessagingSettings).find(tuple(filter(None, section.split("."))))
    assert node is not None
    for child in (node.item or node).children.values():
        assert f"  {child.name} " in text


def test_every_setting(invoke: Invoke) -> None:
    """Every setting of the catalogue can be explained, and has a meaning."""
    for leaf in catalogue(MessagingSettings).leaves():
        data = json.loads(invoke("explain", leaf.dotted, "--json").stdout)
        assert data["meaning"]
        assert data["variable"].startswith("PYFLY_MESSAGING__")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("kafka.acsk", "kafka.acks"),
        ("kafak.acks", "kafka"),
        ("acks", "kafka.acks"),
        ("sasl.mechanism", "kafka.sasl.mechanism"),
        ("CFG10", None),
        ("CFG999", "CFG009"),
        ("nonsense-entirely", None),
    ],
)
def test_unknown(invoke: Invoke, name: str, meant: str | None) -> None:
    """What does not exist exits with 2, and names what was meant or what there is."""
    result = invoke("explain", name)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    if meant:
        assert f'did you mean "{meant}"?' in result.stderr


def test_option_of_a_client(invoke: Invoke) -> None:
    """A key below options is explained as one of them, with its variable."""
    text = invoke("explain", "kafka.options.metadata-max-age-ms").stdout
    assert "PYFLY_MESSAGING__KAFKA__OPTIONS__METADATA_MAX_AGE_MS" in text


def test_broken_configuration(invoke: Invoke, write: Write) -> None:
    """A broken configuration can be explained as well; only the current value is unknown."""
    write("provider: kafak")
    result = invoke("explain", "provider")
    assert result.exit_code == 0
    assert "current   unknown: `pyfly-messaging config validate` says why" in result.stdout


def test_secret(invoke: Invoke) -> None:
    """A secret's value is masked."""
    result = invoke("explain", "rabbitmq.url", PYFLY_MESSAGING__RABBITMQ__URL="amqp://a:b@mq/")
    assert "amqp://a:******@mq/" in result.stdout
    assert "a:b@" not in result.stdout


def test_json(invoke: Invoke) -> None:
    """With --json an explanation is data with the documented keys."""
    data = json.loads(invoke("explain", "kafka.acks", "--json").stdout)
    assert data["setting"] == "kafka.acks"
    assert data["choices"] == ["all", 1, 0]
    assert data["yaml"] == ["pyfly", "messaging", "kafka", "acks"]
    assert set(data) == {
        *("setting", "type", "default", "choices", "limits", "variable", "yaml", "meaning"),
        *("optional", "secret", "deprecated", "children", "current", "origin", "overridden"),
    }


@pytest.mark.parametrize("name", ["CFG102", "cfg102", "ENV001"])
def test_code(invoke: Invoke, name: str) -> None:
    """The code of a problem is explained by cause and cure."""
    code = CODES[name.upper()]
    text = " ".join(invoke("explain", name).stdout.split())
    for part in (code.title, code.severity, code.cause, code.cure):
        assert " ".join(part.split()) in text
    assert json.loads(invoke("explain", name, "--json").stdout)["cure"] == code.cure


def test_codes(invoke: Invoke) -> None:
    """All codes are listed, a line for each, and as data."""
    lines = invoke("codes").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(CODES)
    data = json.loads(invoke("codes", "--json").stdout)
    assert [set(item) for item in data] == [
        {"code", "severity", "title", "cause", "cure"} for _ in CODES
    ]


def test_options_with_secrets(invoke: Invoke, write: Write, project: Path) -> None:
    """Of options, those with a secret name and those from a secret file are masked."""
    (project / "secret").write_text("hunter2")
    write(
        "provider: kafka\nkafka:\n  options:\n    ssl_password: hunter3\n"
        "    sasl_kerberos_domain_name: ${file:secret}\n    metadata_max_age_ms: 5000"
    )
    assert "metadata_max_age_ms" in (text := invoke("explain", "kafka.options").stdout)
    assert "hunter" not in text
    assert "(pyfly.yaml:6:23)" in " ".join(text.split())
    assert "5000" in text
    for key in ("ssl-password", "sasl-kerberos-domain-name"):
        result = invoke("explain", f"kafka.options.{key}")
        assert "current   ******" in result.stdout
