"""Configuration for one test, whatever the machine's environment and files say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from pyfly_messaging.settings import MessagingSettings, isolated


class SettingsOverride(Protocol):
    """What the fixture ``settings_override`` is."""

    def __call__(self, **changes: Any) -> MessagingSettings:
        """Let ``changes`` hold until the end of the test; return the settings."""
        ...


@contextmanager
def settings_override(**changes: Any) -> Iterator[MessagingSettings]:
    """Let ``changes`` be the only configuration there is, and yield the settings.

    Every ``MessagingSettings()`` in this context, those of ``build_broker`` and ``bootstrap``
    included, sees them as if they stood in ``pyfly.yaml``, and neither an environment variable nor
    a file of the machine. An override inside another one begins anew.

    ::

        with settings_override(provider="kafka", kafka={"client_id": "test"}):
            broker = build_broker()

    Args:
        **changes: Settings as plain values, a section as a mapping; names as in Python or in YAML.

    Raises:
        ConfigurationError: A change is no setting, or not a possible value.
        TypeError: A value that no YAML file could hold.

    """
    with overriding() as override:
        yield override(**changes)


@contextmanager
def overriding() -> Iterator[SettingsOverride]:
    """Leave the machine out, and yield a function that sets what holds instead, once or again.

    The context is entered here and not by the function, which may run in a task of its own.
    """
    with TemporaryDirectory(prefix="pyfly-") as folder:
        path = Path(folder, "pyfly.yaml")

        def override(**changes: Any) -> MessagingSettings:
            # JSON is YAML, too.
            document = json.dumps({"pyfly": {"messaging": changes}}, ensure_ascii=False, indent=2)
            path.write_text(document, encoding="utf-8")
            return MessagingSettings()

        path.touch()
        with isolated(path=path):
            yield override
