"""`make matrix`: the fast tests and the demo on every CPython that is supported and installed."""

import os
import subprocess
from pathlib import Path

import nox

VERSIONS = ["3.11", "3.12", "3.13", "3.14"]
PYENV = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
FAST = "not kafka and not rabbitmq and not slow"

nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True


def interpreters() -> list[Path]:
    """Return the working CPython of each version, from the path or from pyenv.

    A shim of pyenv is on the path, and does not run where its version is not selected.
    """
    folders = [Path(folder) for folder in os.get_exec_path()]
    found = []
    for version in VERSIONS:
        on_path = [folder / f"python{version}" for folder in folders]
        of_pyenv = sorted(PYENV.glob(f"{version}.*/bin/python{version}"), reverse=True)
        found += [path for path in (*on_path, *of_pyenv) if _runs(path, version)][:1]
    return found


def _runs(path: Path, version: str) -> bool:
    code = "import sys; print(sys.implementation.name, *sys.version_info[:2], sep='.')"
    try:
        done = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return done.stdout.strip() == f"cpython.{version}"


# nox looks on the path only.
_FOUND = [str(path.parent) for path in interpreters()]
os.environ["PATH"] = os.pathsep.join([*dict.fromkeys(_FOUND), os.environ["PATH"]])


@nox.session(python=VERSIONS)
def matrix(session: nox.Session) -> None:
    """Run the fast tests, or those that the arguments name, and the demo."""
    project = nox.project.load_toml("pyproject.toml")
    session.install("-e", ".[all]", *nox.project.dependency_groups(project, "test"))
    session.run("python", "-m", "pytest", "-q", "-m", FAST, *session.posargs)
    session.run("python", "docs/examples/order_pipeline.py")
