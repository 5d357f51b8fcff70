"""The private names of aiormq: they exist, and only one module touches them."""

import ast
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import aiormq
import pytest

from pyfly_messaging.adapters.rabbitmq import internals
from pyfly_messaging.adapters.rabbitmq.internals import PRIVATE_NAMES, PrivateName, check_client

FOLDER = Path(internals.__file__).parent
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
# What looks into the insides of others without an underscore.
PEEKING = {"_getframe", "currentframe", "all_tasks", "get_coro", "get_stack", "get_objects"}


def private_names(module: Path) -> Iterator[str]:
    """Yield what a module touches that is private to another: attributes, imports, overrides."""
    tree = ast.parse(module.read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    own = {node.name for node in ast.walk(tree) if isinstance(node, functions)}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                pass  # one's own, unless it is overridden or mangled, which is seen below
            case ast.Attribute(attr=name) if name in own:
                pass
            case ast.Attribute(attr=name) if name.startswith("_") and not name.startswith("__"):
                yield name
            case ast.Attribute(attr=name) if name in PEEKING:
                yield name
            case ast.ImportFrom(names=names):
                yield from (each.name for each in names if each.name.startswith("_"))
        match node:
            case (
                ast.Constant(value=str(name))
                | ast.Attribute(attr=name)
                | ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
            ) if name in {private.name for private in PRIVATE_NAMES} or name.startswith(
                ("_Connection__", "_Channel__")
            ):
                yield name


@pytest.mark.parametrize("private", PRIVATE_NAMES, ids=lambda private: private.name)
def test_the_installed_client_has_it(private: PrivateName) -> None:
    """Each private name exists in the installed client, with the shape that is needed."""
    assert private.problem is None


def test_every_private_name_is_listed() -> None:
    """What the one module touches is what it lists, with a reason and an end for each."""
    assert set(private_names(FOLDER / "internals.py")) == {p.name for p in PRIVATE_NAMES}
    assert all(private.why and private.until for private in PRIVATE_NAMES)


@pytest.mark.parametrize("module", sorted(FOLDER.glob("*.py")), ids=lambda module: module.name)
def test_no_other_module_touches_the_internals_of_the_client(module: Path) -> None:
    """Private names of others, patches and looks at frames or tasks stand in one module alone."""
    if module.name == "internals.py":
        return
    tree = ast.parse(module.read_text())
    bases = [
        ast.unparse(base) for c in ast.walk(tree) if isinstance(c, ast.ClassDef) for base in c.bases
    ]
    assert list(private_names(module)) == []
    assert not [base for base in bases if "Channel" in base or "Connection" in base]


@pytest.mark.parametrize(
    ("name", "parameters", "problem"),
    [
        ("_Connection__no_such", ("self",), "Connection._Connection__no_such is missing"),
        ("_Connection__reader", ("self", "x"), "takes (self, frame_receiver), not (self, x)"),
        ("is_opened", ("self",), "Connection.is_opened is no async method"),
    ],
)
def test_a_client_that_does_not_fit_is_named(
    name: str, parameters: tuple[str, ...], problem: str
) -> None:
    """The error names the client, the installed version, what differs, and what to install."""
    private = PrivateName(
        owner=aiormq.Connection, name=name, parameters=parameters, why="", until=""
    )
    with pytest.raises(ImportError) as raised:
        check_client([private])
    text = str(raised.value)
    assert f"aiormq {version('aiormq')} does not fit" in text
    assert problem in text
    assert text.endswith(f"install {internals.SUPPORTED}")


def test_only_versions_that_were_tried_can_be_installed() -> None:
    """The package asks for the versions that the error names."""
    extras = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    assert internals.SUPPORTED in extras["rabbitmq"]
    assert f"aiormq=={version('aiormq')}" == internals.SUPPORTED
