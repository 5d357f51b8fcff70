"""`python -m tests.run` fails with each of its groups, and ends with Ctrl-C."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TESTS = """
import pathlib, time, pytest

@pytest.mark.kafka
def test_of_kafka(): assert False

@pytest.mark.rabbitmq
def test_of_rabbitmq(): pass

def test_of_none(): pass

@pytest.mark.slow
def test_slow():
    pathlib.Path(__file__).with_name("begun").touch()
    time.sleep(60)
"""


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Run those tests as a shell does it in the background, with SIGINT ignored."""
    tests = folder / "test_groups.py"
    tests.write_text(TESTS)
    # Of the project's settings only the marks: its fixtures would start brokers.
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    kafka\n    rabbitmq\n    slow\n")
    command = [sys.executable, "-m", "tests.run", "--no-coverage", str(tests), *arguments]
    return subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_one_failure_is_enough(tmp_path: Path) -> None:
    """Each group runs its tests, those of them that `-m` leaves, and all count."""
    with start(tmp_path, "-m", "not slow") as run:
        output, _ = run.communicate(timeout=60)
    assert len([line for line in output.splitlines() if "1 passed" in line]) == 2
    assert "kafka    | failed with exit code 1" in output
    assert run.returncode == 1, output


@pytest.mark.slow
def test_ending_it_ends_the_groups(tmp_path: Path) -> None:
    """Every pytest is interrupted, and none goes on."""
    with start(tmp_path, "-m", "slow") as run:
        while not (tmp_path / "begun").exists():
            assert run.poll() is None
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        output, _ = run.communicate(timeout=30)
    assert "others   | failed with exit code 2" in output
    assert run.returncode != 0
