"""However large a configuration is and however much is wrong with it, the work is bounded.

Work is counted, not timed; the deadline is only there so that nothing hangs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pyfly_messaging.errors import ConfigurationError
from pyfly_messaging.settings import MessagingSettings
from pyfly_messaging.settings.binding.layers import Layer
from pyfly_messaging.settings.diagnostics.origins import DEFAULT, Entry
from pyfly_messaging.settings.diagnostics.report import MOST_SHOWN, render_report, report_json
from pyfly_messaging.settings.diagnostics.source_text import SourceText
from pyfly_messaging.settings.sources.inputs import isolated
from pyfly_messaging.settings.sources.variables import MOST_LINES
from pyfly_messaging.settings.sources.yaml import secret_uses
from pyfly_messaging.settings.text import suggest
from tests.settings.corpus import below_messaging

MANY = 2000
UNREAD = "PYFLY_MESSAGING__LISTENERS"


def lines(head: str, form: str) -> str:
    """Return a section with many lines of one form."""
    body = "\n".join(form.replace("@", str(number)) for number in range(MANY))
    return below_messaging(f"{head}\n{body}".strip("\n"))


FILES = {
    "unknown-keys": lines("", "unknown-@: 1"),
    "unknown-keys-nearly-right": lines("kafka:", "  client-idd@: 1"),
    "unknown-keys-on-one-line": below_messaging(
        "{" + ", ".join(f"unknown-{number}: 1" for number in range(MANY)) + "}"
    ),
    "duplicate-keys": lines("", "provider: kafka") + "    provider: kafka\n",
    "duplicate-options": lines("kafka:\n  options:", "    x: 1") + "        x: 1\n",
    "unset-placeholders": lines("listeners:", "  a@: {group: '${UNSET_@}'}"),
    "malformed-placeholders": lines("listeners:", "  a@: {group: '${a-b-@}'}"),
    "wrong-values": lines("listeners:", "  a@: {retries: x}"),
    "wrong-shapes": lines("listeners:", "  a@: {retries: [1]}"),
    "wrong-items": below_messaging(
        "kafka:\n  bootstrap-servers: [" + ", ".join(["http://x"] * MANY) + "]"
    ),
    "tags": lines("listeners:", "  a@: !x y"),
    "values-that-are-missing": lines("listeners:", "  a@: {retries: }"),
    "idle-nulls": lines("listeners:", "  a@: {retries: null}"),
}
ENVIRONMENTS = {
    "unknown-variables": {f"PYFLY_MESSAGING__KAFKA__CLIENT_IDD{n}": "x" for n in range(MANY)},
    "empty-variables": {f"{UNREAD}__A{n}__RETRIES": "" for n in range(MANY)},
    "wrong-variables": {f"{UNREAD}__A{n}__RETRIES": "x" for n in range(MANY)},
}


class Unsearched(dict[Any, Any]):
    """A mapping that is not to be searched."""

    def __iter__(self) -> NoReturn:
        raise AssertionError("it is searched")


@pytest.fixture
def comparisons(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Count how often two words are compared letter by letter."""
    counted: list[None] = []
    compare: Callable[[str, str, int], int] = suggest.edit_distance

    def count(one: str, two: str, limit: int) -> int:
        counted.append(None)
        return compare(one, two, limit)

    monkeypatch.setattr(suggest, "edit_distance", count)
    return counted


@pytest.fixture
def excerpts(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Count the excerpts."""
    counted: list[None] = []
    excerpt = SourceText.excerpt

    def count(*args: object, **kwargs: object) -> object:
        counted.append(None)
        return excerpt(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(SourceText, "excerpt", count)
    return counted


def refused(text: str | None, environ: dict[str, str], folder: Path) -> ConfigurationError:
    """Return the error of a configuration that is refused."""
    if text is not None:
        (folder / "pyfly.yaml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        MessagingSettings.load(environ=environ)
    return caught.value


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", [*FILES, *ENVIRONMENTS])
def test_many_mistakes(
    name: str, folder: Path, comparisons: list[None], excerpts: list[None]
) -> None:
    """A report has at most 100 of 2,000 mistakes and counts the rest; all of them are there."""
    error = refused(FILES.get(name), ENVIRONMENTS.get(name, {}), folder)
    text, data = str(error), json.loads(report_json(error.diagnostics))
    assert len(error.diagnostics) >= MANY
    assert text.count("error[") == MOST_SHOWN == len(data["diagnostics"])
    assert f"... and {len(error.diagnostics) - MOST_SHOWN:,} more" in text
    assert data["more"] == len(error.diagnostics) - MOST_SHOWN
    assert data["errors"] == len(error.diagnostics)
    assert len(text) < 100_000
    # 9 words look like secrets; that a key is none of them is found out once for each key.
    assert len(comparisons) <= suggest.MOST_COMPARISONS + 12 * 9 * MANY
    assert len(excerpts) <= 2 * MOST_SHOWN


@pytest.mark.timeout(120)
def test_many_near_misses(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of 2,000 warnings 100 are logged, and an error behind them is in the report all the same."""
    environ = {f"PYFLY_MESSAGING_KAFKA_CLIENT_ID{number}": "x" for number in range(MANY)}
    assert len(MessagingSettings.load(environ=environ).notes) >= MANY
    assert len(caplog.records) == MOST_SHOWN
    error = refused(None, environ | {"PYFLY_MESSAGING__ZZZ__X": "1"}, folder)
    assert "unknown environment variable PYFLY_MESSAGING__ZZZ__X" in str(error)


def test_many_lines_in_dotenv(folder: Path) -> None:
    """A ``.env`` with more lines than anyone writes is refused before it is read line by line."""
    (folder / ".env").write_text("X=1\n" * (MOST_LINES + 1))
    [found] = refused(None, {}, folder).diagnostics
    assert (found.code, found.message) == (
        "ENV007", ".env cannot be read: it has more than 10000 lines"
    )  # fmt: skip


def test_the_first_mistakes_have_suggestions(folder: Path) -> None:
    """The bound leaves enough for what a person can make wrong."""
    body = "\n".join(f"  client-idd{number}: 1" for number in range(100))
    error = refused(below_messaging(f"kafka:\n{body}"), {}, folder)
    assert str(error).count('did you mean "client-id"') == 100


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "text", ["a", "?", "@", "a@ ", "a1-", "a:", "eyJ-", "BEGIN ", "MIIA", "{", "1m"]
)
@pytest.mark.parametrize(
    "form",
    [
        "kafka: {client-id: '@@', acks: '@@'}", "kafka:\n  client-id: @@: b", "'@@': 1",
        "rabbitmq:\n  url: 'amqp://@@'\n  host: '@@'", "kafka: {options: {x-url: 'a://@@'}}\n",
        "listener: {retries: '@@', timeout: '@@'}", "kafka:\n  client-id: '${@@}'",
        "kafka:\n  client-id: '${file:@@}'",
    ],
)  # fmt: skip
def test_long_texts(form: str, text: str, folder: Path) -> None:
    """One very long text, as a value, as a key, in broken YAML: the report stays short."""
    long = text * (100_000 // len(text))
    (folder / "pyfly.yaml").write_text(below_messaging(form.replace("@@", long)))
    try:
        said = render_report(MessagingSettings.load(environ={}).notes)
    except ConfigurationError as error:
        said = str(error) + report_json(error.diagnostics)
    assert len(said) < 20_000


@pytest.mark.timeout(120)
def test_long_names(folder: Path) -> None:
    """One very long variable, path, profile or placeholder's value: the report stays short."""
    long = "a_" * 50_000
    environ = {
        f"PYFLY_MESSAGING__{long}": "1", "PYFLY_MESSAGING__KAFKA__ACKS": long,
        "PYFLY_CONFIG": long, "PYFLY_PROFILES_ACTIVE": long, "PYFLY_SECRETS_DIR": long,
    }  # fmt: skip
    assert len(str(refused(None, environ, folder))) < 20_000


def test_a_value_is_taken_back_without_a_search() -> None:
    """To take back 2,000 single values, the other values are not searched each time."""
    layer = Layer("file")
    layer.put(("listeners", "a", "retries"), 4, Entry(DEFAULT, 4))
    layer.entries = Unsearched(layer.entries)
    assert layer.drop(("listeners", "a", "retries")) == Entry(DEFAULT, 4)
    assert layer.drop(("listeners", "b", "retries")) is None


def mapping_in_itself() -> dict[str, Any]:
    """Return a mapping that contains itself."""
    data: dict[str, Any] = {}
    data["options"] = data
    return data


def list_in_itself() -> dict[str, Any]:
    """Return options with a list that contains itself."""
    data: list[Any] = []
    data.append(data)
    return {"options": {"x": data}}


def deep_mapping() -> dict[str, Any]:
    """Return mappings in mappings, 3,000 levels deep."""
    data: dict[str, Any] = {}
    for _ in range(3000):
        data = {"options": data}
    return data


def deep_list() -> dict[str, Any]:
    """Return options with lists in lists, 3,000 levels deep."""
    data: list[Any] = []
    for _ in range(3000):
        data = [data]
    return {"options": {"x": data}}


def multiplied() -> dict[str, Any]:
    """Return a few lists, each of them used nine times by the next one."""
    data: list[Any] = ["x"]
    for _ in range(12):
        data = [data] * 9
    return {"options": {"x": data}}


ENDLESS = [
    (mapping_in_itself, "it contains itself", "argument kafka.options"),
    (list_in_itself, "it contains itself", "argument kafka.options.x"),
    (deep_mapping, "nested deeper than 100 levels", "argument kafka"),
    (deep_list, "nested deeper than 100 levels", "argument kafka"),
    (multiplied, "more than 10000 values", "argument kafka"),
]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("make", "message", "place"), ENDLESS, ids=lambda x: getattr(x, "__name__", None)
)
def test_arguments_without_an_end(
    make: Callable[[], dict[str, Any]], message: str, place: str, folder: Path
) -> None:
    """An argument that contains itself, is too deep or too large is refused at its place."""
    value = make()

    def in_isolation() -> None:
        with isolated(kafka=value), isolated(kafka={"acks": "all"}):
            MessagingSettings()

    ways: list[Callable[[], object]] = [
        lambda: MessagingSettings(kafka=value),
        lambda: MessagingSettings.load(environ={}, kafka=value),
        in_isolation,
    ]
    for way in ways:
        with pytest.raises(ConfigurationError) as caught:
            way()
        [found] = caught.value.diagnostics
        assert (found.code, found.message) == ("CFG016", f"the argument kafka: {message}")
        assert found.origin is not None
        assert found.origin.place == place
        assert found.help == "give plain data that does not contain itself"


def test_what_is_used_twice_has_an_end(folder: Path) -> None:
    """An argument that uses one collection at two places does not contain itself."""
    shared = {"a": [1]}
    loaded = MessagingSettings.load(environ={}, kafka={"options": {"x": shared, "y": [shared]}})
    assert loaded.kafka.options == {"x": shared, "y": [shared]}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("depth", [200, 900, 100_000])
@pytest.mark.parametrize("name", ["OPTIONS", "OPTIONS__X"])
def test_deep_json_in_a_variable(name: str, depth: int, folder: Path) -> None:
    """JSON that is too deep is refused, not read as text."""
    variable = f"PYFLY_MESSAGING__KAFKA__{name}"
    [found] = refused(None, {variable: "[" * depth + "]" * depth}, folder).diagnostics
    assert (found.code, found.message) == (
        "CFG016", f"the JSON of {variable}: nested deeper than 100 levels"
    )  # fmt: skip


@pytest.mark.timeout(120)
def test_many_uses_of_aliases(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file in which aliases give more uses than are looked at, no value is quoted."""
    monkeypatch.setattr(secret_uses, "MOST_USES", 5)
    error = refused(below_messaging("kafka: {acks: &a none, client-id: *a}"), {}, folder)
    assert "none" not in str(error)
    assert "expected one of: all, 1, 0" in str(error)
