"""The pytest plugin: its report on the kit, its options and its fixtures."""

from collections.abc import Callable
from importlib.metadata import entry_points

import pytest

from pyfly_messaging.testing.conformance import cases_of
from pyfly_messaging.testing.conformance.messages import MessageCases

pytest_plugins = ("pytester",)

PLUGIN = "pyfly_messaging.testing.plugin"

SUITE = """
from pyfly_messaging.adapters.memory import InMemoryMessageBroker
from pyfly_messaging.testing.conformance import Capabilities, ConformanceSuite, Stage, case
from pyfly_messaging.testing.conformance.messages import MessageCases
from pyfly_messaging.testing.conformance.stress import StressCases
"""

MAKE_BROKER = """
    def make_broker(self, *, policy, timeouts):
        return InMemoryMessageBroker(policy=policy, timeouts=timeouts)
"""

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """A function that runs pytest on a test file of this text, with the plugin and no other."""
    plugins = {each.value for each in entry_points(group="pytest11")}
    given = ["-p", "no:cacheprovider", "-p", "no:asyncio"]
    if PLUGIN not in plugins:
        given += ["-p", PLUGIN]

    def run(text: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(text)
        return pytester.runpytest_subprocess(*given, *arguments)

    return run


def test_summary_counts_what_ran_and_what_did_not(run: Run) -> None:
    """The summary has a line for each suite: passed, failed, and not claimed by capability."""
    result = run(
        SUITE
        + """
class Cases(Stage):
    @case()
    async def test_port(self):
        '''The port.'''

    @case("batches")
    async def test_batch(self):
        '''Batches.'''

    @case("durable", "batches")
    async def test_durable(self):
        '''Durable.'''

    @case("unroutable")
    async def test_unroutable(self):
        '''Unroutable.'''

    @case("durable")
    async def test_durable_again(self):
        '''Durable again.'''

class TestMyAdapter(Cases):
    capabilities = Capabilities(batches=True)

class TestOther(Cases):
    capabilities = Capabilities(batches=True, durable=True, unroutable=True)

    @case()
    async def test_port(self):
        '''The port, broken.'''
        assert False
"""
    )
    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines_random(
        [
            "conformance: MyAdapter: 2 passed, 3 not claimed (durable: 2, unroutable: 1)",
            "conformance: Other: *1 failed*",
        ]
    )


def test_failed_case_shows_the_sentence(run: Run) -> None:
    """A case that failed shows the sentence of the contract that was broken."""
    result = run(
        SUITE
        + """
class TestBroken(MessageCases):
    def make_broker(self, *, policy, timeouts):
        class Broken(InMemoryMessageBroker):
            async def publish(self, topic, value, *, key=None, headers=None):
                await super().publish(topic, value + b"!", key=key, headers=headers)
        return Broken(policy=policy, timeouts=timeouts)
""",
        "-k",
        "test_empty_value",
    )
    assert result.parseoutcomes()["failed"] == 1
    result.stdout.fnmatch_lines(["*The contract*", "An empty value arrives empty."])
    result.stdout.fnmatch_lines(["*assert b'!' == b''*"])


def test_case_that_hangs_fails(run: Run) -> None:
    """A case that hangs fails when its time is over, and says what it waited for."""
    result = run(
        SUITE
        + """
import asyncio
class TestHanging(Stage):
    deadline = 2.0
    @case(deadlines=1)
    async def test_for_ever(self):
        '''Nothing ever happens.'''
        await asyncio.Event().wait()
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*AssertionError: waited 2 s for the end of the case"])


@pytest.mark.parametrize(("option", "messages"), [((), "500"), (("--stress",), "50000")])
def test_stress_prints_its_figures(run: Run, option: tuple[str, ...], messages: str) -> None:
    """The stress case prints what became of its messages; --stress makes it the full size."""
    text = SUITE + "class TestMemory(StressCases):\n" + MAKE_BROKER
    result = run(text, "-W", "error", "--junitxml=report.xml", *option)
    result.assert_outcomes(passed=1)
    line = f"{messages} attempted, {messages} acknowledged, {messages} received, 0 lost,"
    result.stdout.fnmatch_lines([f"conformance: Memory: stress: {line} 0 duplicated, *"])


def test_kit_needs_no_plugin_for_async_tests(run: Run) -> None:
    """All cases run without pytest-asyncio or any other plugin."""
    result = run(SUITE + "class TestMemory(MessageCases):\n" + MAKE_BROKER)
    result.assert_outcomes(passed=len(cases_of(MessageCases)))


def test_settings_override_fixture(run: Run) -> None:
    """The fixture holds until the end of its test, and not in the next one."""
    result = run(
        """
import asyncio
from pyfly_messaging import MessagingSettings

def test_override(settings_override):
    assert settings_override(provider="kafka").provider == "kafka"
    assert MessagingSettings().provider == "kafka"
    settings_override(kafka={"acks": 1, "idempotence": False})
    assert (MessagingSettings().provider, MessagingSettings().kafka.acks) == ("memory", 1)

def test_in_a_task(settings_override):
    async def override():
        settings_override(provider="rabbitmq")
        assert MessagingSettings().provider == "rabbitmq"

    asyncio.run(override())
    assert MessagingSettings().provider == "rabbitmq"

def test_only_isolated(settings_override, monkeypatch):
    monkeypatch.setenv("PYFLY_MESSAGING__PROVIDER", "kafka")
    assert MessagingSettings().provider == "memory"

def test_next():
    assert MessagingSettings().provider == "memory"
"""
    )
    result.assert_outcomes(passed=4)


def test_plugin_imports_no_client(run: Run) -> None:
    """A test run that uses nothing of the plugin imports no broker client and no YAML parser."""
    result = run(
        """
import sys

def test_modules():
    assert not {"aiokafka", "aio_pika", "ruamel.yaml"} & set(sys.modules)
"""
    )
    result.assert_outcomes(passed=1)


def test_suite_that_cannot_work_is_refused(run: Run) -> None:
    """A suite with a mistake is one error that says what is wrong, not a hundred failures."""
    result = run(
        SUITE
        + """
class TestMine(ConformanceSuite):
    deadline = 0.1
    capabilities = Capabilities(foreign=True)
"""
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "TestMine: deadline is 0.1 s; less than 2 s fails sound adapters on a busy machine",
            "TestMine: it makes no broker: write def make_broker(self, *, policy, timeouts), *",
            "TestMine: it claims foreign, and has no publish_foreign: write one, or *",
        ]
    )


def test_failure_stands_in_the_case(run: Run) -> None:
    """A failure shows the line of the case, and none of the kit's inner workings."""
    result = run(
        SUITE
        + "class TestMemory(MessageCases):\n"
        + "    deadline = 2.0\n"
        + "    def make_broker(self, *, policy, timeouts):\n"
        + "        class Deaf(InMemoryMessageBroker):\n"
        + "            async def publish(self, topic, value, *, key=None, headers=None): ...\n"
        + "        return Deaf(policy=policy, timeouts=timeouts)\n",
        "-k",
        "test_longest_names",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([">*await probe.handled()*", "*waited 2 s for 1 handled messages*"])
    result.stdout.no_fnmatch_line("*probe.py:*")
    result.stdout.no_fnmatch_line("*stage.py:*")
