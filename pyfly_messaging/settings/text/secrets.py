"""What is secret, and how it is masked. Nothing that prints a value may go around this module."""

from __future__ import annotations

import re
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
_URL_WORDS = {"url", "uri", "dsn"}
_SPLIT = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])")
_USER = re.compile(r"[\w.%-]*")
_URL = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://"
    r"(?:[^\s:/?#@,]*:[^\s/?#@]*@)?"
    r"(?:\[[^\s\]@]*\]|[^\s:/?#@,]*)(?::\d{1,5})?(?:,[^\s:/?#@,]*(?::\d{1,5})?)*"
    r"(?:[/?#][^\s@]*)?"
)
_QUERY = re.compile(r"[?&;#]([^=?&;#]*)=")
_LONGEST_NAME = 256
"""A longer name is taken for a secret without a look at it."""
_SECRETS = re.compile(
    r"(?:-----BEGIN |BEGIN [A-Z ]{0,40}PRIVATE KEY).*?(?:-----END [A-Z0-9 ]*-----|\Z)"  # PEM
    # PEM without its first line; its line breaks may be escaped.
    r"|M(?:II|IG|Hc|C4)(?<![A-Za-z0-9+/]...)[A-Za-z0-9+/=]{37}[A-Za-z0-9+/=\s\\]*"
    r"|eyJ(?<![\w-]eyJ)[\w-]{8,}\.[\w-]{8,}\.[\w-]*"  # JSON Web Token
    r"|A(?:KIA|SIA)(?<!\w....)[A-Z0-9]{16}|AIza[\w-]{35}|AGE-SECRET-KEY-1\w+"
    r"|gh[opsur]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}"
    r"|[rs]k_live_\w{16,}|xox[abeprs]-[\w-]{16,}|hvs\.[\w-]{16,}"
    r"|Bearer [\w.~+/=-]{16,}|Basic [A-Za-z0-9+/=]{20,}",
    re.DOTALL,
)
"""What is a secret by its form, whatever it stands in: PEM, and the tokens of common services."""


@lru_cache(maxsize=4096)
def looks_secret(name: str) -> bool:
    """Tell whether a key or a variable of this name holds a secret."""
    if len(name) > _LONGEST_NAME:
        return True
    words = [word.lower() for word in _SPLIT.split(name) if word]
    if not _EXACT.isdisjoint(words):
        return True
    whole = "".join(words)
    if any(known in whole for known in _NEARLY):
        return True
    return any(map(_nearly_secret, {*words, *map("".join, pairwise(words)), whole}))


@lru_cache(maxsize=4096)
def names_url(name: str) -> bool:
    """Tell whether what has this name is a URL."""
    return any(word.lower() in _URL_WORDS for word in _SPLIT.split(name))


def _nearly_secret(word: str) -> bool:
    from pyfly_messaging.settings.text.suggest import edit_distance

    return any(edit_distance(word, known, n + 1) <= n for known, n in _NEARLY.items())


def holds_secret(text: str) -> bool:
    """Tell whether a part of a text is a secret by its form."""
    return secret_at(text) >= 0


def mask_secrets(text: str) -> str:
    """Return a text without what is a secret by its form."""
    return _SECRETS.sub(MASK, text)


def secret_at(text: str) -> int:
    """Return where the first secret by its form begins, -1 when there is none."""
    found = _SECRETS.search(text)
    return -1 if found is None else found.start()


def mask_url(text: str) -> str:
    """Return ``text`` with the password of a URL masked, and the whole user-info when in doubt."""
    start, end = secret_part(text)
    return text if start == end else text[:start] + MASK + text[end:]


def may_show_url(text: str) -> bool:
    """Tell whether all that may be secret in the text of a URL is the part that `mask_url` masks.

    A user without a password may be a token, what stands in the place of a port a password, and
    a query may have either.
    """
    if "@" not in text and "://" not in text:
        return True
    return _URL.fullmatch(text) is not None and not any(map(looks_secret, _QUERY.findall(text)))


def show_url(text: str) -> str:
    """Return the text of a URL without its secret, or nothing of it when in doubt."""
    return mask_url(text) if may_show_url(text) else MASK


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
