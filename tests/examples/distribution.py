"""Distributions that look installed: a folder on the search path, with metadata and a module."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

_numbers = itertools.count(1)

PLUGIN = '''
from pydantic import BaseModel, Field, SecretStr

from pyfly_messaging.adapters.memory import InMemoryMessageBroker
from pyfly_messaging.settings import AdapterPlugin, Section


class CarrierSettings(Section):
    """Pigeons that carry the messages."""

    loft: str = Field(description="Where they live.")
    pigeons: int = Field(default=3, ge=1, description="How many there are.")
    token: SecretStr | None = None


class Carrier(InMemoryMessageBroker):
    pass


def build(settings, *, timeouts, policy):
    broker = Carrier(timeouts=timeouts, policy=policy)
    broker.made_with = settings, timeouts, policy
    return broker


PLUGIN = AdapterPlugin(settings=CarrierSettings, build=build)


class PlainSettings(BaseModel):
    size: int = 1


PLAIN = AdapterPlugin(settings=PlainSettings, build=lambda settings, **_: "no broker")
NOTHING = object()
'''
"""A module with an adapter, one that builds no broker, and something that is no adapter."""


def install(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: dict[str, str],
    *,
    distribution: str = "pigeon-post",
    code: str = PLUGIN,
) -> str:
    """Make a distribution look installed until the end of the test; return its module's name.

    Args:
        folder: Where to; it comes first in the search path.
        monkeypatch: What takes it away again.
        names: The object of the module that each entry point for an adapter names.
        distribution: Its name.
        code: Its module. No two modules have the same name, so that none is imported already.

    """
    module = f"adapter_for_test_{next(_numbers)}"
    (folder / f"{module}.py").write_text(code, encoding="utf-8")
    points = "".join(f"{name} = {module}:{attribute}\n" for name, attribute in names.items())
    describe(folder, distribution, points)
    monkeypatch.syspath_prepend(str(folder))
    return module


def describe(folder: Path, distribution: str, points: str) -> None:
    """Write the metadata of a distribution with entry points for adapters."""
    metadata = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n", encoding="utf-8"
    )
    group = "[pyfly_messaging.adapters]"
    (metadata / "entry_points.txt").write_text(f"{group}\n{points}", encoding="utf-8")
