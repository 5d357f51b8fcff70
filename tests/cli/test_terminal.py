"""What the command shows on a real terminal, of different widths."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.cli.conftest import ROOT, Write

ANSI = re.compile(r"\x1b\[[0-9;]*m")
LONG = "a-name-that-is-rather-long-for-a-narrow-terminal"


def on_terminal(project: Path, *args: str, columns: int = 100, **environ: str) -> str:
    """Return what a command prints on a terminal of a width, results and complaints."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    process = subprocess.Popen(
        [sys.executable, "-m", "pyfly_messaging.cli", "config", *args],
        cwd=project,
        env={**inherited, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **environ},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    read = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        try:
            while data := terminal.read(65536):
                read += data
        except OSError:  # on Linux the end of a terminal is an input/output error
            pass
    process.wait(60)
    return read.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("args", [("show",), ("validate", "missing.yaml")])
def test_colour(project: Path, args: tuple[str, ...]) -> None:
    """A terminal gets colour, in results and in reports."""
    assert ANSI.search(on_terminal(project, *args))


def test_no_colour(project: Path) -> None:
    """With NO_COLOR a terminal gets no ANSI code at all."""
    assert "\x1b" not in on_terminal(project, "show", NO_COLOR="1")


@pytest.mark.parametrize("columns", [70, 120])
def test_origins(project: Path, write: Write, columns: int) -> None:
    """Where a line is too narrow the origin stands below the value, and places stay whole."""
    write(f"provider: kafka\nkafka:\n  client-id: {LONG}")
    text = ANSI.sub("", on_terminal(project, "show", "--given", "--origin", columns=columns))
    lines = [line.rstrip() for line in text.splitlines()]
    assert all(cell_len(line) <= columns for line in lines)
    if columns == 120:
        assert re.fullmatch(r'provider +"kafka" +pyfly.yaml:3:15', lines[0])
    else:
        assert re.fullmatch(r'provider +"kafka"', lines[0])
        assert lines[1].strip() == "pyfly.yaml:3:15"
    assert LONG in re.sub(r"\s", "", text)


@pytest.mark.parametrize("columns", [60, 120])
def test_explanations(project: Path, columns: int) -> None:
    """Explanations are wrapped in their column, by the width of the terminal."""
    text = ANSI.sub("", on_terminal(project, "explain", "kafka", columns=columns))
    lines = [line.rstrip() for line in text.splitlines()]
    assert max(map(cell_len, lines)) in range(columns - 20, columns + 1)


def test_reports_are_not_wrapped(project: Path, write: Write) -> None:
    """The lines of a report stay as they are, so that each mark stands below its place."""
    write("provider: kafak")
    text = ANSI.sub("", on_terminal(project, "validate", columns=40))
    line, mark = text.splitlines()[3:5]
    assert line.index("kafak") == mark.index("^^^^^")
    assert mark.endswith("got 'kafak'")
