"""Broken YAML, explained: what the parser tripped over, and what was most likely meant.

The parser's own messages quote the file, secrets included, so none of them is passed on.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from pyfly_messaging.settings.diagnostics.codes import CODES
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic, Related
from pyfly_messaging.settings.diagnostics.source_text import SourceText
from pyfly_messaging.settings.text.lookalikes import lookalike


def explain(error: YAMLError, source: SourceText) -> Diagnostic:
    """Return what is wrong with a text that is no YAML."""
    if isinstance(error, ReaderError):
        return _control_character(source, error.position)
    if not isinstance(error, MarkedYAMLError):
        return diagnose("CFG001", "the file is not valid YAML", source, (0, 1))
    problem = Problem(error, source)
    for rule in _RULES:
        found = rule(problem)
        if found is not None:
            return found
    label = "YAML cannot go on here"
    return diagnose("CFG001", "the file is not valid YAML", source, (problem.at, None), label)


def explain_crash(source: SourceText) -> Diagnostic:
    """Return what is wrong with a text on which the parser gave up without saying where."""
    depth, deepest = 0, 0
    for index, char in enumerate(source.text):
        depth += (char in "[{") - (char in "]}")
        if depth > 100:
            deepest = index
            break
    return diagnose(
        "CFG016", "nested deeper than 100 levels", source, (deepest, deepest + 1), "here"
    )


def explain_size(at: int, most: int, source: SourceText) -> Diagnostic:
    """Return what is wrong with a text that has more keys and values than are read."""
    return diagnose(
        "CFG016", f"the file has more than {most} keys and values", source, (at, at + 1),
        "too many from here on", help="split it: this file needs the section pyfly: alone",
    )  # fmt: skip


def _control_character(source: SourceText, at: int) -> Diagnostic:
    char = source.text[at : at + 1]
    return diagnose(
        "CFG010",
        f"the file has a control character: U+{ord(char or chr(0)):04X}",
        source, (at, at + 1), "not allowed in YAML",
    )  # fmt: skip


def _documents(problem: Problem) -> Diagnostic | None:
    if "single document" not in problem.context:
        return None
    message, label = "the file has several documents", "the second document begins here"
    return diagnose("CFG011", message, problem.source, (problem.at, problem.at + 3), label)


def _tab(problem: Problem) -> Diagnostic | None:
    line, _ = problem.source.position(problem.at)
    for number in (line, problem.previous()[0]):
        text = problem.source.line(number) if number else ""
        indent = re.match(r"[ \t]*", text)
        column = text.find("\t")
        if column >= 0 and indent and (column < indent.end() or r"\t" in problem.problem):
            at = problem.source.index(number, column + 1)
            message, label = "a tab where YAML takes only spaces", "this is a tab"
            return diagnose("CFG002", message, problem.source, (at, at + 1), label)
    return None


def _look_alike(problem: Problem) -> Diagnostic | None:
    line, _ = problem.source.position(problem.at)
    for number in (line, problem.previous()[0]):
        found = lookalike(problem.source.line(number)) if number else None
        if found is not None:
            at = problem.source.index(number, found[0] + 1)
            return diagnose(
                "CFG008", f"{found[1]} in the text", problem.source, (at, at + 1), "here"
            )
    return None


def _quote(problem: Problem) -> Diagnostic | None:
    if "quoted scalar" not in problem.context:
        return None
    if "escape" in problem.problem:
        return diagnose(
            "CFG003",
            "an unknown escape in a text in double quotes",
            problem.source, (max(problem.at - 1, 0), problem.at + 1),
            "a backslash begins an escape",
            help="double the backslash, or use single quotes",
        )  # fmt: skip
    message, label = "a quote is not closed", "the text begins here and never ends"
    return diagnose("CFG003", message, problem.source, (problem.begin, problem.begin + 1), label)


def _after_value(problem: Problem) -> Diagnostic | None:
    """Explain text after a complete value: ``"a" b``, ``{topic}.dlt``, a bracket too many."""
    if "block" not in problem.context or "<block end>" not in problem.problem:
        return None
    before = problem.before().rstrip()
    if problem.problem.endswith(("'}'", "']'")):
        message, label = "a bracket is closed that was never opened", "remove it"
        return diagnose("CFG004", message, problem.source, (problem.at, problem.at + 1), label)
    if before.endswith(("}", "]")):
        start = _value_start(problem)
        return _needs_quotes(problem, start, "a value that begins with a bracket")
    if before.endswith(("'", '"')):
        message, label = "text after the closing quote", "the quoted text ended before this"
        return diagnose("CFG003", message, problem.source, (problem.at, None), label)
    return None


def _flow(problem: Problem) -> Diagnostic | None:
    if "flow" not in problem.context:
        return None
    message, label = "a bracket is not closed, or a comma is missing", "opened here"
    source, at = problem.source, problem.begin
    if source.position(problem.at)[0] == source.position(at)[0]:
        label = "in this list or mapping"
    return diagnose("CFG004", message, source, (at, at + 1), label)


def _special(problem: Problem) -> Diagnostic | None:
    """Explain a value that begins with a character that means something."""
    if "cannot start any token" in problem.problem:
        return _needs_quotes(problem, problem.at, "a value that begins with this character")
    if "undefined alias" in problem.problem or "scanning an alias" in problem.context:
        at = problem.begin if "scanning" in problem.context else problem.at
        return _needs_quotes(problem, at, "a value that begins with '*'")
    if "scanning an anchor" in problem.context:
        return _needs_quotes(problem, problem.begin, "a value that begins with '&'")
    if "tag" in problem.context or "tag" in problem.problem:
        return _needs_quotes(problem, problem.begin, "a value that begins with '!'")
    if "block scalar" in problem.context:
        return _needs_quotes(problem, problem.begin, "a value that begins with '|' or '>'")
    if "directive" in problem.context:
        return _needs_quotes(problem, problem.begin, "a line that begins with '%'")
    return None


def _missing_colon(problem: Problem) -> Diagnostic | None:
    if "simple key" not in problem.context or "':'" not in problem.problem:
        return None
    return _no_colon(problem, problem.source.position(problem.begin)[0])


def _mapping_values(problem: Problem) -> Diagnostic | None:
    """Explain a colon where no key can be."""
    if "mapping values" not in problem.problem:
        return None
    number, above = problem.previous()
    if ": " in problem.before():
        start = _value_start(problem)
        value = problem.source.text[start : problem.at]
        if value in problem.source.known:
            return diagnose(
                "CFG007", "several keys on one line", problem.source, (start, problem.at),
                "YAML takes this for the value of the key before",
                help="write one key a line, each level indented below the other",
            )  # fmt: skip
        return _needs_quotes(problem, _value_start(problem), "a value with ': ' in it")
    content = above.strip().removeprefix("- ")
    if not re.search(r":(\s|$)", content.split(" #")[0]):
        return _no_colon(problem, number)
    return _indentation(problem)


def _directive(problem: Problem) -> Diagnostic | None:
    """Explain a line that begins with ``%``, which YAML takes for a directive."""
    at = problem.source.text.find("%")
    if "document start" not in problem.problem or at < 0 or problem.source.position(at)[1] != 1:
        return None
    return _needs_quotes(problem, at, "a line that begins with '%'")


def _not_here(problem: Problem) -> Diagnostic | None:
    """Explain a list on the line of its key, and a value that begins with ``?``."""
    if "mapping keys are not allowed" in problem.problem:
        return _needs_quotes(problem, problem.at, "a value that begins with '?'")
    if "sequence entries are not allowed" not in problem.problem:
        return None
    message, label = "a list cannot begin here", "the first item stands on a line of its own"
    help_ = "begin the list on the next line, indented, or write [a, b]"
    span = problem.at, problem.at + 1
    return diagnose("CFG007", message, problem.source, span, label, help=help_)


def _block(problem: Problem) -> Diagnostic | None:
    if "block" not in problem.context:
        return None
    number, above = problem.previous()
    if above and ":" not in above and not above.lstrip().startswith(("-", "[", "{", "]", "}")):
        return _no_colon(problem, number)
    return _indentation(problem)


def _indentation(problem: Problem) -> Diagnostic:
    line, _ = problem.source.position(problem.at)
    text = problem.source.line(line)
    start = problem.source.index(line, len(text) - len(text.lstrip()) + 1)
    end = start + len(text.strip())
    number, above = problem.previous()
    related: tuple[Related, ...] = ()
    if number:
        first = problem.source.index(number, len(above) - len(above.lstrip()) + 1)
        origin = problem.source.origin(first, first + len(above.strip()))
        related = (Related(origin=origin, label="the line above"),)
    label = "neither in line with a key above nor a part of it"
    message = "the indentation fits no section"
    return diagnose("CFG007", message, problem.source, (start, end), label, related=related)


def _no_colon(problem: Problem, number: int) -> Diagnostic:
    text = problem.source.line(number)
    content = text.strip()
    start = problem.source.index(number, len(text) - len(text.lstrip()) + 1)
    if re.match(r"-[^\s-]", content):
        return diagnose(
            "CFG006", "a space is missing after '-'", problem.source, (start, start + 1),
            "an item of a list begins with '-' and a space", help="write - item",
        )  # fmt: skip
    joined = re.match(r"([\w-]+):(?=\S)", content)
    if joined:
        at = start + joined.end() - 1
        return diagnose(
            "CFG006", "a space is missing after ':'", problem.source, (at, at + 1),
            "YAML takes this line for plain text", help=_write(joined[1], problem.source),
        )  # fmt: skip
    word = re.match(r"[\w-]+", content)
    label = "neither a key with a colon nor a value"
    help_ = _write(word[0], problem.source) if word else ""
    end = start + len(content)
    return diagnose("CFG006", "a colon is missing", problem.source, (start, end), label, help=help_)


def _write(key: str, source: SourceText) -> str:
    """Return how to write a key, if it is a known one: an unknown word may be a secret."""
    return f"write {key}: and then the value" if key in source.known else ""


def _needs_quotes(problem: Problem, start: int, what: str) -> Diagnostic:
    line, column = problem.source.position(start)
    rest = problem.source.line(line)[column - 1 :].split(" #")[0].rstrip()
    message, label = f"{what} needs quotes", "YAML gives this character a meaning of its own"
    if ": " in what:
        label = "YAML takes the second colon for another key"
    end = start + max(1, len(rest))
    return diagnose("CFG005", message, problem.source, (start, end), label)


def _value_start(problem: Problem) -> int:
    """Return the index of the value on the line of the problem."""
    line, _ = problem.source.position(problem.at)
    match = re.match(r"\s*(?:- )*[^:]*:\s+", problem.source.line(line))
    return problem.source.index(line, (match.end() if match else 0) + 1)


_RULES: tuple[Callable[[Problem], Diagnostic | None], ...] = (
    _documents,
    _tab,
    _look_alike,
    _quote,
    _after_value,
    _flow,
    _special,
    _missing_colon,
    _mapping_values,
    _not_here,
    _directive,
    _block,
)


class Problem:
    """A parser's error, reduced to positions in the text."""

    def __init__(self, error: MarkedYAMLError, source: SourceText) -> None:
        self.source = source
        self.context: str = error.context or ""
        self.problem: str = error.problem or ""
        end = len(source.text)
        self.at: int = error.problem_mark.index if error.problem_mark else end
        self.begin: int = error.context_mark.index if error.context_mark else self.at

    def before(self) -> str:
        """Return the line of the problem, up to it."""
        line, column = self.source.position(self.at)
        return self.source.line(line)[: column - 1]

    def previous(self) -> tuple[int, str]:
        """Return number and text of the line above that is neither empty nor a comment."""
        number = self.source.position(self.at)[0] - 1
        while number > 0:
            text = self.source.line(number)
            if text.strip() and not text.lstrip().startswith("#"):
                return number, text
            number -= 1
        return 0, ""


def diagnose(
    code: str,
    message: str,
    source: SourceText,
    span: tuple[int, int | None],
    label: str = "",
    *,
    help: str = "",  # noqa: A002 - the field's name
    related: tuple[Related, ...] = (),
) -> Diagnostic:
    """Return a diagnostic for a span of a text; without an end it goes to the end of the line."""
    last = max(0, len(source.text.rstrip()) - 1)
    start, end = min(span[0], last), span[1]
    if end is None:
        line, column = source.position(start)
        end = start + max(1, len(source.line(line).rstrip()) - column + 1)
    return Diagnostic(
        code=code,
        message=message,
        origin=source.origin(start, max(end, start + 1)),
        label=label,
        help=help or CODES[code].cure,
        related=related,
    )
