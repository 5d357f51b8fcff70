"""A command line to try: in an empty directory, without the machine's environment."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest
from typer.testing import CliRunner, Result

from pyfly_messaging.cli.app import app

Invoke: TypeAlias = Callable[..., Result]
Run: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]
Write: TypeAlias = Callable[..., Path]

ROOT = Path(__file__).parent.parent.parent
_COLOURS = {"NO_COLOR", "FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TERMINAL_WIDTH", "TERM"}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty working directory of a user whose environment says nothing."""
    for name in list(os.environ):
        if name.upper().startswith("PYFLY") or name in _COLOURS:
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def invoke_root() -> Invoke:
    """A function that runs a command in this process."""

    def run(*args: str, **environ: str) -> Result:
        return CliRunner().invoke(
            app, args, env=environ, prog_name="pyfly-messaging", catch_exceptions=False
        )

    return run


@pytest.fixture
def invoke(invoke_root: Invoke) -> Invoke:
    """A function that runs a command of `config` in this process."""
    return partial(invoke_root, "config")


@pytest.fixture
def run(project: Path) -> Run:
    """A function that runs the whole command in a process of its own, its output in pipes."""

    def start(*args: str, code: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        program = ["-c", code] if code else ["-m", "pyfly_messaging.cli"]
        return subprocess.run(
            [sys.executable, *program, *args],
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return start


@pytest.fixture
def write(project: Path) -> Write:
    """A function that writes the settings below `pyfly: messaging:` into pyfly.yaml."""

    def save(body: str, name: str = "pyfly.yaml") -> Path:
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        indented = "".join(f"    {line}\n" for line in body.splitlines())
        path.write_text(f"pyfly:\n  messaging:\n{indented}")
        return path

    return save
