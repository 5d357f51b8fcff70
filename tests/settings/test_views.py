"""What tools ask for: explain, show, schema, reference, validate, located errors."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from ruamel.yaml import YAML

from pyfly_messaging.errors import ConfigurationError
from pyfly_messaging.settings import MessagingSettings
from pyfly_messaging.settings.diagnostics.codes import CODES
from pyfly_messaging.settings.late_errors import (
    check_listener_names,
    located_error,
    unknown_listener_diagnostics,
)
from pyfly_messaging.settings.validate import validate
from pyfly_messaging.settings.views.explain import explain, render_explanation
from pyfly_messaging.settings.views.reference import reference_yaml
from pyfly_messaging.settings.views.schema import DRAFT, json_schema
from pyfly_messaging.settings.views.show import effective_values, render_values
from tests.settings.corpus import below_messaging, cases

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(folder: Path) -> MessagingSettings:
    """Return settings from a file and the environment."""
    (folder / "pyfly.yaml").write_text(
        below_messaging(
            "provider: kafka\n"
            "kafka:\n"
            "  bootstrap-servers: broker-1:9092\n"
            "  sasl: {mechanism: PLAIN, username: app, password: '${KAFKA_PASSWORD}'}\n"
            "  options: {api_version: auto, ssl_password: hunter2, rack: '${file:rack}'}\n"
            "listeners: {on-order: {retries: 2}}\n"
            "rabbitmq: {url: 'amqp://app:hunter2@mq/'}\n"
        )
    )
    (folder / "rack").write_text("hunter2")
    return MessagingSettings.load(
        environ={
            "KAFKA_PASSWORD": "hunter2",
            "PYFLY_MESSAGING__KAFKA__BOOTSTRAP_SERVERS": "prod-1:9092",
        }
    )


class TestShow:
    """``config show``."""

    def test_origins(self, settings: MessagingSettings) -> None:
        """Each value is shown with where it comes from and what it overrides."""
        lines = render_values(effective_values(settings), origins=True).splitlines()
        shown = [" ".join(line.split()) for line in lines]
        for line in (
            'provider "kafka" pyfly.yaml:3:15',
            "publish-timeout 30s default",
            'kafka.bootstrap-servers "prod-1:9092" env PYFLY_MESSAGING__KAFKA__BOOTSTRAP_SERVERS',
            'overrides pyfly.yaml:5:26 = "broker-1:9092"',
            'kafka.acks "all" default',
            "kafka.sasl.password ****** pyfly.yaml:6:57 via ${KAFKA_PASSWORD}",
            'kafka.options.api-version "auto" pyfly.yaml:7:30',
            "kafka.options.ssl-password ****** pyfly.yaml:7:50",
            "kafka.options.rack ****** pyfly.yaml:7:65 via ${file:rack}",
            "rabbitmq.url amqp://app:******@mq/ pyfly.yaml:9:21",
            "listeners.on-order.retries 2 pyfly.yaml:8:37",
            "rabbitmq.heartbeat 1m default",
            "listener.timeout none default",
        ):
            assert line in shown
        assert "hunter2" not in "\n".join(lines)

    def test_values_alone(self, settings: MessagingSettings) -> None:
        """Without origins there is one line for each setting."""
        values = effective_values(settings)
        assert len(render_values(values).splitlines()) == len(values)

    def test_json(self, settings: MessagingSettings) -> None:
        """As JSON a value keeps its type."""
        data = {value.setting: value.as_dict() for value in effective_values(settings)}
        assert data["kafka.idempotence"]["value"] is True
        assert data["kafka.partitions"]["value"] is None
        assert data["kafka.bootstrap-servers"]["overrides"] == [
            {"origin": "pyfly.yaml:5:26", "value": "broker-1:9092"}
        ]
        assert "hunter2" not in json.dumps(data)

    def test_every_setting_is_shown(self, folder: Path) -> None:
        """What can be set is shown, but for listeners and options that nobody set."""
        shown = {value.setting for value in effective_values(MessagingSettings())}
        from pyfly_messaging.settings.catalogue.tree import catalogue

        leaves = {leaf.dotted for leaf in catalogue(MessagingSettings).leaves()}
        assert shown == {leaf for leaf in leaves if "*" not in leaf}


class TestExplain:
    """``config explain``."""

    def test_a_setting(self, settings: MessagingSettings) -> None:
        """Type, default, variable, YAML path, meaning, current value and origin."""
        text = render_explanation(explain("kafka.sasl.mechanism", settings))
        assert (
            text
            == """\
pyfly.messaging.kafka.sasl.mechanism
  How the client identifies itself; without it, it does not.
  type        one of: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, or none
  default     none
  variable    PYFLY_MESSAGING__KAFKA__SASL__MECHANISM
  in YAML     pyfly: messaging: kafka: sasl: mechanism:
  current     "PLAIN"
  from        pyfly.yaml:6:25"""
        )

    @pytest.mark.parametrize(
        "name",
        [
            "kafka.bootstrap-servers",
            "kafka.bootstrap_servers",
            "pyfly.messaging.kafka.bootstrap-servers",
            "PYFLY_MESSAGING__KAFKA__BOOTSTRAP_SERVERS",
            " kafka.bootstrap-servers: ",
        ],
    )
    def test_spellings(self, name: str, settings: MessagingSettings) -> None:
        """A setting is found by each of its names."""
        found = explain(name, settings)
        assert found.setting == "pyfly.messaging.kafka.bootstrap-servers"
        assert found.overridden == (("pyfly.yaml:5:26", '"broker-1:9092"'),)
        assert found.limits == ()

    def test_limits_and_secrets(self, settings: MessagingSettings) -> None:
        """Limits are words; a secret is never shown."""
        assert explain("listener.retry-jitter").limits == ("at least 0", "at most 1")
        password = explain("kafka.sasl.password", settings)
        assert (password.secret, password.current) == (True, "******")
        assert explain("rabbitmq.url").default == "amqp://guest:******@localhost/"
        assert "its value is never shown" in render_explanation(password)

    def test_sections(self, settings: MessagingSettings) -> None:
        """A section lists what is in it; the whole is a section, too."""
        assert dict(explain("kafka.sasl").children).keys() == {
            "mechanism", "username", "password",
        }  # fmt: skip
        assert "guardrails" in dict(explain("").children)
        assert "retries" in render_explanation(explain("listeners"))

    def test_listeners(self, settings: MessagingSettings) -> None:
        """A listener's setting is explained with its name, or with any."""
        assert explain("listeners.on-order.retries", settings).current == "2"
        assert explain("listeners.<name>.retries").variable == (
            "PYFLY_MESSAGING__LISTENERS__<NAME>__RETRIES"
        )
        assert explain("listeners.other.retries", settings).current == ""

    def test_options(self, settings: MessagingSettings) -> None:
        """A key below options is explained as one of them."""
        found = explain("kafka.options.api-version", settings)
        assert (found.current, found.default) == ('"auto"', "")

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("kafka.sasl.mechanizm", 'did you mean "kafka.sasl.mechanism"'),
            ("acks", 'did you mean "kafka.acks"'),
            ("nothing.like.it", "there are: provider"),
            ("provider.name", "is not a setting"),
        ],
    )
    def test_unknown(self, name: str, hint: str) -> None:
        """What does not exist is refused with a suggestion."""
        with pytest.raises(LookupError, match=hint):
            explain(name)

    def test_data(self) -> None:
        """An explanation is plain data as well."""
        assert json.loads(json.dumps(explain("kafka.acks").as_dict()))["default"] == '"all"'


SCHEMA = json_schema()


def parsed(text: str) -> Any:
    """Return YAML as an editor reads it."""
    yaml = YAML(typ="safe", pure=True)
    yaml.allow_duplicate_keys = True
    return json.loads(json.dumps(yaml.load(text), default=str))


def valid_files() -> list[Any]:
    """Return the valid files of the corpus."""
    found = []
    for case in cases("valid"):
        for name, text in {"pyfly.yaml": case.yaml, **case.files}.items():
            if text is not None and name.endswith(".yaml") and not case.skip_schema:
                found.append(pytest.param(text, id=f"{case.id}-{name}"))
    return found


def broken_for_editors() -> list[Any]:
    """Return the broken files of the corpus whose mistake an editor can see."""
    visible = {"CFG101", "CFG102", "CFG103", "CFG109", "CFG110", "CFG013"}
    unseen = {
        # Quoting, placeholders and aliases are not visible in the data; keys of no text neither.
        "values/placeholder-value-wrong", "values/placeholder-value-wrong-and-secret",
        "values/secret-file-where-a-number-belongs",
        "values/fraction-for-whole-number", "values/number-with-underscore",
        "values/provider-misspelt", "values/provider-in-another-case",
        "values/provider-by-another-name", "values/provider-unknown", "values/key-is-no-text",
        "values/provider-in-two-quotes", "values/number-enormous",
        "yaml_text/duplicate-listener-in-two-spellings", "values/not-a-number",
        "files/mistake-in-a-profile", "files/messaging-misspelt",
        "values/merge-key-with-text", "files/messaging-misspelt-beside-others",
        "files/pyfly-misspelt", "files/pyfly-is-list",
    }  # fmt: skip
    return [
        pytest.param(case.yaml, id=case.id)
        for case in cases("broken")
        if case.code in visible and case.yaml and case.id not in unseen and not case.generate
    ]


class TestSchema:
    """The schema for editors."""

    def test_is_draft_7(self) -> None:
        """The schema is valid itself, in the draft that yaml-language-server reads."""
        assert SCHEMA["$schema"] == DRAFT
        Draft7Validator.check_schema(SCHEMA)

    @pytest.mark.parametrize("text", valid_files())
    def test_valid(self, text: str) -> None:
        """What the loader takes, the schema takes."""
        errors = list(Draft7Validator(SCHEMA).iter_errors(parsed(text)))
        assert not errors, errors[0].message

    @pytest.mark.parametrize("text", broken_for_editors())
    def test_broken(self, text: str) -> None:
        """A mistake that is visible in the data is a mistake for the schema, too."""
        assert not Draft7Validator(SCHEMA).is_valid(parsed(text))

    def test_helps_while_typing(self) -> None:
        """Each setting has a description, and a default where it is no secret."""
        kafka = SCHEMA["properties"]["pyfly"]["properties"]["messaging"]["properties"]["kafka"]
        assert kafka["properties"]["acks"]["default"] == "all"
        assert kafka["properties"]["session-timeout"]["default"] == "45s"
        assert "whole number (at least 1)" in kafka["properties"]["commit-count"]["description"]
        assert kafka["properties"]["client_id"] == kafka["properties"]["client-id"]
        assert "default" not in kafka["properties"]["sasl"]["properties"]["password"]


class TestReference:
    """The commented reference configuration."""

    def test_has_every_setting_at_its_default(self, folder: Path) -> None:
        """Loading it gives the defaults, without a word of warning."""
        (folder / "pyfly.yaml").write_text(reference_yaml())
        validation = validate(environ={})
        assert validation.settings == MessagingSettings.load(environ={})
        errors = [d for d in validation.diagnostics if d.severity == "error"]
        assert not errors

    def test_names_every_setting(self) -> None:
        """Every setting stands in it, in a comment where it has no default."""
        from pyfly_messaging.settings.catalogue.tree import catalogue

        text = reference_yaml()
        for leaf in catalogue(MessagingSettings).leaves():
            assert f"{leaf.name}:" in text or "*" in leaf.path

    @pytest.mark.parametrize("provider", ["memory", "kafka", "rabbitmq"])
    def test_for_one_provider(self, provider: str, folder: Path) -> None:
        """For one provider it chooses that one and leaves the others out."""
        text = reference_yaml(provider, schema="./pyfly.schema.json")
        assert text.startswith("# yaml-language-server: $schema=./pyfly.schema.json\n")
        (folder / "pyfly.yaml").write_text(text)
        validation = validate(environ={})
        assert validation.settings is not None
        assert validation.settings.provider == provider
        assert validation.diagnostics == ()
        others = {"memory", "kafka", "rabbitmq"} - {provider}
        assert not any(f"\n    {other}:" in text for other in others)

    def test_validates_against_the_schema(self) -> None:
        """The schema takes it."""
        assert Draft7Validator(SCHEMA).is_valid(parsed(reference_yaml()))


class TestValidate:
    """Validation without an exception."""

    def test_good(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A good configuration gives settings and notes, and logs nothing."""
        (folder / "pyfly.yaml").write_text(below_messaging("kafka: {client-id: x}"))
        with caplog.at_level(logging.DEBUG):
            validation = validate(environ={})
        assert validation.ok
        assert [d.code for d in validation.diagnostics] == ["CFG211"]
        assert caplog.text == ""

    def test_bad(self, folder: Path) -> None:
        """A bad one gives the diagnostics."""
        validation = validate(environ={}, provider="kafak")
        assert not validation.ok
        assert validation.settings is None
        assert "did you mean" in validation.render()


class TestLocated:
    """Errors that are found after loading."""

    def test_listeners(self, folder: Path) -> None:
        """An unknown listener is shown where its name stands; known ones are not."""
        (folder / "pyfly.yaml").write_text(
            below_messaging("listeners:\n  On_Order: {retries: 1}\n  on-ordr: {enabled: false}")
        )
        settings = MessagingSettings.load(environ={})
        (found,) = unknown_listener_diagnostics(settings, ["on-order"])
        assert found.setting == "pyfly.messaging.listeners.on-ordr"
        with pytest.raises(ConfigurationError) as caught:
            check_listener_names(settings, ["on-order"])
        assert (
            str(caught.value)
            == """\
error[CFG213]: listeners.on-ordr matches no listener
 --> pyfly.yaml:5:7
  |
5 |       on-ordr:
  |       ^^^^^^^ no listener has this name
  = help: did you mean "on-order"?

1 error"""
        )
        check_listener_names(settings, ["on-order", "on-ordr", "unused"])

    def test_file_that_has_changed(self, folder: Path) -> None:
        """A file that is another one by now is not quoted."""
        path = folder / "pyfly.yaml"
        path.write_text(below_messaging("listeners:\n  on-ordr: {retries: 1}"))
        settings = MessagingSettings.load(environ={})
        path.write_text("password: hunter2")
        assert unknown_listener_diagnostics(settings, [])[0].excerpt == ()
        path.unlink()
        (found,) = unknown_listener_diagnostics(settings, [])
        assert (found.excerpt, found.help) == ((), "the program has no listeners")

    def test_options(self, settings: MessagingSettings) -> None:
        """An adapter can refuse an option at its place."""
        error = located_error(
            settings, "kafka.options.api_version", "api_version is no argument of the producer"
        )
        (found,) = error.diagnostics
        assert (found.code, str(found.origin)) == ("CFG217", "pyfly.yaml:7:30")
        assert found.help == CODES["CFG217"].cure
