"""What the Kafka adapter needs of aiokafka's private names."""

import ast
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from pyfly_messaging.adapters.kafka import internals
from pyfly_messaging.adapters.kafka.internals import PRIVATE_NAMES, PrivateName, check
from pyfly_messaging.errors import MissingDependencyError

FOLDER = Path(internals.__file__).parent
ROOT = Path(__file__).parents[2]
OTHERS = sorted(path for path in FOLDER.glob("*.py") if path.name != "internals.py")

# What reads frames and tasks. `tb_frame` alone is not: `redaction` drops frames of any program.
FRAMES_AND_TASKS = {"all_tasks", "cr_frame", "f_locals", "f_back", "walk_tb", "walk_stack"}


@pytest.mark.parametrize("name", PRIVATE_NAMES, ids=str)
def test_the_installed_version_has_the_name(name: PrivateName) -> None:
    """The installed aiokafka has the name in the shape that is needed."""
    assert name.is_there


@pytest.mark.parametrize(
    "name",
    [
        PrivateName(owner="aiokafka.no_module", name="x"),
        PrivateName(owner="aiokafka.client:NoClass", name="x"),
        PrivateName(owner="aiokafka.client:AIOKafkaClient", name="_no_attribute"),
        PrivateName(owner="aiokafka.client:AIOKafkaClient.bootstrap", name="no_variable"),
        PrivateName(
            owner="aiokafka.client:AIOKafkaClient", name="add_topic", parameters=("self", "topics")
        ),
    ],
    ids=str,
)
def test_a_name_that_is_missing_is_refused(name: PrivateName) -> None:
    """A missing name is an error that says which, and which versions there should be."""
    with pytest.raises(MissingDependencyError) as refusal:
        check((PRIVATE_NAMES[0], name))
    text = str(refusal.value)
    assert str(name) in text
    assert str(PRIVATE_NAMES[0]) not in text
    assert f"aiokafka {version('aiokafka')}" in text
    assert f"aiokafka{internals.SUPPORTED}" in text


def test_the_package_asks_for_the_version_that_was_tried() -> None:
    """pyproject.toml admits the same versions as the check."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"]["kafka"]
    assert f"aiokafka{internals.SUPPORTED}" in extra
    assert f"=={version('aiokafka')}" == internals.SUPPORTED


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_no_other_module_touches_a_private_name(path: Path) -> None:
    """Only `internals` knows private names, frames and tasks of aiokafka."""
    tree = ast.parse(path.read_text())
    own = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    assert [f"{path.name}:{line}: {name}" for line, name in _private(tree) if name not in own] == []


def _private(tree: ast.AST) -> list[tuple[int, str]]:
    """Return the private names of others that a module uses, with their lines."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            of_self = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
            if node.attr in FRAMES_AND_TASKS or (_is_private(node.attr) and not of_self):
                found.append((node.lineno, node.attr))
        elif isinstance(node, ast.ImportFrom):
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            if not (node.module or "").startswith("__"):
                found += [
                    (node.lineno, part)
                    for part in parts
                    if _is_private(part) or part in FRAMES_AND_TASKS
                ]
        elif isinstance(node, ast.Constant):
            text = str(node.value)
            found += [(node.lineno, text)] if _is_private(text) and text.isidentifier() else []
    return found


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_the_walk_finds_private_names() -> None:
    """The walk sees attributes, imports and names as text."""
    source = """
from aiokafka.record._protocols import DefaultRecordProtocol
from aiokafka.record.util import _decode
client._conns
self._client._conns
self._client
getattr(client, "_conns")
frame.f_locals
"""
    assert [line for line, _ in sorted(_private(ast.parse(source)))] == [2, 3, 4, 5, 7, 8]
