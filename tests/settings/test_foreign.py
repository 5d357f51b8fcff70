"""Sections of others may have types that ours do not: they are read, shown and refused as well."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from jsonschema import Draft7Validator
from ruamel.yaml import YAML

from pyfly_messaging.settings import Conflict, Diagnostic, MessagingSettings, Section
from pyfly_messaging.settings.diagnostics.report import render_report, report_json
from pyfly_messaging.settings.validate import Validation, validate
from pyfly_messaging.settings.views.explain import explain, render_explanation
from pyfly_messaging.settings.views.reference import must_be_given, reference_yaml
from pyfly_messaging.settings.views.schema import json_schema
from pyfly_messaging.settings.views.show import effective_values, render_values
from tests.examples.distribution import install
from tests.settings.corpus import below_messaging
from tests.settings.foreign import CODE, SECRET

PROVIDERS = {"zoo": "PLUGIN", "loose": "LOOSE", "needed": "NEEDED"}


@pytest.fixture(autouse=True)
def installed(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The distribution is installed, and nothing else says anything."""
    install(tmp_path_factory.mktemp("site"), monkeypatch, PROVIDERS, code=CODE)


def load(body: str, environ: Mapping[str, str] | None = None, provider: str = "zoo") -> Validation:
    """Load a section from a file, and from variables by their last part."""
    section = "".join(f"\n  {line}" for line in body.splitlines())
    text = below_messaging(f"provider: {provider}" + (f"\n{provider}:{section}" if body else ""))
    Path("pyfly.yaml").write_text(text, encoding="utf-8")
    prefix = f"PYFLY_MESSAGING__{provider.upper()}__"
    return validate(environ={prefix + name: value for name, value in (environ or {}).items()})


def loaded(body: str, environ: Mapping[str, str] | None = None) -> dict[str, object]:
    """Return the section that a load gives."""
    validation = load(body, environ)
    assert validation.settings is not None, validation.render()
    return dict(validation.settings.section("zoo"))


def only(body: str, environ: Mapping[str, str] | None = None) -> Diagnostic:
    """Return the one thing that a load finds."""
    (found,) = load(body, environ).diagnostics
    return found


def everything(validation: Validation) -> str:
    """Return all that could be printed of a load."""
    said = [validation.render(colour=True), validation.to_json(), repr(validation.diagnostics)]
    if (settings := validation.settings) is not None:
        values = effective_values(settings)
        said += [repr(settings), str(settings), repr(settings.provenance.entries)]
        said += [render_values(values, origins=True), json.dumps([v.as_dict() for v in values])]
        said += [
            render_explanation(explain(value.setting, settings))
            for value in values
            if "zoo" in value.setting or "loose" in value.setting
        ]
    return "\n".join(said)


class TestViews:
    """What people and editors see of defaults that JSON has no words for."""

    def test_schema(self) -> None:
        """The schema is JSON, shows no secret, and takes what the loader takes."""
        schema = json_schema()
        assert SECRET not in json.dumps(schema)
        Draft7Validator.check_schema(schema)
        yaml = YAML(typ="safe", pure=True)
        body = "zoo:\n  tags: [a]\n  names: a,b\n  servers: [{port: 5}]\n  pause: 5m"
        assert not list(Draft7Validator(schema).iter_errors(yaml.load(below_messaging(body))))
        bad = "zoo:\n  servers: [{port: 0}, {prot: 5}]\n  numbers: [x]"
        assert list(Draft7Validator(schema).iter_errors(yaml.load(below_messaging(bad))))

    def test_reference(self) -> None:
        """The file that init writes loads as the defaults, and shows no secret."""
        text = reference_yaml("zoo")
        assert SECRET not in text
        Path("pyfly.yaml").write_text(text, encoding="utf-8")
        written = MessagingSettings()
        assert written.notes == ()
        Path("pyfly.yaml").unlink()
        assert written.section("zoo") == MessagingSettings(provider="zoo").section("zoo")

    @pytest.mark.parametrize(
        "line",
        [
            "      pause: PT1M30S",
            '      tags: ["a", "b"]',
            "      colour: red",
            "      store: /var/lib/zoo",
            "      # cache:",
            "      # odd:",
            "      # nested:",
            '      labels: {"a": "b"}',
        ],
    )
    def test_reference_line(self, line: str) -> None:
        """A default stands there as a file can have it; what no file can have is a comment."""
        assert line in reference_yaml("zoo").splitlines()

    def test_must_be_given(self) -> None:
        """What must be given is marked."""
        lines = reference_yaml("needed").splitlines()
        at = lines.index("      # name:")
        assert lines[at - 1] == "      # What it is called. (text) Must be given."
        assert must_be_given("needed") == ["needed.name"]
        assert must_be_given("zoo") == must_be_given("kafka") == must_be_given(None) == []

    def test_explain_list_of_sections(self) -> None:
        """A part of a list is explained by the name that reports give it."""
        found = explain("zoo.servers[1].host-name")
        assert found.setting == "pyfly.messaging.zoo.servers[].host-name"
        assert found.variable == "PYFLY_MESSAGING__ZOO__SERVERS"
        assert found.yaml[2:] == ("zoo", "servers", "- host-name")
        assert explain("zoo.servers").type == "list of sections"
        assert "port" in dict(explain("zoo.servers").children)
        assert explain("zoo.limits.a").type == "whole number"

    def test_nothing_is_shown(self) -> None:
        """Secret defaults are shown nowhere."""
        assert SECRET not in everything(load(""))


class TestReading:
    """Values are read as those of our own types."""

    def test_comma_text(self) -> None:
        """A list of single values may be text with commas, or JSON."""
        environ = {"NAMES": "a, b", "NUMBERS": "[1, 2]", "TAGS": "x"}
        section = loaded("", environ)
        assert (section["names"], section["numbers"], section["tags"]) == (
            ["a", "b"],
            [1, 2],
            {"x"},
        )
        assert loaded("numbers: 5")["numbers"] == [5]

    def test_text_of_a_reader_of_its_own(self) -> None:
        """Text is left to the author of a field who reads it first."""
        section = loaded("halves: a;b", {"PARTS": "c,d;e"})
        assert (section["halves"], section["parts"]) == (["a", "b"], ["c,d", "e"])

    def test_durations(self) -> None:
        """A timedelta takes durations in our spelling, and in that of ISO 8601."""
        section = loaded("pause: 5m\npauses: [PT10S, 500ms]")
        assert str(section["pause"]) == "0:05:00"
        assert [str(each) for each in section["pauses"]] == ["0:00:10", "0:00:00.500000"]  # type: ignore[attr-defined]

    def test_text_in_a_mapping(self) -> None:
        """Text by name stays as it is written, in a file and in a variable."""
        section = loaded("labels: {a: 5, b: 007}", {"LABELS__C": "08"})
        assert section["labels"] == {"a": "5", "b": "007", "c": "08"}

    def test_list_of_sections(self) -> None:
        """Keys in a list of sections have both spellings, and placeholders are expanded."""
        validation = load("servers:\n  - host-name: ${HOST:a}\n  - host_name: b\n    port: 5\n  -")
        assert validation.settings is not None, validation.render()
        servers = dict(validation.settings.section("zoo"))["servers"]
        assert [(s.host_name, s.port) for s in servers] == [("a", 1), ("b", 5), ("localhost", 1)]
        assert str(validation.settings.origin("zoo.servers")) == "pyfly.yaml:6:9"

    def test_sections_replace_each_other(self) -> None:
        """A list of a higher precedence replaces the whole list, and its origin is shown."""
        validation = load("servers: [{port: 5}]", {"SERVERS": '[{"host-name": "a"}]'})
        assert validation.settings is not None
        (server,) = dict(validation.settings.section("zoo"))["servers"]
        assert (server.host_name, server.port) == ("a", 1)
        lines = render_values(effective_values(validation.settings), origins=True).splitlines()
        at = next(n for n, line in enumerate(lines) if line.startswith("zoo.servers"))
        assert lines[at].split(maxsplit=1)[1].split("  ")[0] == '[{"host_name": "a"}]'
        assert lines[at + 1].strip() == 'overrides pyfly.yaml:5:16 = [{"port": 5}]'


class TestRefusals:
    """One mistake is one error at its place, with a reason and a way out that fit each other."""

    def test_in_a_list_of_sections(self) -> None:
        """Mistakes in lists of sections are named and located like all others."""
        found = load(
            "servers:\n  - port: x\n  - prot: 2\n  - port: 0\n  - a\n  - {port: 1, port: 2}"
        ).diagnostics
        assert [(each.code, each.setting.rpartition("zoo.")[2]) for each in found] == [
            ("CFG103", "servers[0].port"),
            ("CFG101", "servers[1].prot"),
            ("CFG104", "servers[2].port"),
            ("CFG110", "servers[3]"),
            ("CFG012", "servers[4]"),
        ]
        places = [each.origin.place for each in found if each.origin is not None]
        assert places == [
            f"pyfly.yaml:{place}" for place in ("6:17", "7:11", "8:17", "9:11", "10:21")
        ]
        assert found[1].help == 'did you mean "port"?'

    def test_in_a_list_of_a_variable(self) -> None:
        """In a variable they are named, and located by the variable."""
        found = only("", {"FLEET": '[{}, {"port": "x"}]'})
        assert found.message == "invalid value for pyfly.messaging.zoo.fleet[1].port"
        assert found.origin is not None
        assert found.origin.place == "env PYFLY_MESSAGING__ZOO__FLEET"
        found = only("", {"FLEET": "a,b"})
        assert (found.code, found.help) == ("ENV006", 'write JSON: [{"key": "value"}]')

    def test_list_expected(self) -> None:
        """Text for a list of sections comes with how to write one."""
        found = only("servers: a")
        assert found.label == "expected list of sections, got text"
        assert found.help.startswith("write a list below it: each item begins with '-'")

    @pytest.mark.parametrize(
        ("body", "code", "label", "help_"),
        [
            (
                "limits: {a: x}",
                "CFG103",
                "expected whole number, got 'x'",
                "write digits only, for example 1",
            ),
            ("numbers: 1,x", "CFG103", "expected whole number, got 'x'", "write digits only"),
            (
                "choice: autp",
                "CFG103",
                "expected whole number or one of: auto, got 'autp'",
                'did you mean "auto"?',
            ),
            ("amount: x", "CFG103", "expected whole number or number, got 'x'", "write a value of"),
            (
                "either: {a: 1}",
                "CFG103",
                "Input should be a valid integer, got dict",
                "write a val",
            ),
            ("day: x", "CFG103", "expected date, got 'x'", "for example 2030-01-31"),
            ("id: x", "CFG103", "expected UUID, got 'x'", "for example 123e4567"),
            ("pause: 5x", "CFG105", "expected duration, got '5x'", "write seconds, or use ms"),
            ("colour: bleu", "CFG102", "expected one of: red, blue", 'did you mean "blue"?'),
            (
                "cache: nope",
                "CFG103",
                "Input should be a valid URL, relative URL without a base, got 'nope'",
                "for example https://host:443/path",
            ),
            (
                "cache: http://a",
                "CFG100",
                "URL scheme should be 'redis' or 'rediss', got 'http://a'",
                "ask `pyfly-messaging config explain`",
            ),
            ("even: 3", "CFG100", "3 is odd, got 3", "ask `pyfly-messaging config explain`"),
            ("motto: two", "ZOO007", "", "give one"),
        ],
    )
    def test_value(self, body: str, code: str, label: str, help_: str) -> None:
        """The reason is that of the type, else that of pydantic or of the validator."""
        found = only(body)
        assert found.code == code
        assert found.label.startswith(label)
        assert found.help.startswith(help_)

    def test_several_models(self) -> None:
        """Of several models the nearest one is taken, and what it misses is said."""
        found = load("points:\n  - {x: a}\n  - {}").diagnostics
        assert [(each.setting.rpartition("zoo.")[2], each.label) for each in found] == [
            (
                "points[0].x",
                "Input should be a valid integer, unable to parse string as an integer, got 'a'",
            ),
            ("points[1]", "x is missing, got dict"),
        ]
        assert [each.setting[-13:] for each in load("mixed: [{size: x}]").diagnostics] == [
            "mixed[0].size"
        ]

    def test_missing(self) -> None:
        """A part of a section that must be given is missed by its name."""
        found = only("nested: {depth: 1}")
        assert (found.code, found.message) == (
            "CFG112",
            "pyfly.messaging.zoo.nested.name is missing",
        )
        assert [each.code for each in load("nested: {naem: x}").diagnostics] == ["CFG101"]


class TestSecrets:
    """What is secret is shown nowhere, whatever type it has and whoever repeats it."""

    @pytest.mark.parametrize(
        "body",
        [
            "pin: {0}", "blob: {0}", "hushed: {0}", "cache: redis://a:{0}@b",
            "cache: redis://{0}@b", "cache: redis:/a:{0}@b:bad/", "cache: redis://a:{0}",
            "caches: [redis://a:{0}@b, x]", "caches: redis://a:{0},b@c", "chips: [{0}, {0}]",
            "chips: {{a: {0}}}", "endpoint-url: http://{0}@b", "pair: [{0}, x]", "pair: {0}",
            "secrets-by-name: {{a: {0}}}", "secrets-by-name: {{a: [{0}]}}",
            "limits: {{api-token: {0}}}", "labels: {{password: {0}}}",
            "servers: [{{password: {0}, port: x}}]", "servers: [{{password: {0}}}]",
            "servers: [{{pin: {0}}}]", "servers: [{{pin: [{0}]}}]",
            "servers: [{{address: 'redis://a:{0}@b'}}]", "servers: [{{pasword: {0}}}]",
            "mixed: [{{kind: plain, key: {0}}}]", "mixed: [{{kind: odd, key: {0}}}]",
            "points: [{{x: 1, token: {0}}}]", "points: [{{x: y, token: {0}}}]",
            "database: amqp://a:{0}@b", "database: http://a:{0}@b", "hushed: no {0}",
            "motto: 'no ${{DB_PASSWORD}}'", "motto: '${{DB_PASSWORD}}'",
            "motto: 'own ${{DB_PASSWORD}}'", "names: ['${{DB_PASSWORD}}', b]",
            "pin: {0}\neven: 2", "pin: {0}\neven: 4", "cache: redis://a:{0}@b\neven: 2",
            "servers: [{{host-name: '${{DB_PASSWORD}}'}}]", "labels: {{a: '${{DB_PASSWORD}}'}}",
        ],
    )  # fmt: skip
    def test_secret(self, body: str) -> None:
        """No report, list, explanation or repr has it."""
        validation = load(body.format(SECRET))
        assert SECRET not in validation.render(), body
        with_variable = validate(environ={"DB_PASSWORD": SECRET})
        said = everything(validation) + render_report(with_variable.diagnostics)
        said += report_json(with_variable.diagnostics)
        if with_variable.settings is not None:
            said += render_values(effective_values(with_variable.settings), origins=True)
        assert SECRET not in said

    @pytest.mark.parametrize(
        "body",
        [
            "name: a\npassword: {0}", "name: a\naddress: redis://a:{0}@b", "name: a\ntokens: [{0}]",
            "name: a\nserver: {{key: {0}}}", "name: a\nserver: {{key: {0}, size: x}}",
            "password: {0}",
        ],
    )  # fmt: skip
    def test_model_that_tells_all(self, body: str) -> None:
        """A model that is not built on ours keeps its secrets in the settings, too."""
        assert SECRET not in everything(load(body.format(SECRET), provider="loose"))


def test_conflict_is_public() -> None:
    """An adapter reports settings that do not go together, under a code of its own."""
    assert issubclass(type(Conflict(code="X1", fields=("a",), message="", help="")), Conflict)
    assert list(Section().conflicts()) == []
