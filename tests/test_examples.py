"""The examples of the documentation do what they say, on every broker."""

import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from pyfly_messaging import bootstrap
from pyfly_messaging.settings import isolated
from tests.brokers import KafkaCluster, RabbitCluster

PIPELINE = Path(__file__).parent.parent / "docs" / "examples" / "order_pipeline.py"


def run_pipeline(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the pipeline as a program, with these settings and none of the machine's."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYFLY_")}
    environ |= {f"PYFLY_MESSAGING__{name}": value for name, value in variables.items()}
    return subprocess.run(
        [sys.executable, str(PIPELINE)],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def pipeline() -> ModuleType:
    """The order pipeline as a module."""
    spec = importlib.util.spec_from_file_location("order_pipeline", PIPELINE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """What a program says about logging holds for that program only."""
    logger = logging.getLogger("pyfly_messaging")
    level = logger.level
    yield
    logger.setLevel(level)


def check(done: subprocess.CompletedProcess[str], first_line: str) -> None:
    """Check that a run of the pipeline went well: the lines in between may come in any order."""
    assert done.returncode == 0, done.stdout + done.stderr
    first, *between, summary, last = done.stdout.splitlines()
    assert first == first_line
    assert summary == "Notifications and analytics each handled all 5 events of this run."
    assert last.startswith("The same code on another broker: PYFLY_MESSAGING__PROVIDER=")
    assert last.endswith(" make demo")
    created = [line for line in between if line.startswith("[Notification] order.created: order ")]
    cancelled = [line for line in between if line.startswith("[Notification] order.cancelled: ")]
    analysed = [
        line for line in between if line.startswith("[Analytics] Recording event for order")
    ]
    assert len(created) >= 3
    assert len(cancelled) >= 2
    assert len(analysed) >= 5
    assert done.stderr == ""


def test_the_pipeline_in_memory(tmp_path: Path) -> None:
    """The pipeline runs without any broker, and says how to switch to one."""
    done = run_pipeline(tmp_path)
    check(done, "Provider: memory (in this process)")
    assert "PROVIDER=kafka make demo or PYFLY_MESSAGING__PROVIDER=rabbitmq make demo" in done.stdout


def test_the_pipeline_on_kafka(kafka: KafkaCluster, tmp_path: Path) -> None:
    """The same code runs on Apache Kafka, also where an earlier run has left its messages."""
    servers = kafka.bootstrap_servers
    for _ in range(2):
        done = run_pipeline(tmp_path, PROVIDER="kafka", KAFKA__BOOTSTRAP_SERVERS=servers)
        check(done, f"Provider: kafka ({servers})")


def test_the_pipeline_on_rabbitmq(rabbitmq: RabbitCluster, tmp_path: Path) -> None:
    """The same code runs on RabbitMQ, also where an earlier run has left its queues."""
    for _ in range(2):
        done = run_pipeline(tmp_path, PROVIDER="rabbitmq", RABBITMQ__URL=rabbitmq.url)
        assert done.stdout.startswith("Provider: rabbitmq (amqp://"), done.stderr
        check(done, done.stdout.splitlines()[0])


@pytest.mark.parametrize(
    ("provider", "setting", "address"),
    [
        ("kafka", "KAFKA__BOOTSTRAP_SERVERS", "localhost:1"),
        ("rabbitmq", "RABBITMQ__URL", "amqp://user:hunter2@localhost:1/"),
    ],
)
def test_the_pipeline_without_a_broker(
    tmp_path: Path, provider: str, setting: str, address: str
) -> None:
    """Where no broker is, one error says what was tried and what to do, without the password."""
    done = run_pipeline(tmp_path, PROVIDER=provider, STARTUP__TIMEOUT="500ms", **{setting: address})
    assert done.returncode == 1
    error, *ways_out = done.stderr.splitlines()
    assert error.startswith("error: no connection to ")
    assert "localhost:1" in error
    assert len(ways_out) == 2
    assert f"PYFLY_MESSAGING__{setting}=" in ways_out[0]
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_the_pipeline_with_a_broken_configuration(tmp_path: Path) -> None:
    """A wrong setting is reported by its name, with a suggestion; the exit code is 78."""
    done = run_pipeline(tmp_path, PROVIDER="kafak")
    assert done.returncode == 78
    assert "PYFLY_MESSAGING__PROVIDER" in done.stderr
    assert 'did you mean "kafka"?' in done.stderr
    assert "Traceback" not in done.stderr


def test_the_start_of_the_pipeline_has_ten_seconds(pipeline: ModuleType) -> None:
    """The demo gives up after ten seconds, unless the configuration says otherwise."""
    with isolated():
        assert pipeline.load_settings().startup.timeout == 10
    with isolated({"PYFLY_MESSAGING__STARTUP__TIMEOUT": "25s"}):
        assert pipeline.load_settings().startup.timeout == 25


def test_a_delivery_that_never_comes_ends_the_pipeline(
    pipeline: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """When a consumer is switched off, the demo says that events are missing, and fails."""
    monkeypatch.setattr(pipeline, "PATIENCE", 0.01)
    variable = "PYFLY_MESSAGING__LISTENERS__NOTIFICATION_SERVICE_ON_ORDER_EVENT__ENABLED"
    with isolated({variable: "false"}):
        assert pipeline.main() == 1
    assert "error: not every event arrived within 0.01 s" in capsys.readouterr().err


async def test_the_pipeline_with_its_broker_as_a_bean(pipeline: ModuleType) -> None:
    """With the configuration class among the sources its bean is the broker."""
    with isolated({"PYFLY_MESSAGING__PROVIDER": "kafka"}):
        application = bootstrap(pipeline.MessagingConfig, *pipeline.SERVICES)
        async with application as broker:
            assert isinstance(broker, pipeline.InMemoryMessageBroker)
            order = await application.get(pipeline.OrderService).create_order("alice", [])
            expected = {("notifications", order["order_id"], "order.created")}
            await application.get(pipeline.Deliveries).wait_for(expected, 10)
