"""Which messages of one partition or channel are settled, and so may be acknowledged."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable


class Ledger:
    """The contiguous prefix of settled tokens of one ordered source.

    A token is a position in the source, an offset or a delivery tag; tokens come in rising order.
    What lies behind a message in work may be settled, but acknowledging up to it would lose the
    one before it in a crash.

    Attributes:
        prefix: The last token of the settled prefix, or None.

    """

    __slots__ = ("_ahead", "_single", "_up_to", "_work", "prefix")

    def __init__(self) -> None:
        self.prefix: int | None = None
        self._work: deque[int] = deque()  # taken and not in the prefix
        self._ahead: set[int] = set()  # settled and not in the prefix
        self._single: set[int] = set()  # those of them that `acknowledgeable` has named
        self._up_to: int | None = None

    def take(self, tokens: Iterable[int]) -> None:
        """Note tokens that are in work from now on, in rising order."""
        self._work.extend(tokens)

    def settle(self, token: int) -> None:
        """Note that the message of a token is settled."""
        work, ahead = self._work, self._ahead
        if work[0] != token:
            ahead.add(token)
            return
        work.popleft()
        self._up_to = token
        while ahead and work and work[0] in ahead:
            token = work.popleft()
            ahead.discard(token)
            if token in self._single:
                self._single.discard(token)
            else:
                self._up_to = token
        self.prefix = token

    def withdraw(self, token: int) -> None:
        """Note that a token went back to the source singly: it is never named again."""
        work, ahead = self._work, self._ahead
        self._single.add(token)
        ahead.add(token)
        while work and work[0] in ahead:
            token = work.popleft()
            ahead.discard(token)
            if token in self._single:
                self._single.discard(token)
            else:
                self._up_to = token
            self.prefix = token

    def acknowledgeable(self) -> tuple[int | None, list[int]]:
        """Return what is settled since the last call, for a source that takes single tokens.

        Returns:
            The token up to which everything can be acknowledged at once, or None, and the single
            ones beyond the prefix. No token is named twice: RabbitMQ closes a channel that
            acknowledges a delivery tag again, as the bound of several too.

        """
        up_to, self._up_to = self._up_to, None
        if len(self._ahead) == len(self._single):
            return up_to, []
        fresh = sorted(self._ahead - self._single)
        self._single.update(fresh)
        return up_to, fresh
