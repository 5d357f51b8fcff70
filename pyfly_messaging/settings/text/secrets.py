"""What is secret, and how it is masked. Nothing that prints a value may go around this module."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise

MASK = "******"
_EXACT = {"pwd", "jaas", "secrets", "credentials"}
_NEARLY = {
    "password": 2,
    "passphrase": 2,
    "credential": 2,
    "privatekey": 2,
    "accesskey": 2,
    "apikey": 1,
    "passwd": 1,
    "secret": 1,
    "token": 1,
}
"""Names of secrets, and how many slips in them are forgiven: a misspelt key hides its value too."""
_SPLIT = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])")
_USER = re.compile(r"[\w.%-]*")


@lru_cache(maxsize=4096)
def looks_secret(name: str) -> bool:
    """Tell whether a key or a variable of this name holds a secret."""
    words = [word.lower() for word in _SPLIT.split(name) if word]
    if not _EXACT.isdisjoint(words):
        return True
    whole = "".join(words)
    if any(known in whole for known in _NEARLY):
        return True
    return any(map(_nearly_secret, {*words, *map("".join, pairwise(words)), whole}))


def _nearly_secret(word: str) -> bool:
    from pyfly_messaging.settings.text.suggest import edit_distance

    return any(edit_distance(word, known, n + 1) <= n for known, n in _NEARLY.items())


def mask_url(text: str) -> str:
    """Return ``text`` with the password of a URL masked, and the whole user-info when in doubt."""
    start, end = secret_part(text)
    return text if start == end else text[:start] + MASK + text[end:]


def secret_part(text: str) -> tuple[int, int]:
    """Return where the password in the user-info of a URL begins and ends; twice 0 without one.

    The user-info reaches to the last ``@``, since a password may hold any character. Where a user
    cannot be told from a password, both are taken for secret.
    """
    at = text.rfind("@")
    if at < 0 or ":" not in text[:at]:
        return 0, 0
    separator = text.find("://")
    start = separator + 3 if 0 <= separator < at else 0
    colon = text.find(":", start, at)
    if start and colon < 0 and _USER.fullmatch(text, start, at):
        return 0, 0
    if start and colon >= 0 and _USER.fullmatch(text, start, colon):
        return colon + 1, at
    return start, at


def mask_value(value: object, name: str = "") -> object:
    """Return ``value`` as it may be shown under ``name``: masked when either looks secret."""
    if name and looks_secret(name) and value is not None:
        return MASK
    if isinstance(value, str):
        return mask_url(value)
    if isinstance(value, Mapping):
        return mask_mapping(value)
    if isinstance(value, list | tuple):
        return type(value)(mask_value(item) for item in value)
    return value


def mask_mapping(values: Mapping[str, object]) -> dict[str, object]:
    """Return ``values`` with all that looks secret masked, at any depth."""
    return {name: mask_value(value, str(name)) for name, value in values.items()}
