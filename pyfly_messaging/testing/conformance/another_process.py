"""Another process with the same suite: it plays a scene, says what came of it, and is killed.

Nothing is stopped, flushed or closed there: at the end of its scene the process kills itself, with
``SIGKILL`` where there is such a signal.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import pickle
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias

from pyfly_messaging.testing.conformance.stage import Stage

Tell: TypeAlias = Callable[[bytes], None]
"""What a scene says with it, the case hears."""

Scene: TypeAlias = Callable[[Any, Tell, str, str], Coroutine[Any, Any, None]]
"""A function of a module, with the suite, what to tell with, a topic and a group."""

_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
_MARK = b"\n:told:"
_CODE = "from pyfly_messaging.testing.conformance.another_process import main; main()"


async def crash(stage: Stage, scene: Scene, topic: str, group: str) -> list[bytes]:
    """Play a scene in a process that is killed at its end; return what it told.

    The suite goes there as a pickle: its class by name, and the attributes of the instance.

    Raises:
        AssertionError: The scene failed, or did not end; the message has what the process printed.

    """
    __tracebackhide__ = True
    limit = 4 * stage.deadline
    done = await asyncio.to_thread(_play, _parcel(stage, scene, topic, group), limit)
    if done.returncode != -_KILL:
        said = done.stdout.decode(errors="replace")[-5000:]
        raise AssertionError(f"the scene failed in the other process:\n{said}")
    told = done.stdout.split(_MARK)[1:]
    return [bytes.fromhex(text.split(b"\n")[0].decode()) for text in told]


def _parcel(stage: Stage, scene: Scene, topic: str, group: str) -> bytes:
    name = type(stage).__module__
    file = getattr(sys.modules.get(name), "__file__", None)
    try:
        play = pickle.dumps((stage, scene, topic, group))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise AssertionError(
            f"{type(stage).__name__} claims survives_crash, so the kit plays a part of the case in"
            f" another process, and that needs a pickle of the suite: {error}. The class has to"
            " stand at the top of its module; an attribute that no pickle can carry can be left"
            " out by __getstate__"
        ) from error
    return pickle.dumps((name, file, play))


def _play(parcel: bytes, limit: float) -> subprocess.CompletedProcess[bytes]:
    path = os.pathsep.join(folder for folder in sys.path if folder)
    command = [sys.executable, "-c", _CODE]
    try:
        return subprocess.run(  # noqa: S603 - our own code
            command,
            input=parcel,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": path},
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        said = (late.stdout or b"") + f"it had not ended after {limit:g} s".encode()
        return subprocess.CompletedProcess(command, 1, said)


def main() -> None:
    """Be the other process: play what stands at the standard input, and die of it."""
    name, file, play = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 - it is our parent's
    _import(name, file)
    stage, scene, topic, group = pickle.loads(play)  # noqa: S301
    stage.play(_to_the_death(stage, scene, topic, group), 3 * stage.deadline)


def _import(name: str, file: str | None) -> None:
    """Import the module of the suite; pytest may have found it by its file only."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        if file is None:
            raise
        _import_file(name, Path(file))


def _import_file(name: str, file: Path) -> None:
    """Import a file as pytest does with ``--import-mode=importlib``, below packages of no file."""
    parents = name.split(".")[:-1]
    for depth, folder in zip(range(len(parents), 0, -1), file.parents, strict=False):
        package = types.ModuleType(".".join(parents[:depth]))
        package.__path__ = [str(folder)]
        sys.modules.setdefault(package.__name__, package)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None, file  # noqa: S101, PT018
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


async def _to_the_death(stage: Stage, scene: Scene, topic: str, group: str) -> None:
    await scene(stage, _tell, topic, group)
    os.kill(os.getpid(), _KILL)


def _tell(what: bytes) -> None:
    os.write(1, _MARK + what.hex().encode() + b"\n")
