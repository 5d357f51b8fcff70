"""What somebody may have meant: the nearest of the words that are valid in a place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

SYNONYMS: dict[str, tuple[str, ...]] = {
    "amqp": ("rabbitmq",),
    "amqps": ("rabbitmq",),
    "brokers": ("bootstrap-servers",),
    "servers": ("bootstrap-servers",),
    "hosts": ("bootstrap-servers", "host"),
    "bootstrap": ("bootstrap-servers",),
    "consumers": ("concurrency", "listeners"),
    "dlq": ("dead-letter-topic",),
    "dlt": ("dead-letter-topic",),
    "dead-letter-queue": ("dead-letter-topic",),
    "exchange": ("exchange-name",),
    "inmemory": ("memory",),
    "in-memory": ("memory",),
    "max-retries": ("retries",),
    "max-attempts": ("retries",),
    "attempts": ("retries",),
    "backoff": ("retry-delay",),
    "delay": ("retry-delay",),
    "jitter": ("retry-jitter",),
    "multiplier": ("retry-multiplier",),
    "max-delay": ("retry-max-delay",),
    "login": ("username",),
    "name": ("username", "exchange-name", "client-id"),
    "pass": ("password",),
    "prefetch-count": ("prefetch",),
    "rabbit": ("rabbitmq",),
    "redpanda": ("kafka",),
    "aiokafka": ("kafka",),
    "aio-pika": ("rabbitmq",),
    "replicas": ("replication-factor",),
    "ssl": ("tls",),
    "cert": ("cert-file",),
    "ca": ("ca-file",),
    "key": ("key-file",),
    "ca-cert": ("ca-file",),
    "user": ("username",),
    "uri": ("url",),
    "vhost": ("virtual-host",),
    "workers": ("concurrency",),
}
MOST_COMPARISONS = 20_000
"""Words that `closest` compares in one load: enough to help with some hundred mistakes."""
_comparisons: ContextVar[Iterator[int] | None] = ContextVar("pyfly_messaging_words", default=None)


@contextmanager
def bounded() -> Iterator[None]:
    """Let `closest` compare at most `MOST_COMPARISONS` words; then it finds no more slips."""
    token = _comparisons.set(iter(range(MOST_COMPARISONS)))
    try:
        yield
    finally:
        _comparisons.reset(token)


def closest(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that ``word`` is most likely a slip for, or None.

    Case, hyphens and underscores do not count; then known synonyms; then the edit distance,
    up to a third of the word.
    """
    known = list(candidates)
    plain = _plain(word)
    for candidate in known:
        if _plain(candidate) == plain:
            return candidate
    for synonym in SYNONYMS.get(word.lower().replace("_", "-"), ()):
        if synonym in known:
            return synonym
    best, best_distance = None, max(1, min(3, len(plain) // 3)) + 1
    left = _comparisons.get()
    for candidate in known:
        if left is not None and next(left, None) is None:
            break
        distance = edit_distance(plain, _plain(candidate), best_distance)
        if distance < best_distance:
            best, best_distance = candidate, distance
    return best if best is not None and len(plain) > 1 else None


def edit_distance(one: str, two: str, limit: int) -> int:
    """Return how many characters to add, drop, change or swap, at most ``limit``."""
    if abs(len(one) - len(two)) >= limit:
        return limit
    # Each character that only one of them has costs at least one change: most pairs end here.
    letters, others = set(one), set(two)
    if max(len(letters - others), len(others - letters)) >= limit:
        return limit
    before: list[int] = []
    last = list(range(len(two) + 1))
    for row, char in enumerate(one, 1):
        current = [row]
        for column, other in enumerate(two, 1):
            cost = min(last[column] + 1, current[-1] + 1, last[column - 1] + (char != other))
            if row > 1 and column > 1 and char == two[column - 2] and other == one[row - 2]:
                cost = min(cost, before[column - 2] + 1)
            current.append(cost)
        if min(current) >= limit:
            return limit
        before, last = last, current
    return min(last[-1], limit)


def _plain(word: str) -> str:
    return word.lower().replace("-", "").replace("_", "").replace(" ", "").replace(".", "")
