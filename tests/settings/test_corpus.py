"""Every broken configuration of the corpus is refused as it should be; every valid one loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pyfly_messaging.settings import Diagnostic, MessagingSettings
from pyfly_messaging.settings.diagnostics.codes import CODES
from pyfly_messaging.settings.diagnostics.report import render_report, report_json
from pyfly_messaging.settings.views.show import effective_values, render_values
from tests.settings.corpus import Case, Outcome, Scoreboard, cases, load

BROKEN = cases("broken")
VALID = cases("valid")


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.id)
def test_broken(
    case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch, scoreboard: Scoreboard
) -> None:
    """A mistake is reported with its code, its place and the way out, and no secret is shown."""
    outcome = load(case, folder, monkeypatch)
    scoreboard.broken.add(case.id)
    leaked = [secret for secret in case.secrets if secret in everything(outcome)]
    if leaked:
        scoreboard.secrets.add(case.id)
    found = [d for d in outcome.diagnostics if d.code == case.code and _place(d) == case.at]
    if not [d for d in outcome.diagnostics if d.severity == case.severity]:
        scoreboard.silent.add(case.id)
    if found:
        scoreboard.located.add(case.id)
    if found and case.help in found[0].help:
        scoreboard.helped.add(case.id)

    assert not leaked
    assert found, render_report(outcome.diagnostics)
    assert case.help
    assert case.help in found[0].help
    assert case.says in f"{found[0].message} {found[0].label}"
    assert found[0].severity == case.severity
    assert (outcome.error is not None) == (case.severity == "error")
    assert [related.origin.place for related in found[0].related][: len(case.related)] == list(
        case.related
    )
    if case.all:
        assert [d.code for d in outcome.diagnostics] == list(case.all)
    elif case.severity == "error":
        errors = [d.code for d in outcome.diagnostics if d.severity == "error"]
        assert errors == [case.code], "one mistake is one error"


@pytest.mark.parametrize("case", VALID, ids=lambda case: case.id)
def test_valid(
    case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch, scoreboard: Scoreboard
) -> None:
    """A valid configuration loads and means what it says."""
    outcome = load(case, folder, monkeypatch)
    scoreboard.valid.add(case.id)
    if outcome.settings is None:
        scoreboard.rejected.add(case.id)

    assert outcome.settings is not None, str(outcome.error)
    for setting, expected in case.expect.items():
        assert _value(outcome.settings, setting) == expected, setting
    if case.quiet:
        assert not outcome.diagnostics, render_report(outcome.diagnostics)


def test_every_code_is_provoked() -> None:
    """Each code of the table has at least one case, so none of them is a dead letter."""
    provoked = {case.code for case in BROKEN}
    elsewhere = {"CFG100", "CFG112", "CFG120", "CFG121", "CFG217", "CFG218"}
    assert set(CODES) - provoked == elsewhere, "those have tests of their own"


def test_the_corpus_is_large_enough() -> None:
    """There are at least 150 broken and 40 valid configurations, each with a name of its own."""
    assert len({case.id for case in BROKEN}) == len(BROKEN) >= 150
    assert len({case.id for case in VALID}) == len(VALID) >= 40


def everything(outcome: Outcome) -> str:
    """Return all that a program could print about an outcome."""
    diagnostics = outcome.diagnostics
    said = [
        render_report(diagnostics),
        render_report(diagnostics, colour=True),
        report_json(diagnostics),
        repr(diagnostics),
    ]
    if outcome.error is not None:
        said += [str(outcome.error), repr(outcome.error), repr(outcome.error.__dict__)]
        assert outcome.error.__cause__ is None
        assert outcome.error.__context__ is None
    if outcome.settings is not None:
        settings = outcome.settings
        said += [repr(settings), str(settings), repr(settings.provenance.entries)]
        said += [render_values(effective_values(settings), origins=True)]
    return "\n".join(said)


def _place(diagnostic: Diagnostic) -> str:
    return diagnostic.origin.place if diagnostic.origin is not None else ""


def _value(settings: MessagingSettings, setting: str) -> Any:
    value: Any = settings
    for part in setting.split("."):
        name = part.replace("-", "_")
        value = value[part] if isinstance(value, dict) else getattr(value, name)
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return list(value)
    return "none" if value is None else value


def test_case_ids_are_plain() -> None:
    """Cases can be named on the command line of pytest."""
    for kind in ("broken", "valid"):
        case: Case
        for case in cases(kind):
            assert case.id.replace("/", "").replace("-", "").replace("_", "").isalnum()
