"""The precedence of sources: reads them all once, and makes layers of them, the highest first."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyfly_messaging.settings.binding.binder import Binder
from pyfly_messaging.settings.binding.given import from_keywords
from pyfly_messaging.settings.binding.layers import Layer
from pyfly_messaging.settings.catalogue.naming import Naming
from pyfly_messaging.settings.catalogue.tree import Setting
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic, Report
from pyfly_messaging.settings.diagnostics.origins import Origin
from pyfly_messaging.settings.diagnostics.source_text import SourceText
from pyfly_messaging.settings.sources.discovery import SECRETS_VARIABLE, Files, find_files
from pyfly_messaging.settings.sources.environment import EnvironmentReader, near_misses
from pyfly_messaging.settings.sources.inputs import Inputs, as_path
from pyfly_messaging.settings.sources.variables import Variable, variables
from pyfly_messaging.settings.text.local_files import is_there
from pyfly_messaging.settings.text.names import full
from pyfly_messaging.settings.text.nesting import Excess, excess

if TYPE_CHECKING:
    from pyfly_messaging.settings.sources.yaml.file import YamlFile


@dataclass(frozen=True, slots=True)
class Gathered:
    """What was read, before it is known which settings there are.

    Attributes:
        arguments: Keyword arguments that have an end.
        environ: The environment.
        dotenv: The variables of ``.env``.
        secrets: The files of the secrets directory.
        found: Which files there are, and the active profiles.
        files: The files, the base first.
        missing: Whether a file is not there that should be.

    """

    arguments: dict[str, Any]
    environ: Mapping[str, str]
    dotenv: list[Variable]
    secrets: list[Variable]
    found: Files
    files: list[YamlFile]
    missing: bool

    @property
    def lost(self) -> bool:
        """Whether a file could not be read at all."""
        return self.missing or any(file.lost for file in self.files)

    @property
    def texts(self) -> dict[str, SourceText]:
        """The texts of the files by their names, for reports."""
        sources = (file.source for file in self.files)
        return {source.name: source for source in sources if source is not None}


def gather(naming: Naming, inputs: Inputs, keywords: Mapping[str, Any], report: Report) -> Gathered:
    """Read everything once: arguments, environment, ``.env``, secrets, files."""
    environ = inputs.variables
    dotenv = _dotenv(inputs, report)
    known = _known(environ, dotenv)
    arguments = _finite(keywords, report)
    secrets = _secrets(inputs, known, naming, report)
    problems: list[Diagnostic] = []
    found = find_files(inputs, known, problems.append)
    for problem in problems:
        report(problem)
    files = _read_files(found, report)
    missing = any(problem.code in {"CFG018", "CFG026"} for problem in problems)
    return Gathered(arguments, environ, dotenv, secrets, found, files, missing)


def layers(root: Setting, naming: Naming, given: Gathered, report: Report) -> list[Layer]:
    """Return what was read as layers of settings. The list is the precedence, the highest first."""
    read, prefix = EnvironmentReader(root, naming, report).read, naming.prefix
    known = _known(given.environ, given.dotenv)
    result = [
        _arguments(root, given.arguments, report),
        read("environment", variables(given.environ, prefix)),
        read("dotenv", [v for v in given.dotenv if v.name.upper().startswith(prefix)]),
        read("secrets", given.secrets),
        # The last profile wins over those before it, and each of them over the base file.
        *(file.layer(root, known, report) for file in reversed(given.files)),
    ]
    _near_misses(given, root, naming, report)
    return result


def _known(environ: Mapping[str, str], dotenv: list[Variable]) -> Mapping[str, str]:
    return {v.name: v.text for v in dotenv} | dict(environ) if dotenv else environ


def _read_files(found: Files, report: Report) -> list[YamlFile]:
    if not found.paths:
        return []
    # Without a file no YAML parser is imported.
    from pyfly_messaging.settings.sources.yaml.file import YamlFile

    return [YamlFile(path, report) for path in found.paths]


def _finite(keywords: Mapping[str, Any], report: Report) -> dict[str, Any]:
    finite = {}
    for name, value in keywords.items():
        if (problem := excess(value)) is None:
            finite[name] = value
        else:
            report(_endless(name, problem))
    return finite


def _arguments(root: Setting, arguments: Mapping[str, Any], report: Report) -> Layer:
    layer = Layer("arguments")
    if arguments:
        Binder(root, layer, report).bind(root, from_keywords(arguments), ())
    return layer


def _endless(name: str, problem: Excess) -> Diagnostic:
    """Complain about an argument that cannot be followed to its end."""
    path = (name, *problem.path)
    return Diagnostic(
        code="CFG016",
        message=f"the argument {name}: {problem.message}",
        setting=full((name,)),
        origin=Origin("keyword", ".".join(path)),
        label="here",
        help="give plain data that does not contain itself",
    )


def _dotenv(inputs: Inputs, report: Report) -> list[Variable]:
    found: dict[str, Variable] = {}
    for path in map(as_path, inputs.dotenv):
        # A virtual environment may have this name as well. Path.is_file would raise where it is
        # not allowed to look.
        if is_there(path) and not os.path.isfile(path / "pyvenv.cfg"):  # noqa: PTH113
            from pyfly_messaging.settings.sources.variables import read_dotenv

            found |= {variable.name: variable for variable in read_dotenv(path, report)}
    return list(found.values())


def _near_misses(given: Gathered, root: Setting, naming: Naming, report: Report) -> None:
    # Of 200 variables most can be left out by a glance at their names.
    origins = {
        name: Origin("environment", name)
        for name in given.environ
        if "__" in name or "PY" in name.upper()
    }
    near_misses({v.name: v.origin for v in given.dotenv} | origins, root, naming, report)


def _secrets(
    inputs: Inputs, environ: Mapping[str, str], naming: Naming, report: Report
) -> list[Variable]:
    folder, origin = inputs.secrets_dir, Origin("keyword", "secrets_dir")
    if folder is None:
        folder = environ.get(SECRETS_VARIABLE, "").strip()
        origin = Origin("environment", SECRETS_VARIABLE)
    if not folder:
        return []
    from pyfly_messaging.settings.sources.variables import read_secrets

    return read_secrets(os.fspath(folder), naming.prefix, origin, report)
