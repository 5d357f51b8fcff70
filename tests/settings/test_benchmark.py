"""Loading is fast, told by ratios that hold on a busy machine, too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.configuration import BROKEN, ENVIRON, GOOD

ROOT = Path(__file__).parents[2]
_MEASURE = """
import json, time
from tests.benchmarks.configuration import measure_loads
print(json.dumps({each.name: each.best for each in measure_loads(40, clock=time.thread_time)}))
"""


def test_the_file_is_what_it_should_be() -> None:
    """The benchmark loads 17 lines with 200 variables in the environment."""
    assert len(GOOD.splitlines()) == len(BROKEN.splitlines()) == 17
    assert len(ENVIRON) == 200


def test_speed() -> None:
    """A load takes less than 4 times what the parser alone takes, a failing one less than 6."""
    # In a process of its own: measuring coverage slows our code down, and not the parser's.
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    best = json.loads(done.stdout)
    assert best["load"] < 4 * best["compose"]
    assert best["failing load and report"] < 6 * best["compose"]
