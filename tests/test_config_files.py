"""The files in ``config/`` say what the code does."""

import json
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from ruamel.yaml import YAML

from pyfly_messaging.cli.init import initial_text
from pyfly_messaging.settings import Diagnostic, MessagingSettings, isolated
from pyfly_messaging.settings.catalogue.tree import ANY_NAME, catalogue
from pyfly_messaging.settings.validate import Validation, validate
from pyfly_messaging.settings.views.schema import schema_text

CONFIG = Path(__file__).parent.parent / "config"
REFERENCE = CONFIG / "pyfly.yaml"
PRODUCTION = CONFIG / "pyfly-production.yaml"
FILES = sorted(CONFIG.glob("*.yaml"))
AGAIN = "it is generated: run `make generate`"
ENVIRON = {
    "KAFKA_BOOTSTRAP_SERVERS": "kafka-1:9093,kafka-2:9093",
    "KAFKA_USERNAME": "shop",
    "KAFKA_PASSWORD": "correct-horse",
    "RABBITMQ_HOST": "mq",
    "RABBITMQ_USERNAME": "shop",
    "RABBITMQ_PASSWORD": "battery#staple/",
}


@pytest.fixture(scope="module")
def schema() -> Draft7Validator:
    """The schema as editors read it."""
    return Draft7Validator(json.loads((CONFIG / "pyfly.schema.json").read_text()))


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without .env and other files of the working directory."""
    monkeypatch.chdir(tmp_path)


def read(path: Path, *profiles: str, **environ: str) -> Validation:
    return validate(path, profiles, environ)


def found_in(validation: Validation) -> list[tuple[str, str]]:
    return [(found.code, found.setting) for found in validation.diagnostics]


def problems(validation: Validation) -> list[Diagnostic]:
    return [found for found in validation.diagnostics if found.severity != "info"]


def data(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def test_generated() -> None:
    """The reference and the schema are what the commands write today."""
    assert REFERENCE.read_text() == initial_text(), AGAIN
    assert (CONFIG / "pyfly.schema.json").read_text() == schema_text(), AGAIN


def test_reference_is_the_defaults() -> None:
    """Loading the reference gives exactly the defaults, without a word."""
    validation = read(REFERENCE)
    assert validation.diagnostics == ()
    assert validation.settings is not None
    with isolated():
        assert validation.settings.model_dump() == MessagingSettings().model_dump()


def test_reference_has_every_setting() -> None:
    """Each setting stands in its section of the reference; what has no default, in a comment."""
    text = re.sub(r"^( *)# ([a-z-]+):$", r"\1\2: null", REFERENCE.read_text(), flags=re.MULTILINE)
    messaging = data(text)["pyfly"]["messaging"]
    for leaf in catalogue(MessagingSettings).leaves():
        if ANY_NAME in leaf.path:
            continue
        section = messaging
        for part in leaf.dotted.split(".")[:-1]:
            section = section[part]
        assert leaf.name in section, leaf.dotted


def test_every_setting_has_a_comment() -> None:
    """Above each key of the reference stands a comment."""
    lines = REFERENCE.read_text().splitlines()
    for before, line in pairwise(lines):
        if re.match(r" {4,}(# )?[a-z-]+:( |$)", line) and "notification-service" not in line:
            assert before.lstrip().startswith("#"), line


@pytest.mark.parametrize("provider", ["memory", "kafka", "rabbitmq"])
def test_reference_with_each_provider(provider: str) -> None:
    """The reference serves each provider, chosen by the environment, without a warning."""
    validation = read(REFERENCE, PYFLY_MESSAGING__PROVIDER=provider)
    assert validation.settings is not None
    assert validation.settings.provider == provider
    assert validation.diagnostics == ()


def test_a_broker_that_is_set_but_not_used_is_warned_of() -> None:
    """Beside the reference, a broker's setting that differs from its default is still noticed."""
    validation = read(REFERENCE, PYFLY_MESSAGING__KAFKA__CLIENT_ID="shop")
    assert found_in(validation) == [("CFG211", "pyfly.messaging.kafka")]


def test_dev() -> None:
    """The profile dev is good as it is, and changes what it says."""
    validation = read(REFERENCE, "dev")
    assert validation.diagnostics == ()
    assert validation.settings is not None
    assert validation.settings.listener.retries == 1
    assert validation.settings.startup.timeout == 10


def test_production() -> None:
    """The profile production is good when its variables are set, and keeps to the guardrails."""
    validation = read(REFERENCE, "production", **ENVIRON)
    assert validation.diagnostics == ()
    assert validation.settings is not None
    kafka = validation.settings.kafka
    assert kafka.bootstrap_servers == ("kafka-1:9093", "kafka-2:9093")
    assert kafka.tls.enabled
    assert kafka.sasl.password is not None
    assert kafka.sasl.password.get_secret_value() == "correct-horse"
    assert not any(validation.settings.guardrails.model_dump().values())


def test_production_with_rabbitmq(tmp_path: Path) -> None:
    """The alternative for RabbitMQ in its comment is good as well."""
    head, mark, tail = PRODUCTION.read_text().partition("    # RabbitMQ instead: ")
    assert mark
    head = re.sub(r"^    provider: kafka\n|^    kafka:\n(( {6}.*)?\n)+", "", head, flags=re.M)
    tail = tail.partition("\n")[2].replace("    # ", "    ")
    (tmp_path / "pyfly.yaml").write_text(REFERENCE.read_text())
    (tmp_path / "pyfly-production.yaml").write_text(head + tail)
    validation = read(tmp_path / "pyfly.yaml", "production", **ENVIRON)
    assert validation.diagnostics == ()
    assert validation.settings is not None
    address = validation.settings.rabbitmq.address
    assert (address.host, address.login, address.tls) == ("mq", "shop", True)
    assert address.password == "battery#staple/"


def test_production_without_its_variables() -> None:
    """Without its variables the profile production is refused, and each of them is named."""
    validation = read(REFERENCE, "production")
    missing = {found.message for found in validation.diagnostics}
    assert missing == {f"${{{name}}} is not set" for name in ENVIRON if name.startswith("KAFKA_")}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"PROVIDER": "memory"}, "CFG301"),
        ({"PROVIDER": "rabbitmq"}, "CFG302"),
        ({"PROVIDER": "rabbitmq", "RABBITMQ__URL": "amqp://shop:x@mq/"}, "CFG303"),
        ({"KAFKA__TLS__ENABLED": "false"}, "CFG303"),
    ],
)
def test_production_is_guarded(changes: Mapping[str, str], code: str) -> None:
    """What the profile production forbids cannot be brought in by the environment."""
    variables = {f"PYFLY_MESSAGING__{name}": value for name, value in changes.items()}
    validation = read(REFERENCE, "production", **ENVIRON, **variables)
    assert code in {found.code for found in problems(validation)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_schema_takes_our_files(schema: Draft7Validator, path: Path) -> None:
    """Each of our files names the schema in its first line, and is valid by it."""
    text = path.read_text()
    assert text.startswith("# yaml-language-server: $schema=./pyfly.schema.json\n")
    assert [error.message for error in schema.iter_errors(data(text))] == []


GOOD = {
    "empty": "",
    "others": "pyfly: {web: {port: 80}}\nspring: {}",
    "null-section": "pyfly: {messaging: {kafka: , listeners: {on-order: }}}",
    "snake-case": "pyfly: {messaging: {kafka: {client_id: x}, publish_timeout: 5}}",
    "placeholder": "pyfly: {messaging: {provider: '${P:kafka}', listener: {retries: '${R}'}}}",
    "text-for-number": "pyfly: {messaging: {listener: {retries: '5', dead-letter: 'true'}}}",
    "durations": "pyfly: {messaging: {publish-timeout: 1m30s, startup: {timeout: 0.5}}}",
    "list": "pyfly: {messaging: {kafka: {bootstrap-servers: [a, b], options: {x: [1]}}}}",
    "listener": "pyfly: {messaging: {listeners: {on-order: {topic: t, enabled: false}}}}",
    "none": "pyfly: {messaging: {listener: {timeout: none}}}",
}
BROKEN = {
    "root-list": "- pyfly",
    "provider": "pyfly: {messaging: {provider: kafak}}",
    "case": "pyfly: {messaging: {kafka: {acks: ALL}}}",
    "key": "pyfly: {messaging: {kafka: {client-idd: x}}}",
    "level": "pyfly: {messaging: {acks: all}}",
    "twins": "pyfly: {messaging: {kafka: {client-id: x, client_id: y}}}",
    "scalar-for-section": "pyfly: {messaging: {kafka: all}}",
    "number": "pyfly: {messaging: {listener: {retries: many}}}",
    "negative": "pyfly: {messaging: {listener: {retries: -1}}}",
    "boolean": "pyfly: {messaging: {listener: {dead-letter: yes please}}}",
    "duration": "pyfly: {messaging: {publish-timeout: 5 minutes}}",
    "port": "pyfly: {messaging: {rabbitmq: {port: 70000}}}",
    "list": "pyfly: {messaging: {kafka: {client-id: [a]}}}",
    "topic": "pyfly: {messaging: {listeners: {on-order: {topic: 'a b'}}}}",
    "listener-key": "pyfly: {messaging: {listeners: {on-order: {retrys: 1}}}}",
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_schema_takes_what_the_loader_takes(
    schema: Draft7Validator, tmp_path: Path, text: str
) -> None:
    """What the loader takes is valid by the schema."""
    assert [error.message for error in schema.iter_errors(data(text))] == []
    path = tmp_path / "pyfly.yaml"
    path.write_text(text)
    assert read(path, R="5").ok


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_schema_refuses_what_the_loader_refuses(
    schema: Draft7Validator, tmp_path: Path, text: str
) -> None:
    """What the loader refuses about keys and values is not valid by the schema either."""
    assert not schema.is_valid(data(text))
    path = tmp_path / "pyfly.yaml"
    path.write_text(text)
    assert not read(path).ok


def test_schema_describes_everything(schema: Draft7Validator) -> None:
    """Every setting has a description in the schema, and a default where it has one."""
    assert isinstance(schema.schema, dict)
    Draft7Validator.check_schema(schema.schema)
    root = schema.schema["properties"]["pyfly"]["properties"]["messaging"]
    for leaf in catalogue(MessagingSettings).leaves():
        node = root
        for part in leaf.dotted.split("."):
            node = node["additionalProperties"] if part == ANY_NAME else node["properties"][part]
        assert node["description"]
        assert leaf.secret or "default" in node
