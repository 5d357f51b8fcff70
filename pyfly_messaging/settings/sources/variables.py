"""Variables as they are found, before it is known what they set: process, ``.env``, secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pyfly_messaging.settings.diagnostics.codes import CODES
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic, Report
from pyfly_messaging.settings.diagnostics.origins import Origin
from pyfly_messaging.settings.sources.inputs import as_path
from pyfly_messaging.settings.text.local_files import no_path, read_file, read_secret, reason

MOST_LINES = 10_000
"""Lines of a ``.env`` file: to read more would take long."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable, wherever it was set."""

    name: str
    text: str
    origin: Origin
    secret: bool = False


def variables(environ: Mapping[str, str], prefix: str) -> list[Variable]:
    """Return the variables of an environment that begin with a prefix, whatever their case."""
    size = len(prefix)
    return [
        Variable(name, environ[name], Origin("environment", name))
        for name in environ
        if name[:size].upper() == prefix
    ]


def read_dotenv(path: Path, report: Report) -> list[Variable]:
    """Return the variables of a ``.env`` file, as they are written: nothing in them is expanded."""
    text = _dotenv_text(path, report)
    if text is None:
        return []
    import io

    from dotenv.parser import parse_stream

    found: dict[str, Variable] = {}
    for binding in parse_stream(io.StringIO(text)):
        line = binding.original.line + _leading_breaks(binding.original.string)
        if binding.error or (binding.key is not None and binding.value is None):
            origin = Origin("dotenv", str(path), "", line, 1, line, 1)
            report(
                Diagnostic(
                    code="ENV007",
                    severity="error" if "PYFLY" in binding.original.string.upper() else "warning",
                    message=f"a line of {path} is not NAME=value",
                    origin=origin,
                    help=CODES["ENV007"].cure,
                )
            )
        elif binding.key is not None and binding.value is not None:
            origin = Origin("dotenv", str(path), binding.key, line, 1, line, 1)
            found[binding.key] = Variable(binding.key, binding.value, origin)
    return list(found.values())


def read_secrets(named: str, prefix: str, origin: Origin, report: Report) -> list[Variable]:
    """Return the files of a secrets directory that are named as variables of this library."""
    problem, paths = no_path(named), list[Path]()
    folder = as_path(named)
    try:
        if not problem:
            paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        problem = f"{folder} cannot be read: {reason(error)}"
    if problem:
        report(
            Diagnostic(
                code="ENV008",
                message=f"the secrets directory: {problem}",
                origin=origin,
                help=CODES["ENV008"].cure,
            )
        )
        return []
    found = []
    for path in paths:
        # Without a prefix, what stands there may belong to others.
        if path.name.upper().startswith(prefix) and (prefix or not path.is_dir()):
            variable = _secret(path, report)
            if variable is not None:
                found.append(variable)
    return found


def _secret(path: Path, report: Report) -> Variable | None:
    try:
        text = read_secret(path)
    except OSError as error:
        problem = reason(error)
    else:
        origin = Origin("secret-file", str(path), path.name)
        return Variable(path.name, text, origin, secret=True)
    report(
        Diagnostic(
            code="ENV008",
            message=f"the secret file {path} cannot be read: {problem}",
            origin=Origin("secret-file", str(path), path.name),
            help=CODES["ENV008"].cure,
        )
    )
    return None


def _dotenv_text(path: Path, report: Report) -> str | None:
    try:
        text = read_file(path).decode("utf-8-sig")
    except OSError as error:
        problem = reason(error)
    except UnicodeDecodeError as error:
        problem = f"it is not UTF-8 at byte {error.start + 1}"
    else:
        if text.count("\n") <= MOST_LINES:
            return text
        problem = f"it has more than {MOST_LINES} lines"
    report(
        Diagnostic(
            code="ENV007",
            message=f"{path} cannot be read: {problem}",
            origin=Origin("dotenv", str(path)),
            help="save it as UTF-8, in a regular file, readable for this user; remove a link that "
            "leads nowhere",
        )
    )
    return None


def _leading_breaks(text: str) -> int:
    """Return how many lines the parser took along before a binding begins."""
    return text[: len(text) - len(text.lstrip())].count("\n")
