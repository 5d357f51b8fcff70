"""Publishing dead letters, those that are too large for their topic too."""

from __future__ import annotations

from aiokafka.errors import UnknownError

from pyfly_messaging.adapters.kafka import errors
from pyfly_messaging.adapters.kafka.assignment import handling
from pyfly_messaging.adapters.kafka.client import Client
from pyfly_messaging.adapters.kafka.large_letter import LargeLetters
from pyfly_messaging.adapters.kafka.publisher import Publisher
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.errors import PublishError
from pyfly_messaging.message import Message

# A letter from this size on goes by itself: a refusal would spoil the producer of all. Bytes.
_LARGE = 16 * 1024


class DeadLetters:
    """Publishes dead letters, and has health tell of those that are not confirmed.

    Args:
        client: How to connect.
        publisher: What publishes a letter that is not large.
        timeout: Seconds for one publish.

    """

    def __init__(self, client: Client, publisher: Publisher, timeout: float) -> None:
        self._publisher = publisher
        self._large = LargeLetters(client, timeout)
        self._refusing: set[str] = set()  # topics that have refused a letter that is not large

    async def __call__(self, letter: Message, error: BaseException) -> None:
        """Publish a letter, or what can be kept of it, and wait for its confirmation.

        Raises:
            NotStartedError: Not started, or stopped.
            PublishError: Not confirmed within the timeout, or refused.

        """
        assignment = handling.get()
        try:
            await self._bury(letter)
        except PublishError as refusal:
            if assignment is not None:
                assignment.note_letter(letter, refusal)
            raise
        if assignment is not None:
            assignment.note_letter(letter, None)

    async def stop(self, deadline: Deadline) -> None:
        """Disconnect."""
        await self._large.stop(deadline)

    async def _bury(self, letter: Message) -> None:
        if letter.topic not in self._refusing and _size(letter) < _LARGE:
            try:
                await self._publisher.publish(
                    letter.topic, letter.value, letter.key, letter.headers
                )
            except PublishError as error:
                if not _is_refused(error, letter):
                    raise
                self._refusing.add(letter.topic)
            else:
                return
        self._publisher.current()
        await self._large.publish(letter)


def _size(letter: Message) -> int:
    headers = sum(len(name) + len(text) for name, text in letter.headers.items())
    return len(letter.value) + len(letter.key or b"") + headers


def _is_refused(error: PublishError, letter: Message) -> bool:
    """Tell whether the broker takes less of a letter, or with a key."""
    cause = error.__cause__
    return isinstance(cause, errors.TOO_LARGE) or (
        isinstance(cause, UnknownError) and letter.key is None
    )
