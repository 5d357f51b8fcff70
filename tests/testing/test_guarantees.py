"""`docs/guarantees.md` says what the kit proves, and nothing else."""

import re
from inspect import isclass

from pydantic import BaseModel

from pyfly_messaging.settings import MessagingSettings
from pyfly_messaging.testing.conformance import (
    Capabilities,
    ConformanceSuite,
    cases_of,
    unclaimed,
)
from pyfly_messaging.testing.conformance.capabilities import CAPABILITIES

from .guarantees import PAGE, page


def test_tables_are_those_of_the_kit() -> None:
    """The tables are up to date; `python -m tests.testing.guarantees` writes them."""
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(text)


def test_every_case_is_named() -> None:
    """The page names every case of the kit, and no other."""
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text(encoding="utf-8")))
    assert named == set(cases_of(ConformanceSuite))


def test_every_capability_is_explained() -> None:
    """The page explains every capability that a case can need."""
    explained = re.findall(r"^\| \*(\w+)\* \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert explained == list(CAPABILITIES)


def test_every_setting_exists() -> None:
    """The settings that the page names are settings."""
    rows = re.findall(r"^\| \d+ \|.*\| ([^|]*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    section = ""
    for name in re.findall(r"`([\w.-]+)`", " ".join(rows)):
        section = name.split(".")[0] or section
        full = f"{section}{name}" if name.startswith(".") else name
        model: type[BaseModel] = MessagingSettings
        for part in full.replace("-", "_").split("."):
            assert part in model.model_fields, full
            kind = model.model_fields[part].annotation
            model = kind if isclass(kind) and issubclass(kind, BaseModel) else BaseModel


def test_every_case_has_a_sentence() -> None:
    """Each case's docstring is one paragraph that ends like a sentence."""
    for name in cases_of(ConformanceSuite):
        text = (getattr(ConformanceSuite, name).__doc__ or "").strip()
        first = text.split("\n\n", maxsplit=1)[0]
        assert first.endswith("."), name


class Guide(ConformanceSuite):
    """The suite that `docs/writing-an-adapter.md` shows."""

    capabilities = Capabilities(redelivers=True, key_order=True, settles_on_publish=True)


def test_guide_shows_the_numbers_of_its_suite() -> None:
    """The summary in the guide has the number of cases that its suite runs."""
    guide = PAGE.with_name("writing-an-adapter.md").read_text(encoding="utf-8")
    absent = len(unclaimed(Guide))
    assert f": {len(cases_of(Guide)) - absent} passed, {absent} not claimed (" in guide
