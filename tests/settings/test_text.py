"""What is read from text: suggestions, secrets, scalars, placeholders, durations."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyfly_messaging.settings import MessagingSettings
from pyfly_messaging.settings.catalogue.tree import catalogue
from pyfly_messaging.settings.text.durations import format_duration, parse_duration
from pyfly_messaging.settings.text.local_files import read_secret
from pyfly_messaging.settings.text.placeholders import expand
from pyfly_messaging.settings.text.plain import mask_value
from pyfly_messaging.settings.text.scalars import resolve
from pyfly_messaging.settings.text.secrets import looks_secret, mask_url
from pyfly_messaging.settings.text.sizes import format_size, parse_size
from pyfly_messaging.settings.text.suggest import closest, edit_distance


class TestSuggest:
    """What somebody may have meant."""

    @pytest.mark.parametrize(
        ("word", "meant"),
        [
            ("kafak", "kafka"), ("kafk", "kafka"), ("Kafka", "kafka"), ("rabbit", "rabbitmq"),
            ("bootstrapServers", "bootstrap-servers"), ("bootstrap_server", "bootstrap-servers"),
            ("ssl", "tls"), ("x", None), ("", None), ("completely-else", None),
        ],
    )  # fmt: skip
    def test_closest(self, word: str, meant: str | None) -> None:
        """Spelling first, then synonyms, then slips."""
        assert closest(word, ["memory", "kafka", "rabbitmq", "bootstrap-servers", "tls"]) == meant

    def test_edit_distance(self) -> None:
        """A swap of neighbours is one change; no distance is more than the limit."""
        assert edit_distance("kafak", "kafka", 9) == 1
        assert edit_distance("kitten", "sitting", 9) == 3
        assert edit_distance("", "abc", 9) == 3
        assert edit_distance("abc", "xyz", 2) == 2
        assert edit_distance("abcd", "abcdefgh", 3) == 3


class TestSecrets:
    """What is secret, and how it is masked."""

    @pytest.mark.parametrize(
        "name",
        [
            "password", "key-password", "sslPassword", "DB_PASSWORD", "api_key", "apikey",
            "auth-token", "secret", "client_secret", "sasl.jaas.config", "passphrase",
            "private-key", "pasword", "sasl_plain_password", "credentials", "pa ssword", "passwrt",
            "sslpassword", "AWS_SECRET_ACCESS_KEY", "Pass-Word",
        ],
    )  # fmt: skip
    def test_secret(self, name: str) -> None:
        """These names hold secrets, in any spelling and with a slip."""
        assert looks_secret(name)

    @pytest.mark.parametrize(
        "name", ["key-file", "username", "bootstrap-servers", "key", "compass", "provider", "url"]
    )
    def test_harmless(self, name: str) -> None:
        """These do not."""
        assert not looks_secret(name)

    def test_settings(self) -> None:
        """Of the settings themselves only passwords look like secrets."""
        found = {leaf.name for leaf in catalogue(MessagingSettings).leaves()}
        assert {name for name in found if looks_secret(name)} == {"password", "key-password"}

    @pytest.mark.parametrize(
        ("url", "masked"),
        [
            ("amqp://u:p@h/v", "amqp://u:******@h/v"),
            ("amqp://u:p@x@h", "amqp://u:******@h"),
            ("amqp://u:p#/?@h", "amqp://u:******@h"),
            ("amqp://u@h", "amqp://u@h"),
            ("amqp://a b:p@h", "amqp://******@h"),
            ("u:p@h", "******@h"),
            ("u@h", "u@h"),
            ("amqp:/u:p@h", "******@h"),
            ("plain", "plain"),
        ],
    )
    def test_mask_url(self, url: str, masked: str) -> None:
        """The password goes; where it cannot be told apart, all before the host goes."""
        assert mask_url(url) == masked

    def test_mask_value(self) -> None:
        """Values are masked by their name and by their form, at any depth."""
        value = {"a": ["x://u:p@h", 1], "token": "t", "b": {"password": "p", "n": None}}
        assert mask_value(value) == {
            "a": ["x://u:******@h", 1],
            "token": "******",
            "b": {"password": "******", "n": None},
        }


class TestScalars:
    """YAML 1.2's core schema."""

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("", None), ("~", None), ("null", None), ("Null", None), ("nul", "nul"),
            ("true", True), ("False", False), ("yes", "yes"), ("off", "off"), ("tRUE", "tRUE"),
            ("1", 1), ("-7", -7), ("+7", 7), ("0777", 777), ("0o17", 15), ("0x1F", 31),
            ("1.5", 1.5), (".5", 0.5), ("1.", 1.0), ("1e3", 1000.0), ("-1.5E-1", -0.15),
            (".inf", float("inf")), ("-.Inf", float("-inf")), ("1_000", "1_000"),
            ("12:30", "12:30"), ("2024-01-31", "2024-01-31"), ("0b1", "0b1"), ("1.2.3", "1.2.3"),
            ("+", "+"), (".", "."), ("٣", "٣"),
        ],
    )  # fmt: skip
    def test_resolve(self, text: str, value: object) -> None:
        """Only what the core schema names is no text."""
        resolved = resolve(text)
        assert resolved == value
        assert type(resolved) is type(value)

    def test_not_a_number(self) -> None:
        """``.nan`` is a number that is none."""
        assert str(resolve(".nan")) == "nan"

    def test_enormous(self) -> None:
        """A number that Python refuses to read stays text."""
        assert resolve("9" * 5000) == "9" * 5000


class TestPlaceholders:
    """``${…}`` in values."""

    ENVIRON = {"A": "a", "B": "${A}", "EMPTY": "", "DB_PASSWORD": "hunter2"}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("${A}", "a"), ("x${A}y${A}z", "xayaz"), ("${B}", "${A}"), ("${EMPTY}", ""),
            ("${EMPTY:d}", ""), ("${N:d}", "d"), ("${N:}", ""), ("${N:${A}}", "a"),
            ("${N:${M:${A}!}}", "a!"), ("${N:a:b}", "a:b"), ("$${A}", "${A}"), ("$$${A}", "$${A}"),
            ("$A", "$A"), ("a}b", "a}b"), ("{A}", "{A}"), ("", ""), ("$", "$"),
        ],
    )  # fmt: skip
    def test_expand(self, text: str, value: str) -> None:
        """Names, defaults, nested defaults and escapes."""
        expanded, problems = expand(text, self.ENVIRON)
        assert problems == []
        assert expanded is not None
        assert expanded.text == value

    def test_via_and_secrecy(self) -> None:
        """What was used is known once each; a secret's name makes the value a secret."""
        expanded, _ = expand("${A}${DB_PASSWORD}${A}", self.ENVIRON)
        assert expanded is not None
        assert expanded.via == ("${A}", "${DB_PASSWORD}")
        assert expanded.secret

    def test_all_problems_at_once(self) -> None:
        """Each problem is reported with its place."""
        expanded, problems = expand("${X} ${A} ${bad-name} ${Y:?e}", self.ENVIRON)
        assert expanded is None
        assert [(p.code, p.start, p.end) for p in problems] == [
            ("CFG020", 0, 4), ("CFG021", 10, 21), ("CFG021", 22, 29),
        ]  # fmt: skip

    def test_depth(self) -> None:
        """Defaults in defaults in defaults end somewhere."""
        _, problems = expand("${N:" * 40 + "x" + "}" * 40, {})
        assert [p.code for p in problems] == ["CFG021"]

    def test_secret_file(self, tmp_path: Path) -> None:
        """The line break at the end of a secret file is not a part of the secret."""
        path = tmp_path / "secret"
        path.write_bytes(b" two\nlines \r\n")
        assert read_secret(path) == " two\nlines "
        path.write_bytes(b"\xff")
        with pytest.raises(OSError, match="not UTF-8"):
            read_secret(path)
        path.write_bytes(b"x" * 70_000)
        with pytest.raises(OSError, match="64 KB"):
            read_secret(path)
        with pytest.raises(OSError, match="not a file"):
            read_secret(tmp_path)


class TestSizes:
    """Sizes as numbers and as text."""

    @pytest.mark.parametrize(
        ("given", "size"),
        [
            (0, 0), (5, 5), (5.0, 5), ("5", 5), ("5B", 5), ("512KiB", 524288), ("64MiB", 67108864),
            ("1GiB", 1073741824), ("1.5kib", 1536), (" 2 ", 2),
        ],
    )  # fmt: skip
    def test_parse(self, given: object, size: int) -> None:
        """Both forms mean bytes."""
        assert parse_size(given) == size

    @pytest.mark.parametrize(
        "given",
        ["", "MiB", "5MB", "5 MiB", "-1", -1, 1.5, "1.3B", True, None, [], float("inf"), "1e3"],
    )
    def test_refused(self, given: object) -> None:
        """Everything else is refused."""
        with pytest.raises(ValueError, match="size"):
            parse_size(given)

    @pytest.mark.parametrize(
        ("size", "text"),
        [(0, "0"), (1000, "1000"), (1536, "1536"), (2048, "2KiB"), (67108864, "64MiB")],
    )
    def test_format(self, size: int, text: str) -> None:
        """The text is read back as the same number."""
        assert format_size(size) == text
        assert parse_size(text) == size


class TestDurations:
    """Durations as numbers and as text."""

    @pytest.mark.parametrize(
        ("given", "seconds"),
        [
            (5, 5.0), (0.5, 0.5), ("5", 5.0), ("500ms", 0.5), ("10s", 10.0), ("5m", 300.0),
            ("1h", 3600.0), ("1d", 86400.0), ("1h30m", 5400.0), (" 1.5S ", 1.5), (".5", 0.5),
        ],
    )  # fmt: skip
    def test_parse(self, given: object, seconds: float) -> None:
        """Both forms mean seconds."""
        assert parse_duration(given) == seconds

    @pytest.mark.parametrize(
        "given",
        [
            "", "s", "5x", "5 s", "1m1h", "1s1s", "-1", -1, True, None, [], float("inf"), "nan",
            "1e3",
        ],
    )  # fmt: skip
    def test_refused(self, given: object) -> None:
        """Everything else is refused."""
        with pytest.raises(ValueError, match=r"duration|units"):
            parse_duration(given)

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0, "0"), (0.1, "100ms"), (0.005, "5ms"), (1.5, "1.5s"), (30.0, "30s"), (90.0, "90s"),
            (300.0, "5m"), (3600.0, "1h"), (0.0001, "0.0001s"), (1234.5678, "1234.5678s"),
        ],
    )  # fmt: skip
    def test_format(self, seconds: float, text: str) -> None:
        """The text is read back as the same number."""
        assert format_duration(seconds) == text
        assert parse_duration(text) == seconds
