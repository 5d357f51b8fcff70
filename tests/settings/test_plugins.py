"""Adapters of others: an entry point makes a provider and its section known, like ours."""

from __future__ import annotations

import copy
import importlib.metadata
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest
from jsonschema import Draft7Validator
from pydantic import BaseModel, SecretStr
from pydantic_settings import CliApp
from ruamel.yaml import YAML

from pyfly_messaging.errors import ConfigurationError
from pyfly_messaging.settings import (
    AdapterPlugin,
    Diagnostic,
    KafkaSettings,
    MessagingSettings,
    Origin,
    isolated,
    redacted_url,
)
from pyfly_messaging.settings.models.provider import providers
from pyfly_messaging.settings.plugins.installed import reserved
from pyfly_messaging.settings.validate import validate
from pyfly_messaging.settings.views.explain import explain, render_explanation
from pyfly_messaging.settings.views.reference import reference_yaml
from pyfly_messaging.settings.views.schema import json_schema
from pyfly_messaging.settings.views.show import effective_values, render_values
from tests.examples.distribution import PLUGIN, describe, install
from tests.settings.corpus import below_messaging

ROOT = Path(__file__).parent.parent.parent
PIGEONS = "provider: pigeon\npigeon:\n  loft: roof"

Install = Callable[..., str]


@pytest.fixture
def installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Install:
    """A function that makes a distribution look installed."""

    def make(names: dict[str, str], **options: str) -> str:
        return install(tmp_path_factory.mktemp("site"), monkeypatch, names, **options)

    return make


@pytest.fixture
def pigeon(installed: Install) -> str:
    """The module of an installed adapter with the provider `pigeon`."""
    return installed({"pigeon": "PLUGIN", "carrier-pigeon": "PLUGIN"})


def write(folder: Path, body: str, name: str = "pyfly.yaml") -> None:
    """Write a file with a section ``pyfly: messaging:``."""
    (folder / name).write_text(below_messaging(body), encoding="utf-8")


def problems(environ: Mapping[str, str] | None = None, **arguments: Any) -> tuple[Diagnostic, ...]:
    """Return what a load finds."""
    return validate(environ=environ or {}, **arguments).diagnostics


def place(found: Diagnostic) -> str:
    """Return where a diagnostic points."""
    return found.origin.place if found.origin is not None else ""


class TestSources:
    """The section takes its values from where ours do."""

    def test_yaml(self, folder: Path, pigeon: str) -> None:
        """A file chooses the provider and sets its section, in either spelling."""
        write(folder, "provider: carrier-pigeon\ncarrier_pigeon:\n  loft: 007\n  pigeons: 5")
        settings = MessagingSettings()
        section = settings.section("carrier-pigeon")
        assert section.model_dump() == {"loft": "007", "pigeons": 5, "token": None}
        assert settings.section("carrier_pigeon") is section
        assert str(settings.origin("carrier-pigeon.pigeons")) == "pyfly.yaml:6:16"
        assert settings.notes == ()

    def test_environment(self, folder: Path, pigeon: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Variables set single settings and win over files, profiles among them."""
        write(folder, PIGEONS)
        write(folder, "pigeon:\n  pigeons: 4\n  loft: tower", "pyfly-dev.yaml")
        monkeypatch.setenv("PYFLY_PROFILES_ACTIVE", "dev")
        monkeypatch.setenv("PYFLY_MESSAGING__PIGEON__PIGEONS", "7")
        monkeypatch.setenv("PYFLY_MESSAGING__PIGEON__TOKEN", "hunter2")
        settings = MessagingSettings()
        assert settings.section("pigeon").model_dump() == {
            "loft": "tower",
            "pigeons": 7,
            "token": SecretStr("hunter2"),
        }
        entries = settings.provenance.entries["pigeon", "pigeons"]
        assert [str(entry.origin) for entry in entries] == [
            "env PYFLY_MESSAGING__PIGEON__PIGEONS",
            "pyfly-dev.yaml:4:16",
        ]

    def test_section_in_one_variable(self, folder: Path, pigeon: str) -> None:
        """A variable may hold the whole section as JSON."""
        environ = {"PYFLY_MESSAGING__PIGEON": '{"loft": "roof", "pigeons": 9}'}
        settings = MessagingSettings.load(environ=environ, provider="pigeon")
        assert settings.section("pigeon").model_dump(include={"pigeons"}) == {"pigeons": 9}

    def test_arguments(self, folder: Path, pigeon: str) -> None:
        """A keyword argument sets the section, as a mapping or as an instance of its model."""
        write(folder, "provider: pigeon\npigeon:\n  loft: roof\n  pigeons: 4")
        settings = MessagingSettings(pigeon={"pigeons": 8})
        section = settings.section("pigeon")
        assert section.model_dump(exclude={"token"}) == {"loft": "roof", "pigeons": 8}
        assert settings.origin("pigeon.pigeons") == Origin("keyword", "pigeon.pigeons")
        assert MessagingSettings(provider="pigeon", pigeon=section).section("pigeon") == section

    def test_command_line(self, folder: Path, pigeon: str) -> None:
        """The command line of pydantic-settings can choose the provider."""
        write(folder, "pigeon:\n  loft: roof")
        settings = CliApp.run(MessagingSettings, cli_args=["--provider", "pigeon"])
        assert settings.provider == "pigeon"

    def test_isolation(self, pigeon: str) -> None:
        """What isolates a test from its machine takes the section like any other."""
        with isolated(provider="pigeon", pigeon={"loft": "roof"}):
            assert MessagingSettings().section("pigeon").model_dump(include={"loft"}) == {
                "loft": "roof"
            }

    def test_placeholders(self, folder: Path, pigeon: str) -> None:
        """Placeholders are expanded in the section, too."""
        write(folder, "provider: pigeon\npigeon:\n  loft: ${LOFT}-${SIDE:east}")
        settings = MessagingSettings.load(environ={"LOFT": "roof"})
        assert settings.section("pigeon").model_dump()["loft"] == "roof-east"

    def test_plain_model(self, folder: Path, installed: Install) -> None:
        """The model need not be a `Section`; and without a section it has its defaults."""
        installed({"plain": "PLAIN"})
        settings = MessagingSettings(provider="plain")
        assert settings.section("plain").model_dump() == {"size": 1}
        found = problems(provider="plain", plain={"siez": 2, "size": "x"})
        assert [(each.code, each.help) for each in found] == [
            ("CFG101", 'did you mean "size"?'),
            ("CFG103", "write digits only, for example 1"),
        ]


class TestSection:
    """Sections by name and by model."""

    def test_by_model(self, folder: Path, pigeon: str) -> None:
        """A section can be had by its model, which a type checker understands."""
        settings = MessagingSettings(provider="pigeon", pigeon={"loft": "roof"})
        model = type(settings.section("pigeon"))
        assert settings.section(model) is settings.section("pigeon")
        assert settings.section(KafkaSettings) is settings.kafka
        assert settings.section("kafka") is settings.kafka

    def test_missing(self, folder: Path, pigeon: str) -> None:
        """An adapter that is neither chosen nor configured has no section."""
        with pytest.raises(LookupError, match="there is no section pigeon; there are startup, "):
            MessagingSettings().section("pigeon")
        with pytest.raises(LookupError, match="no section BaseModel"):
            MessagingSettings().section(BaseModel)

    def test_kind(self, folder: Path, pigeon: str) -> None:
        """Settings with a section of others are `MessagingSettings`, and frozen."""
        settings = MessagingSettings(provider="pigeon", pigeon={"loft": "roof"})
        assert isinstance(settings, MessagingSettings)
        assert type(settings).__name__ == "MessagingSettings"
        with pytest.raises(ValueError, match="frozen"):
            settings.pigeon = None
        assert not hasattr(MessagingSettings(), "pigeon")

    def test_copies(self, folder: Path, pigeon: str) -> None:
        """Equal sections make equal settings, also those that were copied and pickled."""
        settings = MessagingSettings(provider="pigeon", pigeon={"loft": "roof"})
        same = MessagingSettings(provider="pigeon", pigeon={"loft": "roof"})
        other = MessagingSettings(provider="pigeon", pigeon={"loft": "tower"})
        assert settings == same != other
        assert settings == copy.deepcopy(settings) == pickle.loads(pickle.dumps(settings))
        assert settings.model_copy(update={"publish_timeout": 1.0}).section("pigeon")

    def test_subclass(self, folder: Path, pigeon: str) -> None:
        """A subclass can have another default provider, or a section of this name of its own."""

        class Ours(MessagingSettings):
            provider: str = "pigeon"

        class Mine(BaseModel):
            loft: int = 5

        class Theirs(MessagingSettings):
            pigeon: Mine = Mine()

        settings = Ours(pigeon={"loft": "roof"})
        assert isinstance(settings, Ours)
        assert settings.section("pigeon").model_dump(include={"loft"}) == {"loft": "roof"}
        assert Theirs(provider="pigeon").section(Mine).loft == 5


class TestReports:
    """What people are shown about the section."""

    def test_show(self, folder: Path, pigeon: str) -> None:
        """Every value is shown with its origin, and no secret."""
        write(folder, PIGEONS + "\n  token: hunter2")
        settings = MessagingSettings()
        lines = render_values(effective_values(settings), origins=True).splitlines()
        shown = [" ".join(line.split()) for line in lines if line.startswith("pigeon")]
        assert shown == [
            'pigeon.loft "roof" pyfly.yaml:5:13',
            "pigeon.pigeons 3 default",
            "pigeon.token ****** pyfly.yaml:6:14",
        ]
        assert "hunter2" not in repr(settings) + repr(settings.provenance.entries)

    def test_explain(self, folder: Path, pigeon: str) -> None:
        """A setting is explained by its name or its variable, whether it is used or not."""
        write(folder, PIGEONS)
        settings = MessagingSettings()
        explained = explain("pigeon.pigeons")
        assert render_explanation(explained).splitlines() == [
            "pyfly.messaging.pigeon.pigeons",
            "  How many there are.",
            "  type        whole number, at least 1",
            "  default     3",
            "  variable    PYFLY_MESSAGING__PIGEON__PIGEONS",
            "  in YAML     pyfly: messaging: pigeon: pigeons:",
        ]
        assert explain("PYFLY_MESSAGING__CARRIER_PIGEON__LOFT").default == "must be given"
        current = explain("pigeon.loft", settings)
        assert (current.current, current.origin) == ('"roof"', "pyfly.yaml:5:13")
        assert explain("carrier-pigeon.loft", settings).current == ""

    def test_explain_lists_it(self, pigeon: str) -> None:
        """The list of all sections has those of installed adapters, with what they are for."""
        assert ("pigeon", "Pigeons that carry the messages.") in explain("").children
        assert [name for name, _ in explain("pigeon").children] == ["loft", "pigeons", "token"]

    def test_schema(self, folder: Path, pigeon: str) -> None:
        """An editor completes and checks the section."""
        validator = Draft7Validator(json_schema())
        yaml = YAML(typ="safe", pure=True)
        good = yaml.load(below_messaging("provider: pigeon\ncarrier-pigeon:\n  loft: roof"))
        bad = yaml.load(below_messaging("pigeon:\n  lotf: roof\n  pigeons: 0"))
        assert not list(validator.iter_errors(good))
        assert len(list(validator.iter_errors(bad))) == 2

    def test_reference(self, folder: Path, pigeon: str) -> None:
        """The reference for the provider has its section, and loads with what must be given."""
        text = reference_yaml("pigeon")
        assert "    # Pigeons that carry the messages.\n    pigeon:\n" in text
        assert "kafka:" not in text
        (folder / "pyfly.yaml").write_text(text)
        settings = MessagingSettings(pigeon={"loft": "roof"})
        assert settings.provider == "pigeon"
        assert settings.notes == ()

    def test_unused(self, folder: Path, pigeon: str) -> None:
        """A section without the provider is a warning, as for ours."""
        write(folder, "carrier-pigeon:\n  loft: roof")
        (found,) = MessagingSettings().notes
        assert (found.code, place(found)) == ("CFG211", "pyfly.yaml:4:13")
        assert found.message == "carrier-pigeon is configured, but the provider is memory"
        assert found.help == "set provider: carrier-pigeon, or remove the section"


class TestDiagnostics:
    """Mistakes in the section are reported as those in ours."""

    def test_values_and_keys(self, folder: Path, pigeon: str) -> None:
        """Wrong keys and values have their places and ways out, and a secret stays one."""
        write(folder, PIGEONS + "\n  pigoens: 2\n  pigeons: many\n  token: [hunter2]")
        found = problems()
        assert [(each.code, place(each)) for each in found] == [
            ("CFG101", "pyfly.yaml:6:7"),
            ("CFG103", "pyfly.yaml:7:16"),
            ("CFG103", "pyfly.yaml:8:14"),
        ]
        assert found[0].help == 'did you mean "pigeons"?'
        assert found[1].label == "expected whole number (at least 1), got 'many'"
        assert "hunter2" not in repr(found)

    def test_limit_in_a_variable(self, folder: Path, pigeon: str) -> None:
        """A value out of range is reported by its variable."""
        environ = {
            "PYFLY_MESSAGING__PROVIDER": "pigeon",
            "PYFLY_MESSAGING__PIGEON__LOFT": "roof",
            "PYFLY_MESSAGING__PIGEON__PIGEONS": "0",
        }
        (found,) = problems(environ)
        assert (found.code, place(found)) == ("CFG104", "env PYFLY_MESSAGING__PIGEON__PIGEONS")

    def test_missing_setting(self, folder: Path, pigeon: str) -> None:
        """What must be given is missed by its full name, also where there is no section at all."""
        for found in (problems(provider="pigeon"), problems(pigeon={})):
            assert [(each.code, each.message) for each in found if each.severity == "error"] == [
                ("CFG112", "pyfly.messaging.pigeon.loft is missing")
            ]
        assert found[0].help == "set it in the file, or as PYFLY_MESSAGING__PIGEON__LOFT"

    def test_missing_and_wrong_is_one_mistake(self, folder: Path, pigeon: str) -> None:
        """A setting that must be given and is given without a value is one mistake, not two."""
        write(folder, "provider: pigeon\npigeon:\n  loft:\n    - a")
        assert [found.code for found in problems()] == ["CFG103"]

    def test_suggestions(self, folder: Path, pigeon: str) -> None:
        """A slip in the name of provider or section leads to the installed one."""
        write(folder, "provider: pigen\npigoen:\n  loft: roof")
        found = problems({"PYFLY_MESSAGING__PIGEONN__LOFT": "roof"})
        assert [(each.code, each.help) for each in found] == [
            ("CFG102", 'did you mean "pigeon"?'),
            ("CFG101", 'did you mean "pigeon"?'),
            ("ENV001", "did you mean PYFLY_MESSAGING__PIGEON__LOFT?"),
        ]
        with pytest.raises(LookupError, match=r'did you mean "pigeon"\?'):
            explain("pigoen")

    def test_slip_in_the_section(self, folder: Path, pigeon: str) -> None:
        """A slip in the name of the section is one mistake: nothing in it is missed as well."""
        write(folder, "provider: pigeon\npigoen:\n  loft: roof")
        assert [each.code for each in problems()] == ["CFG101"]
        write(folder, "provider: pigeon")
        environ = {"PYFLY_MESSAGING__PIGEONN__LOFT": "roof"}
        assert [each.code for each in problems(environ)] == ["ENV001"]
        write(folder, "provider: pigeon\nkafak:\n  client-id: shop")
        assert [each.code for each in problems()] == ["CFG101", "CFG112"]

    def test_not_installed(self, folder: Path) -> None:
        """A provider that nobody has installed is refused with the ones there are."""
        (found,) = problems(provider="pigeon")
        assert found.label == ("expected one of: memory, kafka, rabbitmq, auto, got 'pigeon'")


class TestUnusable:
    """What is wrong with an installed adapter is one error that names its distribution."""

    def test_import_fails(self, folder: Path, installed: Install) -> None:
        """An adapter that cannot be imported is reported where it was chosen."""
        module = installed({"pigeon": "PLUGIN"}, code="import not_there_at_all\n")
        write(folder, PIGEONS)
        with pytest.raises(ConfigurationError) as caught:
            MessagingSettings()
        (found,) = caught.value.diagnostics
        assert (found.code, place(found)) == ("CFG218", "pyfly.yaml:3:15")
        assert found.message == (
            "the adapter 'pigeon' of the distribution pigeon-post cannot be used"
        )
        assert found.label == (
            f"{module}:PLUGIN: ModuleNotFoundError: No module named 'not_there_at_all'"
        )
        assert "help: repair or uninstall the distribution pigeon-post" in str(caught.value)
        assert caught.value.__cause__ is None

    def test_no_such_object(self, folder: Path, installed: Install) -> None:
        """A module without the object that the entry point names is reported at the section."""
        installed({"pigeon": "PLUGGED_IN"})
        (found,) = problems({"PYFLY_MESSAGING__PIGEON__LOFT": "roof"})
        assert (found.code, place(found)) == ("CFG218", "env PYFLY_MESSAGING__PIGEON__LOFT")
        assert "AttributeError" in found.label

    def test_wrong_type(self, folder: Path, installed: Install) -> None:
        """An entry point that is no `AdapterPlugin` is refused."""
        module = installed({"pigeon": "NOTHING"})
        (found,) = problems(provider="pigeon", pigeon={"loft": "roof"})
        assert found.code == "CFG218"
        assert found.label == f"{module}:NOTHING is of the type object, not an AdapterPlugin"

    def test_two_distributions(self, folder: Path, installed: Install) -> None:
        """A name that two distributions offer is refused with both of them."""
        installed({"pigeon": "PLUGIN"})
        installed({"pigeon": "PLUGIN"}, distribution="other-post")
        (found,) = problems(provider="pigeon")
        assert found.message == (
            "the adapter 'pigeon' is offered by the distribution other-post and the distribution"
            " pigeon-post"
        )

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("kafka", "this library uses the name itself"),
            ("listeners", "this library uses the name itself"),
            ("model-dump", "this library uses the name itself"),
            ("Pigeon", "a name has lower-case letters and digits, with '-' or '_' in between"),
        ],
    )
    def test_impossible_name(
        self, folder: Path, pigeon: str, installed: Install, name: str, reason: str
    ) -> None:
        """A name that this library needs, or that no variable can have, is a warning to others."""
        installed({name: "PLUGIN"}, distribution="bad-post")
        (found,) = MessagingSettings(provider="pigeon", pigeon={"loft": "roof"}).notes
        assert (found.code, found.label, found.severity) == ("CFG218", reason, "warning")
        assert found.message == (
            f"the distribution bad-post offers an adapter of the impossible name {name!r}"
        )

    def test_impossible_name_asked_for(self, folder: Path, installed: Install) -> None:
        """Whoever asks for an impossible name is told so at the place, once."""
        installed({"My_Caps": "PLUGIN"}, distribution="bad-post")
        write(folder, "provider: My_Caps\nmy-caps:\n  loft: roof")
        (found,) = problems()
        assert (found.code, place(found), found.severity) == ("CFG218", "pyfly.yaml:3:15", "error")
        write(folder, "my-caps:\n  loft: roof")
        (found,) = [each for each in problems() if each.severity == "error"]
        assert (found.code, place(found)) == ("CFG218", "pyfly.yaml:4:7")

    def test_impossible_name_spoils_no_list(
        self, folder: Path, pigeon: str, installed: Install
    ) -> None:
        """The schema and the list of sections have the good ones."""
        installed({"My_Caps": "PLUGIN", "kafka": "PLUGIN"}, distribution="bad-post")
        names = [name for name, _ in explain("").children]
        assert "pigeon" in names
        assert not {"my-caps", "my_caps", "My_Caps"} & set(names)
        assert names.count("kafka") == 1
        assert "pigeon" in str(json_schema())

    def test_two_spellings(self, folder: Path, pigeon: str, installed: Install) -> None:
        """Two distributions whose names differ in '-' and '_' have one section: both are named."""
        installed({"carrier_pigeon": "PLUGIN"}, distribution="other-post")
        found = problems(provider="carrier-pigeon")
        assert [each.code for each in found] == ["CFG218"]
        assert "offered by the distribution other-post and" in found[0].message

    def test_reserved_names(self) -> None:
        """No adapter can take a name that the settings need for themselves."""
        names = {*MessagingSettings.model_fields, *dir(MessagingSettings)}
        assert {name for name in names if not name.startswith("_")} <= reserved()

    def test_only_impossible_names(self, folder: Path, installed: Install) -> None:
        """Choosing an adapter by its impossible name is the same error."""
        installed({"listeners": "PLUGIN"})
        (found,) = problems(provider="listeners")
        assert found.code == "CFG218"

    def test_ours_goes_before(self, folder: Path, installed: Install) -> None:
        """The name of one of ours always means ours."""
        installed({"kafka": "PLUGIN"})
        assert MessagingSettings(provider="kafka").section("kafka") == KafkaSettings()
        assert providers().count("kafka") == 1

    def test_lists_without_it(self, folder: Path, installed: Install) -> None:
        """A broken adapter spoils neither the list of sections nor the schema: they name it."""
        installed({"pigeon": "PLUGIN"}, code="1 / 0\n")
        meaning = dict(explain("").children)["pigeon"]
        assert "the distribution pigeon-post cannot be used" in meaning
        assert "ZeroDivisionError" in meaning
        properties = json_schema()["properties"]["pyfly"]["properties"]["messaging"]["properties"]
        assert properties["pigeon"]["type"] == ["object", "null"]

    def test_its_error_shows_no_secret(self, folder: Path, installed: Install) -> None:
        """The password of a URL in the text of an import's error is not shown."""
        code = "raise RuntimeError('no amqp://app:hunter2@mq/')\n"
        installed({"pigeon": "PLUGIN"}, code=code)
        with pytest.raises(ConfigurationError) as caught:
            MessagingSettings(provider="pigeon")
        assert "amqp://app:******@mq/" in str(caught.value)
        assert "hunter2" not in repr(caught.value.diagnostics) + str(caught.value)

    def test_its_error_has_no_text(self, folder: Path, installed: Install) -> None:
        """An error of an import whose text raises an exit is a finding like any other."""
        code = (
            "class Mute(Exception):\n"
            "    def __str__(self):\n"
            "        raise SystemExit(3)\n"
            "raise Mute\n"
        )
        installed({"pigeon": "PLUGIN"}, code=code)
        (found,) = problems(provider="pigeon")
        assert "Mute: (its text is not available: SystemExit)" in str(found)

    @pytest.mark.parametrize(
        ("body", "problem"),
        [
            ("raise ZeroDivisionError(self.loft)", "failed with ZeroDivisionError (adapter_for"),
            ("raise ValueError(self.loft)", "failed with ValueError (adapter_for"),
            ("return None", "failed with TypeError (base.py:"),
            ("yield self.loft", "yields str, which is no Conflict"),
        ],
    )
    def test_conflicts_fail(
        self, folder: Path, installed: Install, body: str, problem: str
    ) -> None:
        """A check of its section that fails is a finding at the section's place, beside others."""
        line = "    token: SecretStr | None = None\n"
        check = f"    def conflicts(self):\n        {body}\n"
        installed({"pigeon": "PLUGIN"}, code=PLUGIN.replace(line, line + check))
        write(folder, "provider: pigeon\npigeon:\n  loft: hunter2\nkafka:\n  linger: soon")
        found = {diagnostic.code: diagnostic for diagnostic in problems()}
        assert set(found) == {"CFG218", "CFG105"}
        failed = found["CFG218"]
        assert failed.message.startswith(
            f"pyfly.messaging.pigeon: CarrierSettings.conflicts() {problem}"
        )
        assert (failed.setting, place(failed)) == ("pyfly.messaging.pigeon", "pyfly.yaml:4:5")
        assert "hunter2" not in repr(failed) + str(failed)

    def test_not_a_plugin(self) -> None:
        """An `AdapterPlugin` refuses settings that are no model, and what cannot be called."""

        def build(settings: BaseModel, /, **_: object) -> NoReturn:
            raise NotImplementedError

        with pytest.raises(TypeError, match="settings must be a pydantic model, got <class 'int'>"):
            AdapterPlugin(settings=int, build=build)  # type: ignore[misc]
        with pytest.raises(TypeError, match="build must be callable, got None"):
            AdapterPlugin(settings=KafkaSettings, build=None)  # type: ignore[arg-type]


ROOST = """
from pydantic import SecretStr

from pyfly_messaging.adapters.memory import InMemoryMessageBroker
from pyfly_messaging.settings import AdapterPlugin, SecretUrl, Section

class RoostSettings(Section):
    server: SecretUrl = SecretStr("redis://app:hunter2@localhost:6379/0")
    spare: SecretUrl | None = None

def build(settings, *, timeouts, policy):
    return InMemoryMessageBroker(timeouts=timeouts, policy=policy)

PLUGIN = AdapterPlugin(settings=RoostSettings, build=build)
"""


class TestSecretUrl:
    """The type for a URL with a password, whatever the setting is called."""

    @pytest.fixture(autouse=True)
    def roost(self, installed: Install) -> None:
        installed({"roost": "PLUGIN"}, code=ROOST)

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("redis://app:hunter2@mq:6379/0", "redis://app:******@mq:6379/0"),
            ("redis://:hunter2@mq", "redis://:******@mq"),
            ("redis://mq:6379/0", "redis://mq:6379/0"),
            ("redis://mq/?password=hunter2", "******"),
            ("redis://hunter2@mq", "******"),
            ("redis://app:hun/ter2@mq", "******"),
        ],
    )
    @pytest.mark.parametrize("field", ["server", "spare"])
    def test_shown(self, folder: Path, field: str, url: str, shown: str) -> None:
        """It is shown without its password, not at all in doubt; repr and dump show nothing."""
        write(folder, f"provider: roost\nroost:\n  {field}: {url}")
        settings = MessagingSettings.load()
        section: Any = settings.section("roost")
        assert getattr(section, field).get_secret_value() == url
        assert redacted_url(getattr(section, field)) == redacted_url(url) == shown
        values = {value.setting: value.value for value in effective_values(settings)}
        assert values[f"roost.{field}"] == shown
        everything = (
            render_values(effective_values(settings), origins=True),
            repr(section),
            repr(section.model_dump()),
            section.model_dump_json(),
            repr(settings),
        )
        for text in everything:
            assert "hunter2" not in text
            assert "ter2" not in text

    @pytest.mark.parametrize(
        "url", ["hunter2", "redis:hunter2", "redis://", "redis:///0", "''", "1"]
    )
    def test_no_url(self, folder: Path, url: str) -> None:
        """What is no URL is refused, and not repeated."""
        write(folder, f"provider: roost\nroost:\n  server: {url}")
        (found,) = problems()
        assert found.code in {"CFG106", "CFG108"}
        assert place(found) == "pyfly.yaml:5:15"
        assert "hunter2" not in repr(found) + str(found)

    def test_slip(self, folder: Path) -> None:
        """A report of another mistake shows the line of the URL without its password."""
        write(folder, "provider: roost\nroost: {server: 'redis://app:hunter2@mq', spar: 1}")
        with pytest.raises(ConfigurationError) as caught:
            MessagingSettings.load()
        assert "hunter2" not in str(caught.value)


class TestLaziness:
    """Who uses ours pays nothing for those of others."""

    def test_no_lookup(self, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Loading and explaining what is ours looks up no entry point."""

        def refuse(**_: str) -> NoReturn:
            raise AssertionError("looked up")

        monkeypatch.syspath_prepend(str(tmp_path))  # so that no earlier lookup counts
        monkeypatch.setattr(importlib.metadata, "entry_points", refuse)
        write(folder, "provider: kafka\nkafka:\n  client-id: shop")
        MessagingSettings()
        explain("kafka.client-id")
        with pytest.raises(AssertionError, match="looked up"):
            validate(provider="pigeon")

    def test_import_when_named(self, folder: Path, pigeon: str) -> None:
        """An installed adapter is imported when it is chosen, and not before."""
        MessagingSettings(kafka={"client_id": "shop"})
        assert providers()[-2:] == ("carrier-pigeon", "pigeon")
        assert pigeon not in sys.modules
        MessagingSettings(provider="pigeon", pigeon={"loft": "roof"})
        assert pigeon in sys.modules

    def test_no_import_of_it_all(self, folder: Path) -> None:
        """A load without adapters of others does not even import what would find them."""
        code = (
            "import sys; from pyfly_messaging import MessagingSettings\n"
            "MessagingSettings(provider='memory')\n"
            "print(*sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
        )
        ours = {name for name in done.stdout.split() if name.startswith("pyfly_messaging.settings")}
        assert not [name for name in ours if name.startswith("pyfly_messaging.settings.plugins")]


def test_several_distributions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several distributions in one folder each bring their own adapters."""
    install(folder, monkeypatch, {"pigeon": "PLUGIN"})
    describe(folder, "other-post", "broken = nowhere_at_all:PLUGIN\n")
    settings = MessagingSettings(provider="pigeon", pigeon={"loft": "roof"})
    assert settings.provider == "pigeon"
    (found,) = problems(provider="broken")
    assert "the distribution other-post" in found.message
