"""`docs/architecture.md` tells of the package as it is."""

import re
from pathlib import Path

import pytest

from tests.architecture import BEGIN, END, PACKAGE, PAGE, ROOT, has, page

TEXT = PAGE.read_text(encoding="utf-8")
BY_HAND = TEXT.split(BEGIN)[0] + TEXT.split(END)[1]

# `delivery/lanes/single.py: SingleLane.work`, and `options.py: _OURS` after a path of its folder.
NAMED = re.findall(r"`([\w/]+\.py): ([\w., ]+)`", BY_HAND)


def test_tables_are_up_to_date() -> None:
    """The tables are those of the docstrings; `make generate` writes them."""
    assert page(TEXT) == TEXT


def test_every_module_has_a_sentence() -> None:
    """Every module and folder of the package has a row or a heading, with a sentence."""
    tables = TEXT.split(BEGIN)[1].split(END)[0]
    assert len(re.findall(r"^\| `\w+\.py` \| .+\. \|$", tables, re.MULTILINE)) == len(
        [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    )
    assert len(re.findall(r"^### .+/\n\n.+\.$", tables, re.MULTILINE)) == len(
        list(PACKAGE.rglob("__init__.py"))
    )


@pytest.mark.parametrize(("module", "names"), NAMED)
def test_named_functions_exist(module: str, names: str) -> None:
    """Every function that the page names by its module is defined there."""
    assert [name for name in names.split(", ") if not has(PACKAGE / module, name)] == []


def test_much_is_named() -> None:
    """The ways of messages and settings name the function of each step."""
    assert len(NAMED) > 50


def test_named_paths_exist() -> None:
    """Every other file and folder that the page names is there."""
    named = re.findall(r"`([\w./-]+(?:\.py|/))`", BY_HAND)
    assert len(named) > 10
    assert [name for name in named if not _is_there(name)] == []


def test_every_recipe_has_a_row() -> None:
    """Every recipe of CONTRIBUTING.md is linked, and every link leads to one."""
    headings = re.findall(r"^### (.+)$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    linked = set(re.findall(r"CONTRIBUTING\.md#([\w-]+)\)", BY_HAND))
    assert linked == anchors


def test_sentences_of_the_contract_are_quoted_as_they_are() -> None:
    """What the page quotes stands in `docs/guarantees.md`."""
    guarantees = _one_line((ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8"))
    quoted = re.findall(r'\*"([^"]+)"\*', _one_line(BY_HAND))
    assert len(quoted) == 3
    assert [sentence for sentence in quoted if sentence not in guarantees] == []


def test_a_name_that_is_not_there_is_noticed() -> None:
    """Methods of another class and names that are only used do not count as defined."""
    module = PACKAGE / "delivery" / "backoff.py"
    assert has(module, "Backoff.pause")
    assert not has(module, "Backoff.run")
    assert not has(module, "pause")
    assert not has(module, "dataclass")


def _is_there(name: str) -> bool:
    return any((Path(folder) / name).exists() for folder in (ROOT, PACKAGE))


def _one_line(text: str) -> str:
    return " ".join(text.split()).lower()
