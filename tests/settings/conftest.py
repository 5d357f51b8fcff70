"""What the tests of the settings share: an empty folder to work in, and the scoreboard."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.settings.corpus import Scoreboard

_SCOREBOARD = pytest.StashKey[Scoreboard]()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with none of the variables of this library set."""
    for name in list(os.environ):
        if name.upper().startswith("PYFLY"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def scoreboard(request: pytest.FixtureRequest) -> Scoreboard:
    """The counts of the corpus, printed at the end of the run."""
    return request.config.stash.setdefault(_SCOREBOARD, Scoreboard())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the scoreboard when the corpus was run."""
    board = terminalreporter.config.stash.get(_SCOREBOARD, None)
    if board is not None and board.broken:
        terminalreporter.write_sep("=", "configuration scoreboard")
        for line in board.lines():
            terminalreporter.write_line(line)
