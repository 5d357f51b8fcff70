"""How long a load takes, and how long a failing load with its report.

Run it with ``python -m tests.settings.benchmark``. The ratios are to the parser alone, which
composes the same file; they hold on any machine.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from ruamel.yaml import YAML

from pyfly_messaging.errors import ConfigurationError
from pyfly_messaging.settings import MessagingSettings

FILE = """\
pyfly:
  messaging:
    provider: kafka
    publish-timeout: 10s
    kafka:
      bootstrap-servers: broker-1:9092,broker-2:9092
      client-id: orders
      acks: all
      compression: gzip
      sasl:
        mechanism: PLAIN
        username: app
        password: ${KAFKA_PASSWORD}
    listener:
      retries: 5
    listeners:
      on-order: {concurrency: 8}
"""
BROKEN = (
    FILE.replace("provider: kafka", "provider: kafak")
    .replace("acks: all", "akcs: all")
    .replace("${KAFKA_PASSWORD}", "${KAFKA_PASSWRD}")
)
VARIABLES = {f"SOME_VARIABLE_{number}": f"value {number}" for number in range(198)} | {
    "KAFKA_PASSWORD": "secret",
    "PYFLY_MESSAGING__LISTENER__RETRIES": "4",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Milliseconds of one thing, measured many times."""

    best: float
    median: float
    p95: float


Clock = Callable[[], float]


def measure(action: Callable[[], object], times: int, clock: Clock) -> Times:
    """Return how long an action takes."""
    for _ in range(20):
        action()
    found = []
    for _ in range(times):
        begin = clock()
        action()
        found.append((clock() - begin) * 1000)
    found.sort()
    return Times(best=found[0], median=found[times // 2], p95=found[int(times * 0.95)])


def failing() -> str:
    """Load the broken file; return the report."""
    try:
        MessagingSettings()
    except ConfigurationError as error:
        return str(error)
    raise AssertionError("the broken file was taken")


def run(times: int = 300, clock: Clock = time.perf_counter) -> dict[str, Times]:
    """Measure the parser alone, a load, and a failing load with its report.

    Args:
        times: How often each is measured.
        clock: What tells the time; `time.thread_time` leaves out what others do meanwhile.

    """
    before = Path.cwd()
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, VARIABLES, clear=True),
    ):
        os.chdir(folder)
        try:
            path = Path("pyfly.yaml")
            path.write_text(FILE)
            compose = measure(lambda: YAML(typ="safe", pure=True).compose(FILE), times, clock)
            load = measure(MessagingSettings, times, clock)
            path.write_text(BROKEN)
            fail = measure(failing, times, clock)
            path.unlink()
            without = measure(MessagingSettings, times, clock)
        finally:
            os.chdir(before)
    return {"compose": compose, "load": load, "failing load": fail, "no file": without}


def main() -> None:
    """Print the figures as text, or with ``--json`` as data."""
    found = run()
    if "--json" in sys.argv:
        data = {name: {"p50": t.median, "p95": t.p95, "best": t.best} for name, t in found.items()}
        print(json.dumps(data, indent=2))
        return
    for name, t in found.items():
        ratio = t.best / found["compose"].best
        print(f"{name:13} p50 {t.median:6.2f} ms  p95 {t.p95:6.2f} ms  {ratio:5.2f} x compose")


if __name__ == "__main__":
    main()
