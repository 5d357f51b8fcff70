"""``config validate``."""

import json

import pytest

from tests.cli.conftest import Invoke, Run, Write

BROKEN = "provider: kafak\nlistener:\n  retrys: 5\nkafka:\n  sasl:\n    password: ${KAFKA_PASSWRD}"


def test_good(invoke: Invoke, write: Write) -> None:
    """A good configuration exits with 0 and says what was read and what is used."""
    write("provider: rabbitmq\nlistener:\n  retries: 5", "config/pyfly.yaml")
    write("listener:\n  retries: 6", "config/pyfly-dev.yaml")
    result = invoke("validate", "--profile", "dev", PYFLY_MESSAGING__KAFKA__ACKS="all")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "valid: config/pyfly.yaml, config/pyfly-dev.yaml",
        "  provider  rabbitmq",
        "  profiles  dev",
        "  settings  2 in files, 1 in the environment",
        "  warnings  none",
    ]
    assert result.stderr == ""


def test_nothing_to_read(invoke: Invoke) -> None:
    """Without a file it says so, where files are looked for, and that the defaults hold."""
    result = invoke("validate")
    assert result.exit_code == 0
    assert "no file (config/pyfly.yaml or pyfly.yaml)" in result.stdout
    assert "all at their defaults" in result.stdout


def test_bad(invoke: Invoke, write: Write) -> None:
    """A bad one exits with 78; the report is on stderr, with all mistakes at their places."""
    write(BROKEN)
    result = invoke("validate", PYFLY_MESSAGING__KAFKA__CLIENT_IDD="x", KAFKA_PASSWORD="hunter2")
    assert result.exit_code == 78
    assert result.stdout == ""
    for found in (
        " --> pyfly.yaml:3:15",
        'did you mean "kafka"?',
        " --> pyfly.yaml:5:7",
        'did you mean "retries"?',
        "did you mean ${KAFKA_PASSWORD}?",
        "did you mean PYFLY_MESSAGING__KAFKA__CLIENT_ID?",
        "4 errors",
        "`pyfly-messaging config explain CFG102`",
    ):
        assert found in result.stderr
    assert "hunter2" not in result.output


def test_bad_in_a_process(run: Run, write: Write) -> None:
    """The exit code of the process is 78, and there is no traceback."""
    write("provider: kafak")
    done = run("config", "validate")
    assert done.returncode == 78
    assert done.stdout == ""
    assert done.stderr.startswith("error[CFG102]")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("good", [True, False])
def test_json(invoke: Invoke, write: Write, good: bool) -> None:
    """With --json the report is on stdout, good or bad, and nothing is on stderr."""
    write("provider: memory" if good else BROKEN)
    result = invoke("validate", "--json")
    assert result.exit_code == (0 if good else 78)
    assert result.stderr == ""
    report = json.loads(result.stdout)
    assert report["ok"] is good
    assert report["errors"] == (0 if good else 3)
    assert report["warnings"] == 0
    if not good:
        assert report["diagnostics"][0] == {
            "code": "CFG102",
            "severity": "error",
            "message": "invalid value for pyfly.messaging.provider",
            "setting": "pyfly.messaging.provider",
            "detail": "expected one of: memory, kafka, rabbitmq, auto, got 'kafak'",
            "help": 'did you mean "kafka"?',
            "origin": "file",
            "file": "pyfly.yaml",
            "line": 3,
            "column": 15,
            "endLine": 3,
            "endColumn": 20,
        }


def test_warnings(invoke: Invoke, write: Write) -> None:
    """Warnings are shown on stderr and counted; the configuration is good all the same."""
    write("kafka:\n  client-id: shop")
    result = invoke("validate")
    assert result.exit_code == 0
    assert "warning[CFG211]" in result.stderr
    assert "warnings  1" in result.stdout


def test_strict(invoke: Invoke, write: Write) -> None:
    """With --strict a warning is as bad as an error."""
    write("kafka:\n  client-id: shop")
    result = invoke("validate", "--strict")
    assert result.exit_code == 78
    assert "warning[CFG211]" in result.stderr
    assert result.stdout == ""
    assert invoke("validate", "--strict", "--json").exit_code == 78


def test_missing_file(invoke: Invoke) -> None:
    """A file that does not exist exits with 78."""
    result = invoke("validate", "nowhere.yaml")
    assert result.exit_code == 78
    assert "nowhere.yaml does not exist" in result.stderr


@pytest.mark.parametrize("profiles", [("-p", "one", "-p", "two"), ("--profile", "one, two")])
def test_profiles(invoke: Invoke, write: Write, profiles: tuple[str, ...]) -> None:
    """Several profiles are given one by one or with commas, and override the environment's."""
    for name in ("pyfly.yaml", "pyfly-one.yaml", "pyfly-two.yaml"):
        write("provider: memory", name)
    result = invoke("validate", *profiles, PYFLY_PROFILES_ACTIVE="three")
    assert result.stdout.startswith("valid: pyfly.yaml, pyfly-one.yaml, pyfly-two.yaml\n")
    assert "profiles  one, two" in result.stdout


def test_auto_says_what_it_chose(invoke: Invoke, write: Write) -> None:
    """With the provider auto the summary names the one that is used."""
    write("provider: auto")
    result = invoke("validate")
    assert "provider  kafka (auto)" in result.stdout
    assert "info[CFG212]" in result.stderr


def test_a_path_of_a_file(invoke: Invoke, write: Write) -> None:
    """A path as the argument is the file that is read."""
    path = write("provider: kafka", "deploy/other.yaml")
    write("provider: rabbitmq")
    result = invoke("validate", str(path.relative_to(path.parent.parent)))
    assert "valid: deploy/other.yaml" in result.stdout
    assert "provider  kafka" in result.stdout
