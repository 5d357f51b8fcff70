"""Loading is fast, told by ratios that hold on a busy machine, too."""

from __future__ import annotations

import sys
import time

import pytest

from tests.benchmarks.configuration import BROKEN, ENVIRON, GOOD, measure_loads


def test_the_file_is_what_it_should_be() -> None:
    """The benchmark loads 17 lines with 200 variables in the environment."""
    assert len(GOOD.splitlines()) == len(BROKEN.splitlines()) == 17
    assert len(ENVIRON) == 200


def test_speed() -> None:
    """A load takes less than 4 times what the parser alone takes, a failing one less than 6."""
    if sys.gettrace() is not None:
        pytest.skip("measuring coverage slows our code down, and not the parser's")
    best = {times.name: times.best for times in measure_loads(40, clock=time.thread_time)}
    assert best["load"] < 4 * best["compose"]
    assert best["failing load and report"] < 6 * best["compose"]
