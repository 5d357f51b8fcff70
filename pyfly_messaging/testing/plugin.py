"""The pytest plugin: the fixtures for users' tests, and the report of the conformance kit.

pytest loads it by its entry point. It imports as little as it can: most runs need nothing of it.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pyfly_messaging.testing.settings import SettingsOverride

pytest.register_assert_rewrite("pyfly_messaging.testing.conformance")

_KIT = "pyfly_messaging.testing.conformance"
_OUTCOMES = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")
_SUITE, _UNCLAIMED = "conformance", "conformance not claimed"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--stress``."""
    parser.getgroup("pyfly-messaging").addoption(
        "--stress",
        action="store_true",
        default=False,
        help="run the conformance kit's stress case at full size: 10 rounds of 5,000 messages,"
        " 50 publishers and 50 handlers at once",
    )


@pytest.fixture
def settings_override() -> Iterator[SettingsOverride]:
    """Leave the machine's environment and files out, and yield what sets settings instead.

    ``settings_override(provider="kafka", kafka={"acks": 1})`` returns the settings that
    ``MessagingSettings()`` yields until the end of the test, or until the next call.
    """
    from pyfly_messaging.testing.settings import overriding

    with overriding() as override:
        yield override


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> list[pytest.Item] | None:
    """Make no test of a case that needs what its suite does not claim.

    Raises:
        CollectError: A suite that cannot work; it says why.

    """
    if isinstance(obj, type) and collector.classnamefilter(name):
        _refuse_mistakes(collector, obj)
    suite = _suite(collector)
    if suite is None or name not in sys.modules[_KIT].unclaimed(suite):
        return None
    return []


def _refuse_mistakes(collector: pytest.Collector, cls: type) -> None:
    kit = sys.modules.get(_KIT)
    if kit is None or not issubclass(cls, kit.Stage) or cls is kit.Stage:
        return
    from pyfly_messaging.testing.conformance.mistakes import mistakes_of

    mistakes = mistakes_of(cls, runs_all=issubclass(cls, kit.ConformanceSuite))
    if mistakes:
        raise collector.CollectError("\n".join(mistakes))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let each case's report say which suite it belongs to, and what that does not claim."""
    suite = _suite(item.parent)
    if suite is None:
        return
    needs = Counter(sys.modules[_KIT].unclaimed(suite).values())
    item.user_properties.append((_SUITE, suite.__name__.removeprefix("Test").strip("_")))
    if needs:
        listed = ", ".join(f"{need}: {count}" for need, count in sorted(needs.items()))
        item.user_properties.append((_UNCLAIMED, f"{needs.total()} not claimed ({listed})"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the broken sentence of the contract with a case that failed."""
    report = yield
    if report.failed and isinstance(item, pytest.Function) and _suite(item.parent) is not None:
        report.sections.append(("The contract", " ".join((item.obj.__doc__ or "").split())))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say for each suite how many cases passed and failed, and which did not run."""
    suites: dict[str, _Summary] = {}
    for outcome, reports in terminalreporter.stats.items():
        for report in reports:
            properties = dict(getattr(report, "user_properties", ()))
            if outcome in _OUTCOMES and _SUITE in properties:
                key = report.nodeid.rpartition("::")[0]
                suites.setdefault(key, _Summary()).add(outcome, properties)
    for summary in suites.values():
        for line in summary.lines():
            terminalreporter.write_line(line)


class _Summary:
    """What became of the cases of one suite."""

    def __init__(self) -> None:
        self._outcomes: Counter[str] = Counter()
        self._properties: dict[str, Any] = {}

    def add(self, outcome: str, properties: dict[str, Any]) -> None:
        """Count a report."""
        self._outcomes[outcome] += 1
        self._properties |= properties

    def lines(self) -> Iterator[str]:
        """Yield what to print."""
        from pyfly_messaging.testing.conformance.stress import STRESS

        counts = [f"{count} {outcome}" for outcome, count in self._outcomes.items()]
        title = f"conformance: {self._properties[_SUITE]}"
        yield f"{title}: {', '.join([*counts, *self._told(_UNCLAIMED)])}"
        for figures in self._told(STRESS):
            yield f"{title}: stress: {figures}"

    def _told(self, name: str) -> list[str]:
        return [self._properties[name]] if name in self._properties else []


def _suite(node: object) -> Any:
    """Return the suite that a node of pytest's tree stands for, or None."""
    kit = sys.modules.get(_KIT)
    if kit is None or not isinstance(node, pytest.Class):
        return None
    return node.obj if issubclass(node.obj, kit.Stage) else None
