"""The output that the documentation shows is the real one."""

from pathlib import Path

import pytest

from tests.cli.conftest import ROOT
from tests.cli.pages import Session, commands_of, is_session, steps

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_output(page: Path, tmp_path: Path) -> None:
    """Each command that a page shows prints what the page says."""
    for shown, output in Session(tmp_path).play(page.read_text()):
        assert output == shown.output, f"{page.name}:{shown.line}: $ {shown.command}"


def test_what_is_played() -> None:
    """The page on configuration shows at least the commands that its readers need."""
    blocks = [shown for _, shown in steps((ROOT / "docs/configuration.md").read_text()) if shown]
    played = " ".join(shown.command for shown in blocks)
    for command in ("validate", "show --origin", "explain"):
        assert f"pyfly-messaging config {command}" in played


def test_what_a_session_is() -> None:
    """Only a block with a command of ours is played; its comments are not a part of commands."""
    assert not is_session("$ make test\n")
    body = "$ pyfly-messaging config validate    # good\nvalid\n$ echo $?\n0\n"
    assert is_session(body)
    assert [(shown.command, shown.output, shown.line) for shown in commands_of(body, 7)] == [
        ("pyfly-messaging config validate", "valid\n", 7),
        ("echo $?", "0\n", 9),
    ]
