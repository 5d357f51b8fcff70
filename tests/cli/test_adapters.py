"""The commands where adapters of others are installed."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, Invoke, Run, Write
from tests.examples.distribution import describe, install
from tests.settings.foreign import CODE, SECRET


@pytest.fixture(autouse=True)
def site(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the adapters are installed in."""
    folder = tmp_path_factory.mktemp("site")
    install(folder, monkeypatch, {"zoo": "PLUGIN", "needed": "NEEDED"}, code=CODE)
    return folder


def test_init(invoke: Invoke, project: Path) -> None:
    """What must be given is marked in the file, and named as the next step."""
    result = invoke("init", "--provider", "needed", "--output", "pyfly.yaml")
    assert result.exit_code == 0
    assert (
        "next: give needed.name a value in pyfly.yaml, which it has no default for"
        in result.stdout.splitlines()
    )
    assert "Must be given.\n      # name:\n" in (project / "pyfly.yaml").read_text()
    assert invoke("validate").exit_code == 78
    assert invoke("validate", PYFLY_MESSAGING__NEEDED__NAME="x").exit_code == 0


def test_any_default(invoke: Invoke) -> None:
    """Defaults that JSON has no words for crash no command, and no secret is shown."""
    for args in (
        ("init", "--provider", "zoo"),
        ("schema",),
        ("show", "--origin"),
        ("show", "--json"),
        ("explain", "zoo"),
        ("explain", "zoo.servers"),
        ("explain", "zoo.servers[0].address"),
        ("explain", "zoo.nested"),
        ("explain", "zoo.cache", "--json"),
    ):
        result = invoke(*args)
        assert result.exit_code == 0, args
        assert SECRET not in result.stdout + result.stderr


def test_impossible_name(
    invoke: Invoke, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter of an impossible name is refused as a provider, and spoils nothing else."""
    install(tmp_path_factory.mktemp("bad"), monkeypatch, {"My_Caps": "X"}, distribution="bad-post")
    assert invoke("init", "--provider", "zoo").exit_code == 0
    assert invoke("schema").exit_code == 0
    result = invoke("init", "--provider", "My_Caps", "--force")
    assert result.exit_code == 2
    assert "the distribution bad-post offers an" in " ".join(result.stderr.split())


def test_code_of_an_adapter(invoke: Invoke, write: Write) -> None:
    """A code of an adapter is none of ours: who may know it is said."""
    write("provider: zoo\nzoo:\n  motto: two")
    result = invoke("validate")
    assert "error[ZOO007]" in result.stderr
    assert "config explain" not in result.stderr
    result = invoke("explain", "ZOO007")
    assert result.exit_code == 2
    assert "ZOO007 is no code of this library" in result.stderr
    assert "zoo (the distribution pigeon-post)" in result.stderr
    assert 'did you mean "CFG107"?' in invoke("explain", "CGF107").stderr
    assert "`config codes` lists them" in invoke("explain", "CFG87654").stderr


def test_settings_are_counted_once(invoke: Invoke, write: Write) -> None:
    """A list of sections is one setting."""
    write("provider: zoo\nzoo:\n  servers: [{port: 5}, {port: 6}]\n  names: [a, b]")
    assert "  settings  3 in files" in invoke("validate").stdout.splitlines()


def test_help(run: Run, site: Path) -> None:
    """The help of init names the providers that are installed as well."""
    describe(site, "other-post", "pigeon = nowhere:PLUGIN\nMy_Caps = nowhere:PLUGIN\n")
    result = run("config", "init", "--help", PYTHONPATH=f"{ROOT}:{site}", COLUMNS="200")
    assert "Installed as well: needed, pigeon, zoo." in result.stdout


def test_json_of_show(invoke: Invoke) -> None:
    """The list of values is JSON, whatever the types are."""
    values = json.loads(invoke("show", "--json", PYFLY_MESSAGING__PROVIDER="zoo").stdout)
    shown = {value["setting"]: value["value"] for value in values["settings"]}
    assert (shown["zoo.pause"], shown["zoo.cache"], shown["zoo.servers"]) == (
        "PT1M30S",
        "redis://app:******@cache:6379/0",
        [],
    )
