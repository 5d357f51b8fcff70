"""`MessagingSettings`: sources and their order, policies, and life inside of an application."""

from __future__ import annotations

import copy
import logging
import pickle
import textwrap
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliApp,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from pyfly_messaging.errors import ConfigurationError
from pyfly_messaging.policy import ListenerPolicy, Timeouts
from pyfly_messaging.settings import (
    KafkaSettings,
    ListenerOverride,
    MessagingSettings,
    Origin,
    Section,
    isolated,
)
from pyfly_messaging.settings.views.show import effective_values, render_values
from tests.settings.corpus import below_messaging


def write(folder: Path, body: str, name: str = "pyfly.yaml") -> None:
    """Write a file with a section ``pyfly: messaging:``."""
    (folder / name).write_text(below_messaging(body), encoding="utf-8")


def test_defaults(folder: Path) -> None:
    """Without any source all settings have their defaults, and come from nowhere."""
    settings = MessagingSettings()
    assert settings.provider == "memory"
    assert settings.timeouts() == Timeouts()
    assert settings.listeners == {}
    assert settings.origin("kafka.client-id") == Origin("default")
    assert settings.notes == ()
    assert settings.profiles == ()


def test_origins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value knows where it comes from and what it overrides, the nearest first."""
    write(folder, "kafka:\n  client-id: base\n  linger: 1\nprovider: kafka")
    write(folder, "kafka:\n  client_id: dev", "pyfly-dev.yaml")
    (folder / ".env").write_text("X=1\nPYFLY_MESSAGING__KAFKA__CLIENT_ID=dotenv\n")
    monkeypatch.setenv("PYFLY_PROFILES_ACTIVE", "dev")
    monkeypatch.setenv("PYFLY_MESSAGING__KAFKA__CLIENT_ID", "env")
    settings = MessagingSettings(kafka={"client_id": "argument"})
    entries = settings.provenance.entries["kafka", "client_id"]
    assert [(str(entry.origin), entry.shown) for entry in entries] == [
        ("argument kafka.client_id", "argument"),
        ("env PYFLY_MESSAGING__KAFKA__CLIENT_ID", "env"),
        (".env:2 PYFLY_MESSAGING__KAFKA__CLIENT_ID", "dotenv"),
        ("pyfly-dev.yaml:4:18", "dev"),
        ("pyfly.yaml:4:18", "base"),
    ]
    assert settings.kafka.client_id == "argument"
    assert str(settings.origin("kafka.linger")) == "pyfly.yaml:5:15"
    assert str(settings.origin("PYFLY_MESSAGING__PROVIDER")) == "pyfly.yaml:6:15"
    assert settings.profiles == ("dev",)
    with pytest.raises(LookupError, match=r'did you mean "kafka\.client-id"'):
        settings.origin("kafka.client-idd")


def test_origin_of_a_placeholder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that came through placeholders says through which."""
    write(folder, "provider: kafka\nkafka:\n  client-id: ${A}-${B:b}-${A}")
    monkeypatch.setenv("A", "a")
    settings = MessagingSettings()
    assert settings.kafka.client_id == "a-b-a"
    assert str(settings.origin("kafka.client-id")) == "pyfly.yaml:5:18 via ${A}"


def test_an_instance_is_a_whole_section(folder: Path) -> None:
    """A section given as an instance of its model is taken as it is; nothing is mixed into it."""
    write(folder, "kafka:\n  linger: 1")
    given = KafkaSettings(client_id="x")
    settings = MessagingSettings(kafka=given, provider="kafka")
    assert settings.kafka == given
    assert str(settings.origin("kafka.linger")) == "argument kafka"


def test_keyword_arguments_in_yaml_spelling(folder: Path) -> None:
    """Names with hyphens are taken as well, at any depth."""
    settings = MessagingSettings(**{"publish-timeout": "2s", "kafka": {"client-id": "x"}})
    assert (settings.publish_timeout, settings.kafka.client_id) == (2.0, "x")


def test_load_is_explicit(folder: Path) -> None:
    """`load` takes the file, the profiles and the environment from its arguments alone."""
    write(folder, "provider: kafka", "other.yaml")
    write(folder, "publish-timeout: 7", "other-dev.yaml")
    settings = MessagingSettings.load(
        "other.yaml",
        profiles=["dev"],
        environ={"PYFLY_MESSAGING__KAFKA__LINGER": "2"},
        memory={"raise_errors": True},
    )
    assert (settings.provider, settings.publish_timeout) == ("kafka", 7.0)
    assert (settings.kafka.linger, settings.memory.raise_errors) == (2.0, True)
    assert MessagingSettings().provider == "memory"


def test_errors_are_configuration_errors_that_hold_nothing(folder: Path) -> None:
    """The error is ours, with the report as its text, and nothing of pydantic's behind it."""
    with pytest.raises(ConfigurationError) as caught:
        MessagingSettings(kafka={"sasl": {"password": "hunter2"}}, provider="kafka", nope=1)
    error = caught.value
    assert error.__context__ is None
    assert error.__cause__ is None
    assert "hunter2" not in f"{error} {error.diagnostics!r} {vars(error)}"
    assert [d.code for d in error.diagnostics] == ["CFG101", "CFG204"]


def test_warnings_are_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is no error is logged in one line each, with place and help."""
    write(folder, "kafka:\n  client-id: x")
    with caplog.at_level(logging.INFO, "pyfly_messaging.settings"):
        settings = MessagingSettings()
    assert [record.getMessage() for record in caplog.records] == [
        "[CFG211] kafka is configured, but the provider is memory (pyfly.yaml:4:18): "
        "no message goes there; set provider: kafka, or remove the section"
    ]
    assert [note.code for note in settings.notes] == ["CFG211"]


class TestPolicies:
    """Policies from configuration."""

    def test_precedence(self, folder: Path) -> None:
        """Default, then ``listener:``, then the decorator, then ``listeners: <name>:``."""
        settings = MessagingSettings(
            listener={"retries": 7, "concurrency": 2, "timeout": 5, "retry_delay": 2},
            listeners={"on-order": {"concurrency": 9, "timeout": None}},
        )
        policy = settings.policy_for("on-order", "orders", {"retries": 1, "concurrency": 4})
        assert policy == ListenerPolicy(retries=1, concurrency=9, timeout=None, retry_delay=2.0)
        other = settings.policy_for("other", "orders", {"retries": 1})
        assert other == ListenerPolicy(retries=1, concurrency=2, timeout=5.0, retry_delay=2.0)

    def test_names_are_compared_loosely(self, folder: Path) -> None:
        """Case, hyphens and underscores in the name of a listener do not count."""
        settings = MessagingSettings(listeners={"On_Order": {"retries": 9}})
        assert settings.policy_for("on-order", "orders", {}).retries == 9
        assert isinstance(settings.override_for("ON_ORDER"), ListenerOverride)
        assert settings.override_for("other") is None

    def test_dead_letter_loop(self, folder: Path) -> None:
        """A dead-letter topic that is the listener's topic is refused."""
        settings = MessagingSettings(listener={"dead_letter_topic": "dead"})
        with pytest.raises(ValueError, match="topic itself"):
            settings.policy_for("a", "dead", {})

    def test_unknown_override(self, folder: Path) -> None:
        """An override that is no field of the policy is refused."""
        with pytest.raises(TypeError):
            MessagingSettings().policy_for("a", "orders", {"retrys": 1})


class TestValue:
    """Settings are values."""

    def test_equality_and_copies(self, folder: Path) -> None:
        """Settings with the same values are equal, wherever the values come from."""
        write(folder, "publish-timeout: 5")
        from_file = MessagingSettings()
        from_argument = MessagingSettings.load(environ={}, publish_timeout=5)
        assert from_file == from_argument
        assert from_file != MessagingSettings(publish_timeout=6)
        assert copy.deepcopy(from_file) == pickle.loads(pickle.dumps(from_file)) == from_file
        assert str(copy.deepcopy(from_file).origin("publish-timeout")) == "pyfly.yaml:3:22"

    def test_frozen(self, folder: Path) -> None:
        """A change is refused."""
        with pytest.raises(ValidationError) as caught:
            MessagingSettings().provider = "kafka"  # type: ignore[misc]
        assert caught.value.errors()[0]["input"] is None

    def test_constructed_without_a_load(self) -> None:
        """What `model_construct` makes has no origins, and is no error."""
        settings = MessagingSettings.model_construct(provider="kafka")
        assert settings.notes == ()
        assert settings.origin("provider") == Origin("default")


class Shop(BaseModel):
    """A section of an application."""

    currency: str
    limit: int = 1


class ShopSettings(MessagingSettings):
    """Settings of an application that extends those of the library."""

    shop: Shop
    tags: list[str] = Field(default_factory=list)
    ratio: float = 1.0
    token: str = ""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put a source of its own between the arguments and the environment."""
        arguments, *others = super().settings_customise_sources(
            settings_cls, init_settings, env_settings, dotenv_settings, file_secret_settings
        )
        vault = InitSettingsSource(settings_cls, {"kafka": {"client_id": "vault"}})
        return arguments, vault, *others


class TestSubclass:
    """`MessagingSettings` is a `BaseSettings` that can be extended."""

    BODY = "provider: kafka\nshop: {currency: EUR, limit: 3}\ntags: [a, b]\ntoken: hunter2"

    def test_fields_and_sources(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Further fields come from the same places, further sources have their rank."""
        write(folder, self.BODY)
        monkeypatch.setenv("PYFLY_MESSAGING__SHOP__LIMIT", "5")
        monkeypatch.setenv("PYFLY_MESSAGING__TAGS", '["x"]')
        monkeypatch.setenv("PYFLY_MESSAGING__KAFKA__CLIENT_ID", "env")
        settings = ShopSettings()
        assert settings.shop == Shop(currency="EUR", limit=5)
        assert settings.tags == ["x"]
        assert settings.kafka.client_id == "vault"
        assert str(settings.origin("kafka.client-id")) == "InitSettingsSource"
        assert str(settings.origin("shop.limit")) == "env PYFLY_MESSAGING__SHOP__LIMIT"
        assert "hunter2" not in repr(settings)

    @pytest.mark.parametrize(
        ("environ", "expected"),
        [
            ({"SHOP__LIMIT": "x"}, ("CFG103", "expected whole number, got 'x'")),
            ({"SHOP__LIMT": "5"}, ("ENV001", '"limt" is not a setting of shop')),
            ({"RATIO": "y"}, ("CFG103", "expected number, got 'y'")),
            ({"TAGS": '["a"'}, ("CFG103", "expected list, each text, got '[\"a\"'")),
        ],
    )
    def test_mistakes(
        self, folder: Path, environ: dict[str, str], expected: tuple[str, str]
    ) -> None:
        """Mistakes in further fields are reported as well as those in our own."""
        write(folder, self.BODY)
        variables = {f"PYFLY_MESSAGING__{name}": value for name, value in environ.items()}
        with pytest.raises(ConfigurationError) as caught:
            ShopSettings.load(environ=variables)
        (found,) = caught.value.diagnostics
        assert (found.code, found.label) == expected
        assert found.help

    def test_list_with_commas(self, folder: Path) -> None:
        """A list of an application is given in a variable as ours are: with commas, or as JSON."""
        write(folder, self.BODY)
        for text in ("a, b", '["a", "b"]'):
            settings = ShopSettings.load(environ={"PYFLY_MESSAGING__TAGS": text})
            assert settings.tags == ["a", "b"]

    def test_missing_field(self, folder: Path) -> None:
        """A further field without a default must be given; the report says how."""
        with pytest.raises(ConfigurationError) as caught:
            ShopSettings()
        (found,) = caught.value.diagnostics
        assert found.code == "CFG112"
        assert found.message == "pyfly.messaging.shop is missing"
        assert found.help == "set it in the file, or as PYFLY_MESSAGING__SHOP"

    def test_validator_of_its_own(self, folder: Path) -> None:
        """What a validator of the application refuses is reported with the code for anything."""

        class Strict(MessagingSettings):
            even: int = Field(default=0, multiple_of=2)

        with pytest.raises(ConfigurationError) as caught:
            Strict(even=3)
        (found,) = caught.value.diagnostics
        assert (found.code, str(found.origin)) == ("CFG100", "argument even")
        assert "multiple of 2" in found.label

    def test_prefix_of_its_own(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A subclass may have another prefix for its variables, and so may a single call."""

        class Prefixed(MessagingSettings):
            model_config = SettingsConfigDict(env_prefix="SHOP_BUS__")

        monkeypatch.setenv("SHOP_BUS__PROVIDER", "kafka")
        monkeypatch.setenv("OTHER__PROVIDER", "rabbitmq")
        assert Prefixed().provider == "kafka"
        assert Prefixed(_env_prefix="OTHER__").provider == "rabbitmq"
        assert MessagingSettings().provider == "memory"
        monkeypatch.setenv("SHOP_BUS__PROVIDR", "x")
        with pytest.raises(ConfigurationError, match="did you mean SHOP_BUS__PROVIDER"):
            Prefixed()


class Colour(Enum):
    """Two colours."""

    RED = "red"
    BLUE = "blue"


class OddSettings(MessagingSettings):
    """Settings with fields of every kind an application may have."""

    colour: Colour = Colour.RED
    either: int | str = 0
    shop_name: str = Field(default="", validation_alias="shopName", min_length=2)
    weights: dict[str, float] = Field(default_factory=dict)
    shops: dict[str, Shop] = Field(default_factory=dict)


class TestOddFields:
    """Fields of applications that the library itself has none like."""

    def test_taken(self, folder: Path) -> None:
        """They are read from files and variables as pydantic reads them."""
        write(
            folder,
            "colour: blue\neither: x\nshopName: corner\nweights: {a: 1, b: 2.5}\n"
            "shops: {one: {currency: EUR}}",
        )
        environ = {
            "PYFLY_MESSAGING__WEIGHTS__B": "3",
            "PYFLY_MESSAGING__SHOPS__ONE__LIMIT": "7",
        }
        settings = OddSettings.load(environ=environ)
        assert (settings.colour, settings.either) == (Colour.BLUE, "x")
        assert settings.shop_name == "corner"
        assert settings.weights == {"a": 1.0, "b": 3.0}
        assert settings.shops == {"one": Shop(currency="EUR", limit=7)}
        assert str(settings.origin("shopName")) == "pyfly.yaml:5:15"
        shown = {value.setting: value.text for value in effective_values(settings)}
        assert (shown["colour"], shown["shopName"]) == ('"blue"', '"corner"')

    @pytest.mark.parametrize(
        ("body", "code", "help_"),
        [
            ("colour: bleu", "CFG102", 'did you mean "blue"?'),
            ("shopName: x", "CFG104", "use a value in the range"),
            ("shop_name: x", "CFG101", 'did you mean "shopName"?'),
            ("weights: {a: b}", "CFG103", "write digits only"),
            ("weights: [1]", "CFG103", "write keys with values"),
            ("shops: {one: {curency: EUR}}", "CFG101", 'did you mean "currency"?'),
        ],
    )
    def test_refused(self, folder: Path, body: str, code: str, help_: str) -> None:
        """Mistakes in them are reported with a code and a way out."""
        write(folder, body)
        with pytest.raises(ConfigurationError) as caught:
            OddSettings()
        found = caught.value.diagnostics[0]
        assert found.code == code
        assert help_ in found.help

    def test_no_prefix(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a prefix of its own no variable is held to be meant for this class."""
        monkeypatch.setenv("PROVIDER", "kafka")
        assert MessagingSettings(_env_prefix="").provider == "kafka"


class App(BaseSettings):
    """Settings of an application that embed those of the library."""

    model_config = SettingsConfigDict(env_prefix="APP_", env_nested_delimiter="__")

    name: str = "app"
    messaging: MessagingSettings = Field(default_factory=MessagingSettings)


class TestEmbedding:
    """`MessagingSettings` as a part of an application's settings."""

    def test_loads_by_itself(self, folder: Path) -> None:
        """The part reads its own sources."""
        write(folder, "provider: kafka")
        assert App().messaging.provider == "kafka"

    def test_takes_what_the_application_gives(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the application's sources say wins, as keyword arguments do."""
        write(folder, "provider: kafka\nkafka:\n  client-id: file\n  linger: 1")
        monkeypatch.setenv("APP_MESSAGING__KAFKA__CLIENT_ID", "app")
        kafka = App().messaging.kafka
        assert (kafka.client_id, kafka.linger) == ("app", 1.0)

    def test_errors_come_through(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A mistake is our error with its report, not a validation error of the application."""
        monkeypatch.setenv("APP_MESSAGING__KAFKA__ACKS", "7")
        with pytest.raises(ConfigurationError, match="expected one of: all, 1, 0"):
            App()

    def test_an_instance_is_taken_as_it_is(self, folder: Path) -> None:
        """Settings that are loaded already are not loaded again."""
        given = MessagingSettings(provider="kafka")
        assert App(messaging=given).messaging is given


class TestPydanticSettings:
    """The arguments of pydantic-settings itself."""

    def test_env_file(self, folder: Path) -> None:
        """``_env_file`` names other files than .env, or none."""
        (folder / ".env").write_text("PYFLY_MESSAGING__PROVIDER=kafka\n")
        (folder / "one.env").write_text("PYFLY_MESSAGING__PROVIDER=rabbitmq\n")
        (folder / "two.env").write_text("PYFLY_MESSAGING__PUBLISH_TIMEOUT=2\n")
        assert MessagingSettings().provider == "kafka"
        assert MessagingSettings(_env_file=None).provider == "memory"
        assert MessagingSettings(_env_file="one.env").provider == "rabbitmq"
        both = MessagingSettings(_env_file=("one.env", "two.env"))
        assert (both.provider, both.publish_timeout) == ("rabbitmq", 2.0)

    def test_secrets_dir(self, folder: Path) -> None:
        """``_secrets_dir`` names a directory of secret files."""
        (folder / "secrets").mkdir()
        (folder / "secrets" / "pyfly_messaging__rabbitmq__password").write_text("hunter2\n")
        settings = MessagingSettings(_secrets_dir=folder / "secrets", rabbitmq={"host": "mq"})
        assert settings.rabbitmq.password == SecretStr("hunter2")

    def test_command_line(self, folder: Path) -> None:
        """Arguments of a command line win over files."""
        write(folder, "provider: kafka\npublish-timeout: 3")
        settings = CliApp.run(MessagingSettings, cli_args=["--provider", "memory"])
        assert (settings.provider, settings.publish_timeout) == ("memory", 3.0)

    def test_debug_log_has_no_secret(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Not even the log in which pydantic-settings prints its sources shows a secret."""
        write(folder, "rabbitmq:\n  url: amqp://app:hunter2@mq/")
        monkeypatch.setenv("PYFLY_MESSAGING__KAFKA__TLS__KEY_PASSWORD", "hunter2")
        monkeypatch.setenv("PYDANTIC_SETTINGS_DEBUG", "1")
        with caplog.at_level(logging.DEBUG), pytest.raises(ConfigurationError):
            MessagingSettings()
        assert "hunter2" not in caplog.text


class Vault(Section):
    """A section that a subclass adds."""

    token: str = "none"
    tokens: tuple[str, ...] = ()
    pin_token: int = 0
    name: str = "vault"


class VaultSettings(MessagingSettings):
    """Settings with secrets that their author declares as plain text."""

    password: str = "none"
    motto: str = "none"
    vault: Vault = Vault()


class TestSecretsInReprs:
    """What `config show` masks, no repr shows; the value itself is there for the program."""

    BODY = """
        motto: ${DB_PASSWORD}
        password: hunter2
        vault: {token: hunter2, tokens: [hunter2], pin-token: 47110815, name: '${DB_PASSWORD}'}
        listener: {retries: '${file:number}'}
        listeners: {bill: {group: 'x ${DB_PASSWORD}'}}
        kafka:
          client-id: ${DB_PASSWORD}
          bootstrap-servers: [a:1, '${DB_PASSWORD}:2']
          options:
            request_timeout_ms: ${file:number}
            metadata_max_age_ms: 7
        """

    def load(self, folder: Path) -> VaultSettings:
        """Load a file whose secrets come in all ways."""
        (folder / "number").write_text("4711081\n")
        write(folder, textwrap.dedent(self.BODY))
        secret = folder / "secrets" / "PYFLY_MESSAGING__RABBITMQ__EXCHANGE_NAME"
        secret.parent.mkdir()
        secret.write_text("hunter2")
        environ = {"DB_PASSWORD": "hunter2", "PYFLY_SECRETS_DIR": "secrets"}
        return VaultSettings.load(environ=environ)

    def test_reprs(self, folder: Path) -> None:
        """Neither the settings nor a section of them, however they were copied."""
        settings = self.load(folder)
        for each in (settings, copy.deepcopy(settings), pickle.loads(pickle.dumps(settings))):
            sections = [each.kafka, each.vault, each.rabbitmq, each.listener, each.listeners]
            said = f"{each!r} {each} {sections!r} {' '.join(map(str, sections))}"
            assert "hunter2" not in said
            assert "4711081" not in said
            assert "'metadata_max_age_ms': 7" in said
            assert "acks='all'" in said

    def test_values(self, folder: Path) -> None:
        """Attributes and `model_dump` have the values, and a copy made of them is equal."""
        settings = self.load(folder)
        assert (settings.motto, settings.password) == ("hunter2", "hunter2")
        assert settings.listener.retries == settings.kafka.options["request_timeout_ms"] == 4711081
        assert KafkaSettings(**settings.kafka.model_dump()) == settings.kafka
        assert Vault(**settings.vault.model_dump()) == settings.vault


class TestIsolation:
    """`isolated` keeps the machine out of a test."""

    def test_nothing_of_the_machine_is_read(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither files nor variables count, only what is given."""
        write(folder, "provider: kafka")
        (folder / ".env").write_text("PYFLY_MESSAGING__PUBLISH_TIMEOUT=9\n")
        monkeypatch.setenv("PYFLY_MESSAGING__KAFKA__LINGER", "9")
        monkeypatch.setenv("PYFLY_CONFIG", "pyfly.yaml")
        monkeypatch.setenv("PYFLY_PROFILES_ACTIVE", "production")
        with isolated():
            assert MessagingSettings() == MessagingSettings.load(environ={})
        assert MessagingSettings.load(profiles=[]).provider == "kafka"

    def test_overrides(self, folder: Path) -> None:
        """Overrides hold for every load inside; an inner block adds to the outer one."""
        kafka: dict[str, Any] = {"client_id": "x", "linger": 1}
        with isolated(provider="kafka", kafka=kafka):
            with isolated({"PYFLY_MESSAGING__PUBLISH_TIMEOUT": "2"}, kafka={"linger": 2}):
                settings = MessagingSettings(shutdown={"timeout": 1})
                assert (settings.provider, settings.publish_timeout) == ("kafka", 2.0)
                assert (settings.kafka.client_id, settings.kafka.linger) == ("x", 2.0)
            assert MessagingSettings().kafka.linger == 1.0
        assert MessagingSettings().provider == "memory"

    def test_file(self, folder: Path) -> None:
        """A file may be given."""
        write(folder, "provider: kafka", "test.yaml")
        with isolated(path="test.yaml"):
            assert MessagingSettings().provider == "kafka"


def test_address_form_with_higher_precedence_wins(tmp_path: Path) -> None:
    """Host and port from the environment overrule the URL of a file, and the reverse."""
    path = tmp_path / "pyfly.yaml"
    path.write_text("pyfly:\n  messaging:\n    rabbitmq:\n      url: amqp://a:b@file/\n")
    environ = {"PYFLY_MESSAGING__RABBITMQ__HOST": "mq", "PYFLY_MESSAGING__RABBITMQ__PORT": "5673"}
    rabbitmq = MessagingSettings.load(path, environ=environ).rabbitmq
    assert (rabbitmq.address.host, rabbitmq.address.port) == ("mq", 5673)
    path.write_text("pyfly:\n  messaging:\n    rabbitmq:\n      host: file\n")
    environ = {"PYFLY_MESSAGING__RABBITMQ__URL": "amqp://a:b@mq:5674/"}
    rabbitmq = MessagingSettings.load(path, environ=environ).rabbitmq
    assert (rabbitmq.address.host, rabbitmq.address.port) == ("mq", 5674)


def test_the_alias_of_a_secret_is_shown_nowhere(folder: Path) -> None:
    """What is a password at one place is masked at the others too, and set all the same."""
    secret = "hunter2-SeCrEt"
    body = f"kafka: {{client-id: &g {secret}}}\nrabbitmq: {{password: *g, username: *g}}"
    (folder / "pyfly.yaml").write_text(below_messaging(f"provider: memory\n{body}"))
    loaded = MessagingSettings.load(environ={})
    assert loaded.rabbitmq.username == loaded.kafka.client_id == secret
    said = [repr(loaded), repr(loaded.rabbitmq), repr(loaded.provenance.entries)]
    said += [render_values(effective_values(loaded), origins=True), repr(loaded.notes)]
    assert secret not in "\n".join(said)


def test_an_alias_of_no_secret_is_shown(folder: Path) -> None:
    """Values that several places share are quoted as long as none of the places is secret."""
    text = "servers: &s [broker:x]\n" + below_messaging("kafka: {bootstrap-servers: *s}")
    (folder / "pyfly.yaml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        MessagingSettings.load(environ={})
    assert "[broker:x]" in str(caught.value)


def test_the_error_of_an_aliased_secret_can_be_pickled_without_it(folder: Path) -> None:
    """A pickled error does not hold the secret either."""
    text = below_messaging("rabbitmq: {password: &pw hunter2-SeCrEt, port: *pw, username: *pw}")
    (folder / "pyfly.yaml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        MessagingSettings.load(environ={})
    assert b"hunter2" not in pickle.dumps(caught.value)
