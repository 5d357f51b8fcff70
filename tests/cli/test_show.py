"""``config show``."""

import json
import re

from tests.cli.conftest import Invoke, Run, Write

SETTINGS = """
provider: kafka
kafka:
  bootstrap-servers: broker-1:9092
  acks: all
  sasl:
    mechanism: PLAIN
    username: app
    password: ${KAFKA_PASSWORD}
rabbitmq:
  url: amqp://app:hunter3@mq/
""".strip()
ENVIRON = {"PYFLY_MESSAGING__KAFKA__BOOTSTRAP_SERVERS": "prod-1:9092", "KAFKA_PASSWORD": "hunter2"}


def test_origins(invoke: Invoke, write: Write) -> None:
    """Each value is shown with its origin, what it overrides below it, and secrets masked."""
    write(SETTINGS)
    result = invoke("show", "--origin", "--given", **ENVIRON)
    assert result.exit_code == 0
    rows = [re.split(r"\s{2,}", line) for line in result.stdout.splitlines()]
    assert rows == [
        ["provider", '"kafka"', "pyfly.yaml:3:15"],
        ["kafka.bootstrap-servers", '"prod-1:9092"', f"env {next(iter(ENVIRON))}"],
        ["", 'overrides pyfly.yaml:5:26 = "broker-1:9092"'],
        ["kafka.acks", '"all"', "pyfly.yaml:6:13"],
        ["kafka.sasl.mechanism", '"PLAIN"', "pyfly.yaml:8:20"],
        ["kafka.sasl.username", '"app"', "pyfly.yaml:9:19"],
        ["kafka.sasl.password", "******", "pyfly.yaml:10:19 via ${KAFKA_PASSWORD}"],
        ["rabbitmq.url", "amqp://app:******@mq/", "pyfly.yaml:12:12"],
    ]


def test_all_values(invoke: Invoke) -> None:
    """Without options every setting is shown, one on a line however long it is."""
    result = invoke("show", PYFLY_MESSAGING__KAFKA__CLIENT_ID="x" * 300)
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["provider", '"memory"']
    assert any(line.split() == ["kafka.client-id", f'"{"x" * 300}"'] for line in lines)
    assert all(len(line.split()) >= 2 for line in lines)
    assert not any(line.endswith(" ") for line in lines)
    assert "env " not in result.stdout


def test_nothing_given(invoke: Invoke) -> None:
    """With --given and nothing but defaults there is nothing to show."""
    result = invoke("show", "--given")
    assert (result.exit_code, result.stdout) == (0, "")


def test_json(invoke: Invoke, write: Write) -> None:
    """With --json the values, their origins and what they override are data, secrets masked."""
    write(SETTINGS)
    write("listener:\n  retries: 7", "pyfly-dev.yaml")
    data = json.loads(invoke("show", "--json", "--given", "-p", "dev", **ENVIRON).stdout)
    assert set(data) == {"files", "profiles", "settings"}
    assert data["files"] == ["pyfly.yaml", "pyfly-dev.yaml"]
    assert data["profiles"] == ["dev"]
    values = {item["setting"]: item for item in data["settings"]}
    assert values["listener.retries"]["value"] == 7
    assert values["kafka.bootstrap-servers"] == {
        "setting": "kafka.bootstrap-servers",
        "value": "prod-1:9092",
        "origin": "env PYFLY_MESSAGING__KAFKA__BOOTSTRAP_SERVERS",
        "overrides": [{"origin": "pyfly.yaml:5:26", "value": "broker-1:9092"}],
    }
    assert values["kafka.sasl.password"]["value"] == "******"


def test_no_secret(invoke: Invoke, write: Write) -> None:
    """No form of the output has a secret."""
    write(SETTINGS)
    for options in ((), ("--origin",), ("--json",)):
        assert "hunter" not in invoke("show", *options, **ENVIRON).output


def test_wrong_configuration(invoke: Invoke, write: Write) -> None:
    """A wrong configuration exits with 78 and its report, as JSON where that was asked for."""
    write("provider: kafak")
    result = invoke("show")
    assert (result.exit_code, result.stdout) == (78, "")
    assert "error[CFG102]" in result.stderr
    result = invoke("show", "--json")
    assert result.exit_code == 78
    assert json.loads(result.stdout)["ok"] is False


def test_warnings_are_counted(invoke: Invoke) -> None:
    """Warnings are counted on stderr, beside the result."""
    result = invoke("show", PYFLY_MESSAGING_PROVIDER="kafka")
    assert result.exit_code == 0
    assert result.stderr == "1 warning: `pyfly-messaging config validate` tells more\n"


def test_markup_is_text(invoke: Invoke) -> None:
    """What looks like markup or moves a cursor is shown as it is, or as a blank."""
    result = invoke("show", "--given", PYFLY_MESSAGING__KAFKA__CLIENT_ID="[red]a\x9b2Jb :smile:")
    assert '"[red]a 2Jb :smile:"' in result.stdout


def test_closed_pipe(run: Run) -> None:
    """A reader that stops early, as head does, gets no traceback."""
    code = (
        "import os, sys; r, w = os.pipe(); os.close(r); os.dup2(w, 1);"
        "from pyfly_messaging.cli import main; sys.argv[1:] = ['config', 'show']; main()"
    )
    done = run(code=code)
    assert "Traceback" not in done.stderr
