"""What is published: the wheel, the source distribution, and their metadata."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

from pyfly_messaging.settings import json_schema
from pyfly_messaging.settings.views.schema import schema_text

ROOT = Path(__file__).parent.parent
SCHEMA = "pyfly.schema.json"


def build(project: Path, folder: Path, *arguments: str) -> Path:
    """Build into a folder, with the backend that pyproject.toml names, and return the folder."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--directory", str(folder), *arguments],
        cwd=project,
        check=True,
        capture_output=True,
    )
    return folder


def content(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist."""
    return build(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def wheel(built: Path) -> dict[str, bytes]:
    """The files of the wheel."""
    return content(next(built.glob("*.whl")))


@pytest.fixture(scope="module")
def metadata(wheel: dict[str, bytes]) -> Message:
    """What the index shows."""
    return message_from_bytes(next(wheel[name] for name in wheel if name.endswith("/METADATA")))


def test_schema_in_the_wheel(wheel: dict[str, bytes]) -> None:
    """The wheel has the schema: what `settings` makes, and what stands in config/."""
    found = wheel[f"pyfly_messaging/settings/{SCHEMA}"].decode()
    assert found == schema_text()
    assert found == (ROOT / "config" / SCHEMA).read_text()


def test_schema_without_the_command() -> None:
    """The schema is a function of the settings, and describes them."""
    messaging = json_schema()["properties"]["pyfly"]["properties"]["messaging"]
    assert {"provider", "kafka", "rabbitmq"} <= messaging["properties"].keys()


def test_wheel_is_the_package(wheel: dict[str, bytes]) -> None:
    """The wheel has every module of the package, its type marker, and no other top folder."""
    modules = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "pyfly_messaging").rglob("*.py")
    }
    assert modules | {"pyfly_messaging/py.typed"} <= wheel.keys()
    tops = {name.partition("/")[0] for name in wheel if ".dist-info/" not in name}
    assert tops == {"pyfly_messaging"}


def test_extras(metadata: Message) -> None:
    """The published extras are for users; tools of development are none of them."""
    assert set(metadata.get_all("Provides-Extra", [])) == {"kafka", "rabbitmq", "cli", "all"}


def test_links_on_the_index(metadata: Message) -> None:
    """On the index every link of the README is absolute, and leads to a file of this version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    files = f"{project['urls']['Source']}/blob/v{project['version']}/"
    links = re.findall(r"\]\(([^)\s]+)\)", str(metadata.get_payload()))
    ours = [link.removeprefix(files).partition("#")[0] for link in links if link.startswith(files)]
    assert "docs/guarantees.md" in ours
    assert [name for name in ours if not (ROOT / name).exists()] == []
    assert [link for link in links if "://" not in link and not link.startswith("#")] == []


def test_sdist_builds_and_tests_itself(built: Path, wheel: dict[str, bytes]) -> None:
    """The sdist has what the build and the tests read, and the wheel built from it is the same."""
    source = built / "source"
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        archive.extractall(source, filter="data")
    (project,) = source.iterdir()
    for name in (
        *("LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "Makefile"),
        *("compose.yaml", "noxfile.py", ".ci/run", ".gitignore", ".pre-commit-config.yaml"),
        *("config/pyfly.yaml", "docs/guarantees.md", "tests/conftest.py", "tests/brokers/pom.xml"),
    ):
        assert (project / name).is_file(), name
    again = build(project, built / "again", "--target", "wheel")
    assert content(next(again.glob("*.whl"))) == wheel
