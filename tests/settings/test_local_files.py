"""Local files: nothing but regular files is read, none of them endlessly."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyfly_messaging.settings import TlsSettings
from pyfly_messaging.settings.text.local_files import MOST_BYTES, no_path, read_file


class TestReadFile:
    """`read_file`."""

    def test_a_regular_file(self, tmp_path: Path) -> None:
        """It is read up to the limit, also through a link."""
        path, link = tmp_path / "file", tmp_path / "link"
        path.write_bytes(b"x" * MOST_BYTES)
        link.symlink_to(path)
        assert read_file(link) == b"x" * MOST_BYTES
        path.write_bytes(b"x" * (MOST_BYTES + 1))
        with pytest.raises(OSError, match="larger than 1 MB"):
            read_file(link)

    def test_no_path(self) -> None:
        """What no system takes for a path is refused as any file that is not there."""
        for name in ("a\0b", "x" * 5000, "nowhere/x"):
            with pytest.raises(OSError, match=r"not a path|too long|No such file"):
                read_file(Path(name))

    @pytest.mark.timeout(30)
    def test_a_pipe_that_takes_the_place_of_a_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is not waited for, even when it comes between the look at the file and its opening."""
        (tmp_path / "file").touch()
        regular = (tmp_path / "file").stat()
        os.mkfifo(tmp_path / "pipe")
        monkeypatch.setattr(Path, "stat", lambda path: regular)
        with pytest.raises(OSError, match="a named pipe, not a file"):
            read_file(tmp_path / "pipe")

    @pytest.mark.timeout(30)
    @pytest.mark.parametrize("name", ["ca_file", "cert_file", "key_file"])
    def test_tls_settings_without_a_load(self, name: str, tmp_path: Path) -> None:
        """Settings that were made by a program do not make OpenSSL wait for a pipe either."""
        os.mkfifo(tmp_path / "pipe")
        files = {"cert_file": "cert.pem", "key_file": "key.pem"} if name != "ca_file" else {}
        pem = Path(__file__).parent / "corpus" / "pem"
        paths = {each: str(pem / file) for each, file in files.items()}
        tls = TlsSettings.model_validate(paths | {name: str(tmp_path / "pipe")})
        with pytest.raises(OSError, match="a named pipe, not a file"):
            tls.ssl_context()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("/etc/ssl/ca.pem", ""), ("ca.pem", ""), ("~/ca.pem", ""), ("C:/ca.pem", ""),
        ("with space", ""), ("a:b", ""), ("/run/secrets/MIIkey", ""), ("block\n", ""),
        ("https://mq/ca.pem", "not a URL"), ("file:///ca.pem", "not a URL"),
        ("https:/mq", "not a URL"), ("a\nb", "content of one"), ("{a: b}", "content of one"),
        ("pyfly:", "content of one"), ("-----BEGIN CERTIFICATE-----", "the certificate itself"),
        ("-----BEGIN PRIVATE KEY-----", "the key itself"),
        ("MIIEvQ" + "a" * 60, "the key itself"), ("MC4CAQAw" + "a" * 56, "the key itself"),
    ],
)  # fmt: skip
def test_paths(text: str, problem: str) -> None:
    """A path is told from a URL, and from the content of a file."""
    found = no_path(text)
    assert problem in found
    assert bool(problem) == bool(found)
