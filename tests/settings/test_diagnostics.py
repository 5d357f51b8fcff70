"""Diagnostics: reports as people read them, in colour and as JSON, and the table of codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pyfly_messaging import settings
from pyfly_messaging.errors import ConfigurationError
from pyfly_messaging.settings import Diagnostic, MessagingSettings, Origin
from pyfly_messaging.settings.diagnostics.codes import CODES, render_codes
from pyfly_messaging.settings.diagnostics.diagnostic import Related, in_order
from pyfly_messaging.settings.diagnostics.report import (
    render_diagnostic,
    render_report,
    report_json,
)
from pyfly_messaging.settings.diagnostics.source_text import SourceText
from pyfly_messaging.settings.validate import validate
from tests.settings.corpus import below_messaging

ROOT = Path(__file__).parents[2]
FILE = """\
pyfly:
  messaging:
    provider: kafak
    kafka:
      bootstrap-servers: broker-1:9092
      sasl:
        username: app
        password: ${KAFKA_PASSWRD}   # hunter1 was the old one
"""
ENVIRON = {"KAFKA_PASSWORD": "hunter2", "PYFLY_MESSAGING__KAFKA__CLIENT_IDD": "x"}


def test_the_report(folder: Path) -> None:
    """All errors come at once, in the order of the file, then of the environment."""
    (folder / "pyfly.yaml").write_text(FILE)
    with pytest.raises(ConfigurationError) as caught:
        MessagingSettings.load(environ=ENVIRON)
    assert (
        str(caught.value)
        == """\
error[CFG102]: invalid value for pyfly.messaging.provider
 --> pyfly.yaml:3:15
  |
3 |     provider: kafak
  |               ^^^^^ expected one of: memory, kafka, rabbitmq, auto, got 'kafak'
  = help: did you mean "kafka"?

error[CFG020]: ${KAFKA_PASSWRD} is not set
 --> pyfly.yaml:8:19
  |
8 |         password: ******
  |                   ^^^^^^ environment variable KAFKA_PASSWRD is not defined
  = help: did you mean ${KAFKA_PASSWORD}?

error[ENV001]: unknown environment variable PYFLY_MESSAGING__KAFKA__CLIENT_IDD
  = "client_idd" is not a setting of kafka
  = help: did you mean PYFLY_MESSAGING__KAFKA__CLIENT_ID?

3 errors"""
    )


def test_two_places_in_one_file(folder: Path) -> None:
    """A second place of the same file is shown above, marked with another sign."""
    (folder / "pyfly.yaml").write_text(
        below_messaging("provider: kafka\npublish-timeout: 3\nmemory: {}\nprovider: memory")
    )
    report = validate(environ={}).render()
    assert (
        report
        == """\
error[CFG012]: duplicate key 'provider'
 --> pyfly.yaml:6:5
  |
3 |     provider: kafka
  |     -------- first given here
...
6 |     provider: ******
  |     ^^^^^^^^ given again here
  = help: keep one of the two

1 error"""
    )


def test_two_places_in_two_files(folder: Path) -> None:
    """A second place elsewhere is named below."""
    (folder / "pyfly.yaml").write_text(below_messaging("rabbitmq:\n  url: amqp://a:hunter2@mq/"))
    (folder / "pyfly-dev.yaml").write_text(below_messaging("rabbitmq:\n  port: 5673"))
    report = validate(profiles=["dev"], environ={}).render()
    assert (
        report
        == """\
error[CFG202]: pyfly.messaging.rabbitmq: url and port are both set
 --> pyfly.yaml:4:12
  |
4 |       url: amqp://a:******@mq/
  |            ^^^^^^^^^^^^^^^^^^^
  = pyfly-dev.yaml:4:13: port is set here
  = help: use either url, or host, port, username, password and virtual-host

1 error"""
    )


def test_colour(folder: Path) -> None:
    """Colour adds nothing but colour."""
    import re

    (folder / "pyfly.yaml").write_text(FILE)
    validation = validate(environ=ENVIRON)
    coloured = validation.render(colour=True)
    assert "\x1b[1;31merror[CFG102]\x1b[0m" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == validation.render()


def test_json(folder: Path) -> None:
    """The JSON has the place, the setting and the help of each diagnostic."""
    (folder / "pyfly.yaml").write_text(FILE)
    data = json.loads(validate(environ=ENVIRON).to_json())
    assert (data["ok"], data["errors"], data["warnings"]) == (False, 3, 0)
    assert data["diagnostics"][0] == {
        "code": "CFG102",
        "severity": "error",
        "message": "invalid value for pyfly.messaging.provider",
        "setting": "pyfly.messaging.provider",
        "detail": "expected one of: memory, kafka, rabbitmq, auto, got 'kafak'",
        "help": 'did you mean "kafka"?',
        "origin": "file",
        "file": "pyfly.yaml",
        "line": 3,
        "column": 15,
        "endLine": 3,
        "endColumn": 20,
    }
    assert data["diagnostics"][2]["variable"] == "PYFLY_MESSAGING__KAFKA__CLIENT_IDD"
    assert "hunter" not in json.dumps(data)


def test_json_of_other_places() -> None:
    """Places that are no file name what they are; related places are there as well."""
    origin = Origin("keyword", "kafka.acks")
    related = Related(origin=Origin("dotenv", ".env", "NAME", 3, 1, 3, 1), label="here")
    data = Diagnostic(code="CFG100", message="m", origin=origin, related=(related,)).as_dict()
    assert (data["origin"], data["name"]) == ("keyword", "kafka.acks")
    assert data["related"][0]["variable"] == "NAME"
    assert json.loads(report_json([]))["ok"]


def test_nothing_to_report() -> None:
    """An empty report says so."""
    assert render_report([]) == "no problems"


def test_counts() -> None:
    """The last line counts by severity."""
    error = Diagnostic(code="CFG100", message="a")
    warning = Diagnostic(code="CFG100", message="b", severity="warning")
    note = Diagnostic(code="CFG100", message="c", severity="info")
    report = render_report([error, error, warning, note, note])
    assert report.endswith("\n2 errors, 1 warning, 2 info")


def test_text_that_would_move_the_cursor() -> None:
    """Control characters in a name do not reach the terminal."""
    text = render_diagnostic(
        Diagnostic(code="ENV001", message="unknown \x1b[2J\r\nX", origin=Origin("keyword", "\x9b"))
    )
    assert "\x1b" not in text
    assert "\x9b" not in text


def test_order() -> None:
    """Files come first, then .env, secrets, environment, arguments; checks across come last."""

    def at(kind: str, line: int = 0, code: str = "CFG100") -> Diagnostic:
        origin = Origin(kind, "a", "", line, 1, line, 2)  # type: ignore[arg-type]
        return Diagnostic(code=code, message=f"{kind}{line}{code}", origin=origin)

    wanted = [
        at("file", 1), at("file", 2), at("dotenv", 1), at("secret-file"), at("environment"),
        at("source"), at("keyword"), Diagnostic(code="CFG100", message="nowhere"),
        at("file", 1, "CFG202"), at("environment", 0, "CFG301"),
    ]  # fmt: skip
    assert in_order([*reversed(wanted), wanted[0]], ["a"]) == wanted


class TestExcerpts:
    """Lines of files as they may be shown."""

    def test_wide_characters(self) -> None:
        """The mark stands below its text also behind wide and combining characters."""
        source = SourceText("f", "ключ: 東京 e\u0301 x")
        source.root = None
        source.known = frozenset({"ключ"})
        line = source.excerpt(source.origin(12, 13))
        assert line.text == "******"

    def test_unparsed_lines_show_known_keys_only(self) -> None:
        """Of text that is no YAML only what begins with a known harmless key is shown."""
        source = SourceText("f", "")
        source.known = frozenset({"provider", "client-id", "password", "url"})
        source.secret_keys = frozenset({"password", "url"})
        shown = {
            "  provider: kafka # old": "  provider: kafka",
            "  provider kafka": "  provider kafka",
            "  client_id: x": "  client_id: x",
            "  clientid: x": "  ******",
            "  client-id: amqp://u:pw@h": "  client-id: ******@h",
            "  password: hunter2": "  password: ******",
            "  hunter2": "  ******",
            "hunter2: x": "******",
            "  provider: x, password: y": "  provider: x, ******",
            "  url: amqp://u:pw": "  url: ******",
            "# password: hunter2": "",
            "  ]": "  ]",
            "": "",
        }
        for line, expected in shown.items():
            text = SourceText("f", line)
            text.known, text.secret_keys = source.known, source.secret_keys
            assert text.excerpt(text.origin(0, len(line))).text == expected, line

    def test_long_lines_are_cut_around_the_mark(self) -> None:
        """Of a very long line the part around the mark is shown."""
        text = "provider: " + "x" * 500
        source = SourceText("f", text)
        source.known = frozenset({"provider"})
        line = source.excerpt(source.origin(400, 405))
        assert len(line.text) <= 110
        assert line.width == 5

    def test_positions_count_only_real_line_ends(self) -> None:
        """A line ends with CR, LF or both; NEL and LS are characters."""
        source = SourceText("f", "a\r\nb\rc\u2028d\u0085e\nf")
        assert source.position(source.text.index("f")) == (4, 1)
        assert source.position(source.text.index("e")) == (3, 5)
        assert source.line(1) == "a"


class TestCodes:
    """The table of codes."""

    def test_complete(self) -> None:
        """Each code has a title, a cause and a cure."""
        for code, entry in CODES.items():
            assert code[:3] in {"CFG", "ENV"}
            assert entry.title
            assert entry.cause.endswith(".")
            assert entry.cure
            assert not entry.cure.endswith(".")

    def test_every_code_in_the_source_is_in_the_table(self) -> None:
        """No diagnostic has a code that nobody explains."""
        folder = Path(str(settings.__file__)).parent
        used = {
            code
            for path in folder.rglob("*.py")
            for code in re.findall(r'"((?:CFG|ENV)\d{3})"', path.read_text())
        }
        assert used == set(CODES)

    def test_the_document_is_fresh(self) -> None:
        """``docs/configuration-errors.md`` is what the table says."""
        path = ROOT / "docs" / "configuration-errors.md"
        assert path.read_text(encoding="utf-8") == render_codes()
