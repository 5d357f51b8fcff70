"""No secret is ever shown and nothing crashes, whatever is done to files and variables.

A quick run tries few examples; ``SETTINGS_EXAMPLES=2000`` tries as many as that.
"""

from __future__ import annotations

import io
import json
import logging
import os
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyfly_messaging.errors import ConfigurationError
from pyfly_messaging.settings import MessagingSettings
from pyfly_messaging.settings.catalogue.tree import catalogue
from pyfly_messaging.settings.diagnostics.report import render_report, report_json
from pyfly_messaging.settings.sources.inputs import Inputs
from pyfly_messaging.settings.views.show import effective_values, render_values
from tests.examples.distribution import install
from tests.settings.foreign import CODE, SECRET

EXAMPLES = settings(
    max_examples=int(os.environ.get("SETTINGS_EXAMPLES", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
ROOT = catalogue(MessagingSettings)
PLAIN = [leaf for leaf in ROOT.leaves() if not leaf.secret and leaf.shape != "free"]
SECRETS = [leaf for leaf in ROOT.leaves() if leaf.secret and leaf.key != "url"]
URLS = st.sampled_from(
    [
        f"amqp://app:{SECRET}@mq/shop",
        f"amqps://app:{SECRET}#/?@mq:5671",
        f"amqp:/app:{SECRET}@mq:bad/",
        f"amqp://app:{SECRET}/shop",
        f"amqp://:{SECRET}@",
        f"http://{SECRET}@mq",
        f"amqp://a b:{SECRET}@mq",
    ]
)
SECRET_KEYS = st.sampled_from(
    ["password", "pasword", "db-password", "sslPassword", "api_key", "secret", "auth-token"]
)
VALUES = st.one_of(
    st.sampled_from(["kafka", "true", "10s", "5", "-1", "1.5", "all", "none", "", "a:1,b:2", "~"]),
    st.integers(-5, 70000).map(str),
    st.text(max_size=12),
)


def variable(path: tuple[str, ...]) -> str:
    """Return the variable of a setting."""
    return "PYFLY_MESSAGING__" + "__".join(part.replace("*", "on_order") for part in path).upper()


ENVIRON = st.dictionaries(
    st.one_of(
        st.sampled_from([variable(leaf.path) for leaf in PLAIN]),
        st.text("PYFLMESAGINGKAOVRD_xé ", min_size=1, max_size=30).map(lambda s: f"PYFLY_{s}"),
    ),
    VALUES,
    max_size=4,
)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Return a file with secrets in it, at the right places and at wrong ones."""
    tree: dict[str, Any] = {}
    for leaf in draw(st.lists(st.sampled_from(PLAIN), max_size=5)):
        put(tree, spelt(leaf.path), draw(VALUES))
    for leaf in draw(st.lists(st.sampled_from(SECRETS), min_size=1, max_size=3)):
        put(tree, spelt(leaf.path), SECRET)
    if draw(st.booleans()):
        put(tree, ("rabbitmq", "url"), draw(URLS))
    for _ in range(draw(st.integers(0, 2))):
        section = draw(st.sampled_from([(), ("kafka",), ("kafka", "options"), ("listeners", "a")]))
        put(tree, (*section, draw(SECRET_KEYS)), SECRET)
    if draw(st.booleans()):
        put(tree, (draw(st.sampled_from(["unknown", "kafak", "on"])), "inner"), SECRET)
    style: Callable[[Any], str] = draw(st.sampled_from([block, flow, both]))
    return style({"pyfly": {"messaging": tree}})


@st.composite
def mutations(draw: st.DrawFn, text: str) -> str:
    """Return a text after a few slips: characters lost, added, doubled, lines moved."""
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(0, len(text) - 1)))
        kind = draw(st.integers(0, 4))
        if kind == 0:
            text = text[:at] + text[at + 1 :]
        elif kind == 1:
            text = text[:at] + draw(
                st.sampled_from(list("\t\n :'\"#[]{},&*!|>%@-?$\u00a0\u201c\x07"))
            )
            text += text[at:] if draw(st.booleans()) else ""
        elif kind == 2:
            extra = draw(st.sampled_from(list("\t\n :'\"#[]{},&*!|>%@-?$\u00a0\u201c\x07")))
            text = text[:at] + extra + text[at:]
        elif kind == 3:
            lines = text.split("\n")
            where = draw(st.integers(0, len(lines) - 1))
            lines.insert(where, lines[draw(st.integers(0, len(lines) - 1))])
            text = "\n".join(lines)
        else:
            lines = text.split("\n")
            where = draw(st.integers(0, len(lines) - 1))
            change = draw(st.sampled_from([" ", "  ", "    ", "\t", "- "]))
            lines[where] = change + lines[where]
            text = "\n".join(lines)
    return text


@EXAMPLES
@given(st.data(), documents(), ENVIRON)
def test_files(data: st.DataObject, document: str, environ: dict[str, str]) -> None:
    """A secret in a file is not shown, however the file is broken."""
    text = data.draw(mutations(document))
    check(text, environ)


@EXAMPLES
@given(
    st.lists(st.sampled_from(SECRETS), min_size=1, max_size=3),
    st.data(),
    ENVIRON,
    URLS,
)
def test_variables(
    leaves: list[Any], data: st.DataObject, environ: dict[str, str], url: str
) -> None:
    """A secret in a variable is not shown, however the variable is misspelt."""
    for leaf in leaves:
        name = data.draw(mutations(variable(leaf.path)))
        environ[name] = SECRET
    environ["PYFLY_MESSAGING__RABBITMQ__URL"] = url
    environ["PYFLY_MESSAGING__KAFKA__SASL"] = SECRET
    check(None, environ)


@EXAMPLES
@given(
    st.lists(st.sampled_from(PLAIN), min_size=1, max_size=5),
    st.sampled_from(
        [
            f"-----BEGIN EC PRIVATE KEY-----\n{SECRET}\n-----END EC PRIVATE KEY-----\n",
            f"x -----BEGIN PRIVATE KEY-----\n{SECRET}",
            f"MIIEvQ{'a' * 40}{SECRET}",
            f"ghp_{'a' * 16}{SECRET}",
            f"eyJhbGciOiJ.{'a' * 16}.{SECRET}",
        ]
    ),
    st.data(),
)
def test_secrets_by_their_form(leaves: list[Any], text: str, data: st.DataObject) -> None:
    """A key or a token is not shown, whatever setting it is given for, and however broken."""
    tree: dict[str, Any] = {}
    for leaf in leaves:
        put(tree, spelt(leaf.path), text)
    document = block({"pyfly": {"messaging": tree}})
    check(document, {variable(leaf.path): text for leaf in leaves})
    slip = data.draw(st.sampled_from(['"', "'", "{", "]", "\t", "- ", ": ", "\n  "]))
    check(slip + document, {})
    check(document + slip, {})


@EXAMPLES
@given(st.lists(st.sampled_from(PLAIN), min_size=1, max_size=5), st.data())
def test_placeholders(leaves: list[Any], data: st.DataObject) -> None:
    """A report shows no value that came through a placeholder, whatever it sets."""
    tree: dict[str, Any] = {}
    for leaf in leaves:
        form = data.draw(st.sampled_from(["${HOST}", "a b ${HOST}", "x:1,${HOST}:2"]))
        put(tree, spelt(leaf.path), form)
    environ = {"HOST": data.draw(st.sampled_from([SECRET, f"https://{SECRET}", f"{SECRET} x"]))}
    with tempfile.TemporaryDirectory() as folder, seen() as said:
        path = Path(folder, "pyfly.yaml")
        path.write_text(block({"pyfly": {"messaging": tree}}))
        try:
            loaded = MessagingSettings.load(path, ["production"], environ)
        except ConfigurationError as error:
            said += ["".join(traceback.format_exception(error)), report_json(error.diagnostics)]
            said += [repr(error.diagnostics)]
        else:
            said += [render_report(loaded.notes), repr(loaded.notes)]
    assert SECRET not in "\n".join(said)


@EXAMPLES
@given(
    st.lists(st.sampled_from(PLAIN), min_size=1, max_size=5),
    st.lists(st.sampled_from(SECRETS), min_size=1, max_size=2),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_aliases(plain: list[Any], secrets: list[Any], order: Random, outside: bool) -> None:
    """A secret that an alias gives to harmless settings as well is shown at none of them."""
    leaves = [*plain, *secrets]
    order.shuffle(leaves)
    tree: dict[str, Any] = {}
    for leaf in leaves:
        put(tree, spelt(leaf.path), "*a")
    text = block({"pyfly": {"messaging": tree}}).replace('"*a"', "*a")
    text = f"x: &a {SECRET}\n{text}" if outside else text.replace("*a", f"&a {SECRET}", 1)
    check(text, {})


@EXAMPLES
@given(documents())
def test_keyword_arguments(document: str) -> None:
    """A secret in a keyword argument is not shown."""
    import ruamel.yaml

    loaded = ruamel.yaml.YAML(typ="safe", pure=True)
    loaded.allow_duplicate_keys = True
    tree = loaded.load(document)["pyfly"]["messaging"]
    check(None, {}, **{str(key): value for key, value in tree.items()})


ZOO_URLS = st.sampled_from(
    [
        f"redis://app:{SECRET}@cache",
        f"redis://{SECRET}@cache",
        f"redis:/app:{SECRET}@cache:bad/",
        f"redis://cache:{SECRET}",
        f"http://app:{SECRET}@cache?token=x",
        f"redis://cache?password={SECRET}",
        f"a,redis://app:{SECRET},x@cache",
    ]
)
ZOO_HARMLESS = st.sampled_from(
    [
        ("pause",), ("tags",), ("names",), ("numbers",), ("colour",), ("choice",), ("limits", "a"),
        ("even",), ("day",), ("servers",), ("point", "x"), ("mixed",), ("by-name", "a", "port"),
    ]
)  # fmt: skip
ZOO_SECRETS = st.sampled_from(
    [
        ("pin",), ("blob",), ("hushed",), ("chips",), ("pair",), ("secrets-by-name", "a"),
        ("point", "token"), ("by-name", "a", "password"), ("by-name", "a", "pin"),
        ("limits", "api-token"), ("labels", "db_password"), ("nested", "pasword"), ("passwd",),
    ]
)  # fmt: skip
ZOO_PLACES = st.sampled_from([("cache",), ("caches",), ("database",), ("endpoint-url",)])


@st.composite
def zoos(draw: st.DrawFn) -> str:
    """Return a file with a section of others that has secrets in it."""
    zoo: dict[str, Any] = {}
    for path in draw(st.lists(ZOO_HARMLESS, max_size=4)):
        put(zoo, path, draw(VALUES))
    for path in draw(st.lists(ZOO_SECRETS, min_size=1, max_size=3)):
        put(zoo, path, SECRET)
    put(zoo, draw(ZOO_PLACES), draw(ZOO_URLS))
    if draw(st.booleans()):
        put(zoo, ("even",), draw(st.sampled_from(["2", "3", "4"])))
    if draw(st.booleans()):
        put(zoo, ("motto",), draw(st.sampled_from(["no ${DB_PASSWORD}", "own ${DB_PASSWORD}"])))
    if draw(st.booleans()):
        zoo["servers"] = {"- password": SECRET, "  address": draw(ZOO_URLS), "  port": "1"}
    tree = {"provider": draw(st.sampled_from(["zoo", "zoo", "zooo"])), "zoo": zoo}
    return block({"pyfly": {"messaging": tree}})


@EXAMPLES
@given(st.data(), zoos())
def test_sections_of_others(data: st.DataObject, document: str) -> None:
    """A secret in the section of an adapter by others is not shown, however it is broken."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        install(Path(folder), patch, {"zoo": "PLUGIN"}, code=CODE)
        environ = {"DB_PASSWORD": SECRET}
        check(document, environ)
        check(data.draw(mutations(document)), environ)
        for part in data.draw(st.lists(ZOO_SECRETS, max_size=2)):
            environ[variable(("zoo", *(name.replace("-", "_") for name in part)))] = SECRET
        environ["PYFLY_MESSAGING__ZOO__SERVERS"] = json.dumps([{"pin": SECRET, "port": "x"}])
        environ["PYFLY_MESSAGING__ZOO__CACHES"] = data.draw(ZOO_URLS)
        check(document, environ)


@EXAMPLES
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_noise(data: bytes) -> None:
    """Whatever bytes a file holds, it is read or refused."""
    check(data, {})


@EXAMPLES
@given(st.text("pyflmesaging: \n-{}[]&*!'\"|>?%@`#,\t\\\x85\u2028${}k", max_size=120), ENVIRON)
def test_yaml_soup(text: str, environ: dict[str, str]) -> None:
    """Whatever YAML a file holds, it is read or refused."""
    check(text, environ)
    check(f"pyfly:\n  messaging: {text}", environ)


def check(content: str | bytes | None, environ: dict[str, str], **arguments: Any) -> None:
    """Load a configuration; the secret must not appear in anything that can be seen."""
    with tempfile.TemporaryDirectory() as folder, seen() as said:
        path = Path(folder, "pyfly.yaml")
        if content is not None:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        inputs = Inputs(
            environ=environ,
            path=path if content is not None else None,
            discover=False,
            dotenv=(),
        )
        try:
            loaded = MessagingSettings(_inputs=inputs, **arguments)
        except ConfigurationError as error:
            said += [repr(error.__cause__), repr(error.__context__)]
            said += [str(error), repr(error), repr(vars(error))]
            said += ["".join(traceback.format_exception(error))]
            said += [render_report(error.diagnostics, colour=True), report_json(error.diagnostics)]
        else:
            said += [repr(loaded), str(loaded), repr(loaded.provenance.entries)]
            said += [render_values(effective_values(loaded), origins=True)]
            said += [json.dumps([value.as_dict() for value in effective_values(loaded)])]
            said += [render_report(loaded.notes), repr(loaded.notes)]
    assert SECRET not in "\n".join(said), content


@contextmanager
def seen() -> Iterator[list[str]]:
    """Collect what is logged, pydantic-settings' own log included."""
    said: list[str] = []
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("pyfly_messaging.settings")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    said.append(stream.getvalue())


def spelt(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return a path as it stands in a file."""
    return tuple(part.replace("*", "on-order").replace("_", "-") for part in path)


def put(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Set a value in nested data."""
    for part in path[:-1]:
        inner = tree.get(part)
        tree[part] = tree = inner if isinstance(inner, dict) else {}
    tree[path[-1]] = value


def block(tree: Any, indent: int = 0) -> str:
    """Return nested data in YAML's block style, text without quotes where it can be."""
    if not isinstance(tree, dict):
        return f" {scalar(tree)}\n"
    lines = ["\n"] if indent else []
    lines += [f"{' ' * indent}{key}:{block(value, indent + 2)}" for key, value in tree.items()]
    return "".join(lines)


def flow(tree: Any) -> str:
    """Return nested data in YAML's flow style."""
    if not isinstance(tree, dict):
        return scalar(tree)
    return "{" + ", ".join(f"{key}: {flow(value)}" for key, value in tree.items()) + "}"


def both(tree: Any) -> str:
    """Return nested data with sections in flow style."""
    inner = tree["pyfly"]["messaging"]
    lines = [f"    {key}: {flow(value)}" for key, value in inner.items()]
    return "\n".join(["pyfly:", "  messaging:", *lines, ""])


def scalar(value: Any) -> str:
    """Return a scalar, in quotes where YAML needs them."""
    text = str(value)
    plain = text.isascii() and text.replace(":", "").replace("/", "").replace("@", "").isalnum()
    return text if plain and not text.endswith(":") else json.dumps(text)
