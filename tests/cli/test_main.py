"""The command as a whole: help, version, colour, completion, and what it says without its extra."""

import re
import shlex
import tomllib
from importlib import import_module
from io import StringIO
from pathlib import Path

import pytest

from pyfly_messaging.cli.console import wants_colour
from tests.cli.conftest import ROOT, Invoke, Run

BLOCK = """
import sys
sys.modules[{module!r}] = None
from pyfly_messaging.cli import main
main()
"""


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_hint_without_the_extra(run: Run, module: str) -> None:
    """Without typer or rich the command says in one line how to install them, and exits with 1."""
    done = run(code=BLOCK.format(module=module))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert 'pip install "pyfly-messaging[cli]"' in done.stderr


def test_another_missing_module_is_no_hint(run: Run) -> None:
    """A module that is missing for another reason is not taken for the extra."""
    done = run(code=BLOCK.format(module="pyfly_messaging.settings.diagnostics.report"))
    assert "ModuleNotFoundError" in done.stderr
    assert "pip install" not in done.stderr


def test_entry_point() -> None:
    """The script of the distribution is the function `main`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["scripts"]["pyfly-messaging"].partition(":")
    assert callable(getattr(import_module(module), name))


def test_version(run: Run) -> None:
    """--version names the version, Python's, and those of the client libraries."""
    done = run("--version")
    assert done.returncode == 0
    assert re.fullmatch(
        r"pyfly-messaging \d+\.\d+\.\d+\S* \(Python 3\.\d+\.\d+, .*aiokafka.*aio-pika.*\)\n",
        done.stdout,
    )


@pytest.mark.parametrize("args", [(), ("--help",), ("config",), ("config", "--help")])
def test_help_of_groups(invoke_root: Invoke, args: tuple[str, ...]) -> None:
    """Without a command, and with --help, the commands are listed with what each of them does."""
    result = invoke_root(*args)
    assert "Usage: pyfly-messaging" in result.output
    if args[:1] == ("config",):
        assert re.search(r"Write ─.*init.*schema.*Check ─.*validate", result.output, re.DOTALL)
        assert re.search(r"Understand ─.*show.*explain.*codes", result.output, re.DOTALL)
    else:
        assert re.search(r"config +Write, check and understand pyfly.yaml", result.output)


@pytest.mark.parametrize("name", ["init", "schema", "validate", "show", "explain", "codes"])
def test_help_of_a_command(invoke: Invoke, name: str) -> None:
    """Each command's help has a summary, its options, and examples that can be copied."""
    text = invoke(name, "--help").stdout
    assert re.search(rf"Usage: pyfly-messaging config {name} ", text)
    examples = re.findall(
        r"^ (pyfly-messaging config .*?) *$", text.partition("Examples")[2], re.MULTILINE
    )
    assert examples
    for example in examples:
        command, *_ = example.removeprefix("pyfly-messaging config ").split()
        assert command in {name, "explain"}
    assert all(len(line) <= 80 for line in text.splitlines())


def test_examples_run(invoke: Invoke) -> None:
    """The examples of the help are good usage, whatever they say about an empty directory."""
    for name in ["init", "schema", "validate", "show", "explain", "codes"]:
        examples = invoke(name, "--help").stdout.partition("Examples")[2]
        for line in re.findall(r"^ pyfly-messaging config (.*?) *$", examples, re.MULTILINE):
            assert invoke(*shlex.split(line)).exit_code in {0, 78}, line


def test_unknown_command_is_suggested(run: Run) -> None:
    """A misspelt command exits with 2 and names the one that was meant."""
    done = run("config", "vaildate")
    assert done.returncode == 2
    assert "'validate'" in done.stderr


@pytest.mark.parametrize(
    "args", [("show", "--origin"), ("validate", "missing.yaml"), ("validate", "--help")]
)
def test_no_colour_in_pipes(run: Run, args: tuple[str, ...]) -> None:
    """What goes through a pipe has no ANSI codes, neither results nor reports nor help."""
    done = run("config", *args)
    assert done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize("args", [("show",), ("validate", "missing.yaml")])
def test_colour_on_demand(invoke: Invoke, args: tuple[str, ...]) -> None:
    """FORCE_COLOR colours results and reports in pipes as well."""
    assert "\x1b[" in invoke(*args, FORCE_COLOR="1").output


@pytest.mark.parametrize(
    ("terminal", "environ", "colour"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
        (False, {"FORCE_COLOR": "1"}, True),
        (False, {"FORCE_COLOR": "0"}, False),
        (False, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_wants_colour(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, environ: dict[str, str], colour: bool
) -> None:
    """Terminals get colour; NO_COLOR is stronger than FORCE_COLOR, and that than the terminal."""
    stream = StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert wants_colour(stream) is colour


def test_narrow_encoding(run: Run) -> None:
    """A value that the terminal's encoding lacks is shown escaped, and not as a traceback."""
    environ = {"PYFLY_MESSAGING__KAFKA__CLIENT_ID": "Bj\u00f6rn", "PYTHONIOENCODING": "ascii"}
    done = run("config", "show", "--given", **environ)
    assert done.returncode == 0
    assert r"Bj\xf6rn" in done.stdout


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("config explain kafka.sasl.me", "kafka.sasl.mechanism"),
        ("config explain listeners.", "listeners.<name>.concurrency"),
        ("config init --provider ra", "rabbitmq"),
        ("config validate --profile pro", "production"),
        ("config val", "validate"),
    ],
)
def test_completion(invoke_root: Invoke, project: Path, words: str, found: str) -> None:
    """The shell completes commands, settings, providers and the profiles that have a file."""
    (project / "pyfly-production.yaml").touch()
    line = f"pyfly-messaging {words}"
    result = invoke_root(
        _PYFLY_MESSAGING_COMPLETE="complete_bash",
        COMP_WORDS=line,
        COMP_CWORD=str(len(line.split()) - 1),
    )
    assert found in result.stdout.split()
