"""Each mistake that must be caught has cases in the corpus, so that none is forgotten.

The cases themselves, with place, message and help, are run by `test_corpus`.
"""

from __future__ import annotations

import pytest

from tests.settings.corpus import cases

MISTAKES: dict[str, str] = {
    # YAML text
    "tab indent": "yaml_text/tab-indent",
    "missing colon": "yaml_text/colon-missing",
    "no space after the colon": "yaml_text/no-space-after-colon",
    "bad indent": "yaml_text/indent-too-small",
    "unclosed quote": "yaml_text/double-quote-open",
    "unclosed bracket": "yaml_text/bracket-open",
    "*.orders unquoted": "yaml_text/star-unquoted",
    "@svc unquoted": "yaml_text/at-unquoted",
    "non-breaking space": "yaml_text/non-breaking-space-indent",
    "typographic quotes": "yaml_text/typographic-quotes",
    "custom tag": "yaml_text/custom-tag",
    "python tag": "yaml_text/python-tag",
    "control character": "yaml_text/control-character",
    "two documents": "yaml_text/two-documents",
    "duplicate key": "yaml_text/duplicate-key",
    "duplicate section": "yaml_text/duplicate-section",
    "kebab and snake twins": "yaml_text/twins",
    # File
    "list root": "files/root-is-list",
    "scalar root": "files/root-is-text",
    "UTF-16": "files/utf-16",
    "Latin-1": "files/latin-1",
    "alias bomb": "files/alias-bomb",
    "recursive alias": "files/alias-of-itself",
    "too deep": "files/too-deep",
    "too large": "files/too-large",
    "explicit path that does not exist": "files/explicit-path-missing",
    "a directory": "files/path-is-directory",
    "unreadable": "files/unreadable",
    # Keys and values
    "misspelt key": "values/key-misspelt",
    "key at the wrong level": "values/level-too-high",
    "misspelt section": "values/section-misspelt",
    "wrong provider": "values/provider-misspelt",
    "wrong case of a choice": "values/choice-in-upper-case",
    "text for a number": "values/text-for-number",
    "out of range": "values/out-of-range-high",
    "not a boolean": "values/not-a-boolean-yes",
    "list for text": "values/list-for-text",
    "text for list": "values/section-for-list",
    "scalar for a section": "values/scalar-for-section",
    "port out of range": "values/port-too-large",
    "URL where host:port belongs": "values/url-for-server",
    "unset placeholder": "values/placeholder-unset",
    "unclosed placeholder": "values/placeholder-open",
    "bad duration": "values/duration-unit-wrong",
    "bad topic name": "values/topic-with-space",
    # Environment
    "misspelt at the first level": "environment/misspelt-at-first-level",
    "misspelt section in a variable": "environment/misspelt-section",
    "misspelt leaf": "environment/misspelt-leaf",
    "one underscore": "environment/one-underscore",
    "misspelt prefix": "environment/prefix-misspelt",
    "two casings": "environment/two-casings",
    "not a number": "environment/not-a-number",
    "set but empty": "environment/empty",
    "a section given a scalar": "environment/section-given-scalar",
    "broken JSON in a list": "environment/list-with-broken-json",
    "a secret in a misspelt variable": "environment/misspelt-secret",
    # Across settings
    "SASL without credentials": "across/sasl-without-credentials",
    "credentials without SASL": "across/credentials-without-sasl",
    "TLS file missing": "across/tls-file-missing",
    "TLS file unreadable": "across/tls-file-unreadable",
    "certificate without key": "across/certificate-without-key",
    "provider kafka without aiokafka": "across/kafka-without-aiokafka",
    "memory while kafka is configured": "across/memory-while-kafka-is-configured",
    "auto with both installed": "across/auto-says-which",
    "listener name that matches nothing": "across/listener-matches-nothing",
    "dead-letter topic equal to the topic": "across/dead-letters-return",
}
FINE = {
    "empty file": "cases/empty-file",
    "byte-order mark": "cases/byte-order-mark",
    "section without a value": "cases/section-without-value",
    "text for a list": "cases/servers-as-text",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_has_a_case(mistake: str) -> None:
    """The mistake has a case that says place, message or help."""
    found = {case.id: case for case in cases("broken")}[MISTAKES[mistake]]
    assert found.code
    assert found.at
    assert found.help


@pytest.mark.parametrize("thing", FINE)
def test_is_fine(thing: str) -> None:
    """What is no mistake has a case among the valid ones."""
    assert FINE[thing] in {case.id for case in cases("valid")}
