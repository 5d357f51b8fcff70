"""Configuration: how long a load, a failing load with its report, and the import take.

It runs alone as `python -m tests.benchmarks.configuration`. Times are compared with the parser's
own share (`compose` of the same file) and with the import of what the library builds on, measured
in turn, so that a busy machine disturbs both alike. `tests/settings/test_benchmark.py` holds the
ratios of loads to their limits at every run of the tests.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table
from ruamel.yaml import YAML

from pyfly_messaging import ConfigurationError, MessagingSettings
from pyfly_messaging.settings import isolated

Clock = Callable[[], float]

GOOD = """\
pyfly:
  messaging:
    provider: kafka
    publish-timeout: 20s
    kafka:
      bootstrap-servers: kafka-1:9092,kafka-2:9092
      client-id: shop
      acks: all
      sasl:
        mechanism: SCRAM-SHA-512
        username: shop
        password: ${KAFKA_PASSWORD}
    listener:
      retries: 5
      retry-delay: 500ms
    listeners:
      on-order: {concurrency: 8}
"""
BROKEN = (
    GOOD.replace("provider: kafka", "provider: kafak")
    .replace("client-id", "client-idd")
    .replace("retry-delay: 500ms", "retry-delay: soon")
    .replace("{KAFKA_PASSWORD}", "{KAFKA_PASSWRD}")
)
ENVIRON = {
    "KAFKA_PASSWORD": "correct-horse",
    "PYFLY_MESSAGING__KAFKA__LINGER": "5ms",
    "PYFLY_MESSAGING__LISTENER__RETRIES": "8",
    "PYFLY_MESSAGING__LISTENERS__ON_ORDER__TIMEOUT": "10s",
    "PYFLY_MESSAGING__SHUTDOWN__TIMEOUT": "20s",
} | {f"SERVICE_{number}_ADDRESS": f"tcp://10.0.0.{number}:80" for number in range(195)}

_OURS = "import pyfly_messaging"
_ALL_OURS = "import pyfly_messaging as p; [getattr(p, name) for name in p.__all__]"
_THEIRS = "import asyncio, pydantic_settings"
_TIMED = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
_FIRST = (
    "from pyfly_messaging import MessagingSettings; import sys, time; t = time.perf_counter();"
    "MessagingSettings.load(sys.argv[1], environ={'KAFKA_PASSWORD': 'x'});"
    "print(time.perf_counter() - t)"
)


@dataclass(slots=True, kw_only=True)
class Times:
    """The times of one thing, in milliseconds, and what is asked of it.

    Attributes:
        name: What was measured.
        beside: The name of what it is compared with, empty for none.
        most: The longest time that is good at the 95th percentile.
        most_ratio: The highest ratio of the medians that is good.

    """

    name: str
    beside: str = ""
    most: float | None = None
    most_ratio: float | None = None
    milliseconds: list[float] = field(default_factory=list)

    @property
    def best(self) -> float:
        """The shortest time."""
        return min(self.milliseconds)

    @property
    def median(self) -> float:
        """The time that half of the runs stay below."""
        return statistics.median(self.milliseconds)

    @property
    def p95(self) -> float:
        """The time that 95 of 100 runs stay below."""
        return statistics.quantiles(self.milliseconds, n=20, method="inclusive")[-1]


def measure(scale: float = 1.0, progress: Callable[[str], None] = lambda _: None) -> list[Times]:
    """Return all times: 400 loads of each kind and 21 imports at scale 1."""
    progress("loads")
    loads = measure_loads(max(20, int(400 * scale)))
    progress("imports")
    return loads + _measure_imports(max(15, int(21 * scale)))


def measure_loads(rounds: int, clock: Clock = time.perf_counter) -> list[Times]:
    """Return the times of the parser alone, and of a load with, without and with a broken file.

    Args:
        rounds: How often each is measured.
        clock: What tells the time; `time.thread_time` leaves out what others do meanwhile.

    """
    with tempfile.TemporaryDirectory() as folder:
        good, broken = Path(folder, "pyfly.yaml"), Path(folder, "broken.yaml")
        good.write_text(GOOD)
        broken.write_text(BROKEN)
        return _in_turn(
            [
                (Times(name="compose"), lambda: _compose(clock)),
                (Times(name="load", beside="compose", most=5.0), lambda: _load(good, clock)),
                (
                    Times(name="failing load and report", beside="compose", most=10.0),
                    lambda: _fail(broken, clock),
                ),
                (
                    Times(name="load without a file", beside="compose"),
                    lambda: _load_without_a_file(clock),
                ),
            ],
            rounds=rounds,
        )


def _measure_imports(rounds: int) -> list[Times]:
    with tempfile.TemporaryDirectory() as folder:
        good = Path(folder, "pyfly.yaml")
        good.write_text(GOOD)
        return _in_turn(
            [
                (Times(name="import pydantic-settings, asyncio"), lambda: _fresh(_THEIRS)),
                (
                    Times(
                        name="import pyfly_messaging",
                        beside="import pydantic-settings, asyncio",
                        most_ratio=1.05,
                    ),
                    lambda: _fresh(_OURS),
                ),
                (
                    Times(name="and all its names", beside="import pydantic-settings, asyncio"),
                    lambda: _fresh(_ALL_OURS),
                ),
                (Times(name="first load of a process"), lambda: _fresh(_FIRST, str(good))),
            ],
            rounds=rounds,
        )


def report(scale: float = 1.0, progress: Callable[[str], None] = lambda _: None) -> Table:
    """Measure everything; return the figures as a table with the goals."""
    return table(measure(scale, progress))


def table(times: list[Times]) -> Table:
    """Return times as a table with the goals."""
    result = Table(title="configuration: 17 lines of YAML, 200 variables; milliseconds")
    for heading in ("", "median", "p95", "ratio", "goal", ""):
        result.add_column(heading, justify="right" if heading else "left")
    medians = {each.name: each.median for each in times}
    for each in times:
        ratio = each.median / medians[each.beside] if each.beside else None
        goal, met = "", None
        if each.most is not None:
            goal, met = f"p95 <= {each.most:g}", each.p95 <= each.most
        elif each.most_ratio is not None and ratio is not None:
            goal, met = f"ratio <= {each.most_ratio:g}", ratio <= each.most_ratio
        result.add_row(
            each.name,
            f"{each.median:.2f}",
            f"{each.p95:.2f}",
            "" if ratio is None else f"{ratio:.2f}",
            goal,
            "" if met is None else "met" if met else "missed",
        )
    return result


def _in_turn(contestants: list[tuple[Times, Callable[[], float]]], *, rounds: int) -> list[Times]:
    """Run all in turn, first once without counting; each returns its seconds."""
    for _, run in contestants:
        run()
    for _ in range(rounds):
        for times, run in contestants:
            times.milliseconds.append(run() * 1000)
    return [times for times, _ in contestants]


def _compose(clock: Clock) -> float:
    begin = clock()
    YAML(typ="safe", pure=True).compose(GOOD)
    return clock() - begin


def _load(path: Path, clock: Clock) -> float:
    begin = clock()
    settings = MessagingSettings.load(path, environ=ENVIRON)
    seconds = clock() - begin
    assert settings.listener.retries == 8
    return seconds


def _load_without_a_file(clock: Clock) -> float:
    with isolated(environ=ENVIRON):
        begin = clock()
        settings = MessagingSettings()
        seconds = clock() - begin
    assert settings.provider == "memory"
    return seconds


def _fail(path: Path, clock: Clock) -> float:
    begin = clock()
    try:
        MessagingSettings.load(path, environ=ENVIRON)
    except ConfigurationError as error:
        report = str(error)
    seconds = clock() - begin
    assert "4 errors" in report, report
    return seconds


def _fresh(statements: str, *args: str) -> float:
    """Return the seconds that statements take in an interpreter of their own."""
    code = statements if "print" in statements else _TIMED.format(statements)
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


if __name__ == "__main__":
    Console().print(report())
