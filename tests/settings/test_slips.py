"""Every key of every section, misspelt in every way: found at its place, with the right name.

The corpus is written by hand; this is not, so that nobody's choice of mistakes flatters the result.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyfly_messaging.settings import MessagingSettings
from pyfly_messaging.settings.catalogue.tree import Setting, catalogue
from pyfly_messaging.settings.validate import validate

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def settings(
    node: Setting, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Setting]]:
    """Yield each setting and section with the sections around it."""
    for child in node.children.values():
        yield path, child
        yield from settings(child, (*path, child.name))


ALL = list(settings(catalogue(MessagingSettings)))


def slips(word: str, number: int) -> list[str]:
    """Return a word with one letter lost, added, changed, or swapped with the next."""
    chance = random.Random(word)
    found: list[str] = []
    while len(found) < number:
        at = chance.randrange(len(word))
        letter = chance.choice(LETTERS)
        slip = chance.choice(
            [
                word[:at] + word[at + 1 :],
                word[:at] + letter + word[at:],
                word[:at] + letter + word[at + 1 :],
                word[:at] + word[at + 1 : at + 2] + word[at] + word[at + 2 :],
            ]
        )
        plain = slip.strip("-") == slip and "--" not in slip and len(slip) > 2
        if slip not in {word, *found} and plain:
            found.append(slip)
    return found


def document(path: tuple[str, ...], key: str, *, section: bool) -> str:
    """Return a file with one key in it, at the end."""
    lines = ["pyfly:", "  messaging:"]
    lines += [f"{' ' * (4 + 2 * depth)}{name}:" for depth, name in enumerate(path)]
    indent = " " * (4 + 2 * len(path))
    lines.append(f"{indent}{key}: {{x: 1}}" if section else f"{indent}{key}: 1")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(("path", "setting"), ALL, ids=lambda value: getattr(value, "dotted", ""))
def test_in_a_file(path: tuple[str, ...], setting: Setting, folder: Path) -> None:
    """A misspelt key in a file is located to the character; nearly always it is known again."""
    siblings = {other.name for around, other in ALL if around == path}
    missed = []
    for slip in slips(setting.name, 6):
        if slip in siblings:
            continue
        text = document(path, slip, section=setting.shape in {"section", "named"})
        (folder / "pyfly.yaml").write_text(text)
        errors = [d for d in validate(environ={}).diagnostics if d.severity == "error"]
        assert [d.code for d in errors] in (["CFG101"], ["CFG109"])
        origin = errors[0].origin
        assert origin is not None
        assert (origin.line, origin.column) == (3 + len(path), 5 + 2 * len(path))
        if f'"{setting.name}"' not in errors[0].help:
            missed.append((slip, errors[0].help))
    assert len(missed) <= 1, missed


@pytest.mark.parametrize(("path", "setting"), ALL, ids=lambda value: getattr(value, "dotted", ""))
def test_in_a_variable(path: tuple[str, ...], setting: Setting, folder: Path) -> None:
    """A misspelt variable is named, and nearly always the right one is suggested."""
    prefix = "PYFLY_MESSAGING__" + "".join(f"{name}__" for name in path)
    siblings = {other.name for around, other in ALL if around == path}
    missed = []
    for slip in slips(setting.name, 6):
        if slip in siblings:
            continue
        name, right = ((prefix + key).upper().replace("-", "_") for key in (slip, setting.name))
        errors = [d for d in validate(environ={name: "1"}).diagnostics if d.severity == "error"]
        assert [d.code for d in errors] == ["ENV001"]
        assert str(errors[0].origin) == f"env {name}"
        if f"{right}?" not in errors[0].help:
            missed.append((name, errors[0].help))
    assert len(missed) <= 1, missed
