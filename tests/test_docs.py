"""What the documentation shows is what happens."""

import doctest
import re
from pathlib import Path

import pytest
from sybil import Document, Example, Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

_SYBIL = Sybil(parsers=[PythonCodeBlockParser(doctest_optionflags=doctest.ELLIPSIS)])


def _examples() -> list[object]:
    found: list[object] = []
    for page in PAGES:
        document: Document = _SYBIL.parse(page)
        found += [
            pytest.param(example, id=f"{page.name}:{example.line}")
            for example in document.examples()
        ]
    return found


@pytest.mark.parametrize("example", _examples())
def test_code_block(example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block of the pages runs, in the order of its page."""
    monkeypatch.chdir(tmp_path)
    example.evaluate()


def test_links() -> None:
    """Every relative link of the pages leads somewhere."""
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_recipes_name_files_that_exist() -> None:
    """Every file and folder that CONTRIBUTING.md names is there."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"\b(?:pyfly_messaging|tests|docs)/[\w/.<>-]*[\w/>]", text)
    assert len(named) > 50
    assert [name for name in named if "<" not in name and not (ROOT / name).exists()] == []
