"""The structure that design and documentation promise."""

import subprocess
import sys
from pathlib import Path

import pytest

import pyfly_messaging

ROOT = Path(__file__).parent.parent
CLIENTS = {"aiokafka", "aio_pika", "aiormq", "ruamel", "yaml", "typer", "rich", "pytest"}


def test_dependencies_point_downward() -> None:
    """Imports follow the layers of pyproject.toml, and adapters do not know each other."""
    # As a command: called in here, it would switch the loggers of all other tests off.
    code = "import sys; from importlinter.cli import lint_imports_command as run; run(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_import_is_light() -> None:
    """Importing the package imports no broker client, YAML parser, container or command line."""
    code = "import sys, pyfly_messaging; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not CLIENTS & set(done.stdout.split())


def test_memory_needs_no_client() -> None:
    """Building and using the memory broker imports no client of another broker."""
    code = (
        "import asyncio, sys\n"
        "from pyfly_messaging import MessagingSettings, bootstrap\n"
        "async def main():\n"
        "    async with bootstrap(settings=MessagingSettings(provider='memory')) as broker:\n"
        "        await broker.publish('orders', b'1')\n"
        "asyncio.run(main())\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    assert not {"aiokafka", "aio_pika", "aiormq", "ruamel", "yaml"} & set(done.stdout.split())


def test_public_names() -> None:
    """The package offers the names of `__all__`, in order, each from its home, and no others."""
    assert list(pyfly_messaging.__all__) == sorted(pyfly_messaging.__all__)
    assert all(getattr(pyfly_messaging, name) is not None for name in pyfly_messaging.__all__)
    assert set(pyfly_messaging.__all__) <= set(dir(pyfly_messaging))
    with pytest.raises(AttributeError, match="has no attribute 'publish'"):
        _ = pyfly_messaging.publish  # type: ignore[attr-defined]


def test_functions_are_not_hidden_by_their_modules() -> None:
    """`bootstrap` is the function, also after something imported the package of that name."""
    code = (
        "import pyfly_messaging.bootstrap.application\n"
        "from pyfly_messaging import bootstrap, run\n"
        "print(callable(bootstrap), callable(run))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "True True\n"


def test_package_is_typed() -> None:
    """The package says that it carries types."""
    assert (ROOT / "pyfly_messaging" / "py.typed").exists()
