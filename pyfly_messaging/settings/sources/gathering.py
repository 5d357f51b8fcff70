"""Gathering: from arguments, variables and files to layers, the highest precedence first."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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


@dataclass(slots=True)
class Gathered:
    """What was read.

    Attributes:
        layers: All layers, the one with the highest precedence first.
        files: The files, and the active profiles.
        texts: The texts of the files by their names, for reports.
        lost: Whether a file could not be read at all.

    """

    layers: list[Layer] = field(default_factory=list)
    files: Files = field(default_factory=lambda: Files((), ()))
    texts: dict[str, SourceText] = field(default_factory=dict)
    lost: bool = False


def gather(
    root: Setting, naming: Naming, inputs: Inputs, keywords: Mapping[str, Any], report: Report
) -> Gathered:
    """Read all layers. The list in the middle is the precedence, the highest first."""
    environ = inputs.variables
    dotenv = _dotenv(inputs, report)
    known = {v.name: v.text for v in dotenv} | dict(environ) if dotenv else environ
    read = EnvironmentReader(root, naming, report).read
    found = Gathered()
    found.layers = [
        _arguments(root, keywords, report),
        read("environment", variables(environ, naming.prefix)),
        read("dotenv", [v for v in dotenv if v.name.upper().startswith(naming.prefix)]),
        read("secrets", _secrets(inputs, known, naming, report)),
        *_files(found, root, inputs, known, report),
    ]
    _near_misses(environ, dotenv, root, naming, report)
    return found


def _arguments(root: Setting, keywords: Mapping[str, Any], report: Report) -> Layer:
    layer = Layer("arguments")
    finite = {}
    for name, value in keywords.items():
        if (problem := excess(value)) is None:
            finite[name] = value
        else:
            report(_endless(name, problem))
    if finite:
        Binder(root, layer, report).bind(root, from_keywords(finite), ())
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


def _near_misses(
    environ: Mapping[str, str],
    dotenv: list[Variable],
    root: Setting,
    naming: Naming,
    report: Report,
) -> None:
    # Of 200 variables most can be left out by a glance at their names.
    origins = {
        name: Origin("environment", name)
        for name in environ
        if "__" in name or "PY" in name.upper()
    }
    near_misses({v.name: v.origin for v in dotenv} | origins, root, naming, report)


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


def _files(
    found: Gathered, root: Setting, inputs: Inputs, environ: Mapping[str, str], report: Report
) -> list[Layer]:
    """Read the base file and those of the profiles; return the last profile's first."""

    def note(diagnostic: Diagnostic) -> None:
        found.lost = found.lost or diagnostic.code in {"CFG018", "CFG026"}
        report(diagnostic)

    found.files = find_files(inputs, environ, note)
    layers = []
    for path in found.files.paths:
        from pyfly_messaging.settings.sources.yaml.file import YamlFile

        file = YamlFile(path, root, environ, report)
        found.lost = found.lost or file.lost
        if file.source is not None:
            found.texts[file.source.name] = file.source
        layers.append(file.layer)
    return layers[::-1]
