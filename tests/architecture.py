"""The modules as the tables of `docs/architecture.md`; `python -m tests.architecture`.

A folder has its sentence and a row for each module: the first paragraph of the docstring.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pyfly_messaging"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- modules: begin -->\n", "<!-- modules: end -->\n"

# The order of the page; folders that are not named come after the folder above them.
FIRST = (
    "",
    "delivery",
    "adapters",
    "adapters/kafka",
    "adapters/rabbitmq",
    "adapters/memory",
    "settings",
    "settings/models",
    "settings/sources",
    "settings/plugins",
    "settings/binding",
    "settings/catalogue",
    "settings/validation",
    "settings/diagnostics",
    "settings/views",
    "settings/text",
    "bootstrap",
    "container",
    "cli",
    "logs",
    "testing",
)


def page(text: str) -> str:
    """Return a page with the tables between its two marks."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def tables() -> str:
    """Return the tables of all folders."""
    return "\n".join(_table(folder) for folder in _folders())


def has(path: Path, name: str) -> bool:
    """Tell whether a module has a function, class, method or constant of a dotted name."""
    node: ast.AST = ast.parse(path.read_text(encoding="utf-8"))
    for part in name.split("."):
        found = next((n for n in ast.iter_child_nodes(node) if part in _names(n)), None)
        if found is None:
            return False
        node = found
    return True


def _names(node: ast.AST) -> set[str]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return {node.name}
        case ast.Assign(targets=targets):
            return {name.id for name in targets if isinstance(name, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
        case _:
            return set()


def _folders() -> Iterator[str]:
    """Yield every folder with modules, those of `FIRST` in its order."""
    found = {path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
    folders = {"" if folder == "." else folder for folder in found}

    def place(folder: str) -> tuple[int, str]:
        above = folder
        while above not in FIRST:
            above = above.rpartition("/")[0]
        return FIRST.index(above), folder

    return iter(sorted(folders, key=place))


def _table(folder: str) -> str:
    modules = sorted((PACKAGE / folder).glob("*.py"))
    rows = [f"| `{m.name}` | {_sentence(m)} |" for m in modules if m.name != "__init__.py"]
    title = f"{PACKAGE.name}/{folder}/" if folder else f"{PACKAGE.name}/"
    lines = [f"### {title}", "", _sentence(PACKAGE / folder / "__init__.py")]
    if rows:
        lines += ["", "| Module | What is in it |", "|---|---|", *rows]
    return "\n".join(lines) + "\n"


def _sentence(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first = " ".join(text.split("\n\n", maxsplit=1)[0].split())
    return first.replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
