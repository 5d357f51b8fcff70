"""Loading is fast, told by ratios that hold on a busy machine, too."""

from __future__ import annotations

import sys
import time

import pytest

from tests.settings.benchmark import BROKEN, FILE, VARIABLES, run


def test_the_file_is_what_it_should_be() -> None:
    """The benchmark loads 17 lines with 200 variables in the environment."""
    assert len(FILE.splitlines()) == len(BROKEN.splitlines()) == 17
    assert len(VARIABLES) == 200


def test_speed() -> None:
    """A load takes less than 4 times what the parser alone takes, a failing one less than 6."""
    if sys.gettrace() is not None:
        pytest.skip("measuring coverage slows our code down, and not the parser's")
    times = run(times=40, clock=time.thread_time)
    compose = times["compose"].best
    assert times["load"].best < 4 * compose
    assert times["failing load"].best < 6 * compose
