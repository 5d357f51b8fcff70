"""Run the tests in groups, side by side: `python -m tests.run [arguments of pytest]`.

A group is a process of pytest with brokers of its own. The tests of a broker mostly wait for it, so
that two cores are enough for three groups. A `-m` chooses within the groups; several are joined by
"and". Ctrl-C ends the tests of all groups as it ends those of one pytest.
"""

import argparse
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

# A test that needs both brokers, if there were one, would run with Kafka.
GROUPS = {
    "kafka": "kafka",
    "rabbitmq": "rabbitmq and not kafka",
    "others": "not kafka and not rabbitmq",
}
_WIDTH = max(map(len, GROUPS))
_NO_TESTS = 5  # pytest's exit code where nothing was chosen
_PYTHON = (sys.executable, "-u")
# Not by a plugin of pytest: ours is loaded before it, and so would be most of the package.
_COVERAGE = (*_PYTHON, "-m", "coverage")


def main(arguments: Sequence[str]) -> int:
    """Run the groups, show what they covered together, and return 0 when nothing failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.run", add_help=False, allow_abbrev=False)
    parser.add_argument("--no-coverage", dest="coverage", action="store_false")
    parser.add_argument("-m", dest="marks", action="append", default=[])
    options, others = parser.parse_known_args(arguments)
    if sys.stdout.isatty():
        others = ["--color=yes", *others]
    if options.coverage:
        subprocess.run([*_COVERAGE, "erase"], check=True)
    code = _run_groups(options.marks, others, coverage=options.coverage)
    if code == 0 and options.coverage:
        subprocess.run([*_COVERAGE, "combine", "--quiet"], check=True)
        code = subprocess.run([*_COVERAGE, "report"], check=False).returncode
    return code


def _run_groups(marks: Sequence[str], arguments: Sequence[str], *, coverage: bool) -> int:
    """Run the groups, and return the exit code of the first that failed, else 0."""
    runs: dict[str, subprocess.Popen[str]] = {}

    def interrupt(number: int, frame: FrameType | None) -> None:
        for run in runs.values():
            run.send_signal(signal.SIGINT)

    # This is also for a run in the background of a shell: there SIGINT is ignored, and would be in
    # the groups, if nobody had set a handler.
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    for group, own in GROUPS.items():
        chosen = " and ".join(f"({each})" for each in (own, *marks))
        begin = [*_COVERAGE, "run", "--parallel-mode"] if coverage else [*_PYTHON]
        runs[group] = subprocess.Popen(
            [*begin, "-m", "pytest", "-m", chosen, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,  # a terminal's Ctrl-C comes from us, and once
        )
    with ThreadPoolExecutor(len(runs)) as pool:
        codes = dict(zip(runs, pool.map(_follow, runs, runs.values()), strict=True))
    failed = {group: code for group, code in codes.items() if code not in (0, _NO_TESTS)}
    for group, code in failed.items():
        print(f"{group:{_WIDTH}} | failed with exit code {code}", flush=True)
    return next(iter(failed.values()), min(codes.values()))


def _follow(group: str, run: subprocess.Popen[str]) -> int:
    """Show what a group prints, and return its exit code."""
    with run:
        assert run.stdout is not None
        for line in run.stdout:
            # In one piece, for the other groups print, too.
            sys.stdout.write(f"{group:{_WIDTH}} | {line}")
            sys.stdout.flush()
    return run.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
