"""Publishing dead letters, those that are too large for the producer too."""

from __future__ import annotations

from pyfly_messaging.adapters.kafka import errors
from pyfly_messaging.adapters.kafka.assignment import handling
from pyfly_messaging.adapters.kafka.client import Client
from pyfly_messaging.adapters.kafka.large_letter import publish_large
from pyfly_messaging.adapters.kafka.publisher import Publisher
from pyfly_messaging.errors import PublishError
from pyfly_messaging.message import Message


class DeadLetters:
    """Publishes dead letters, and has health tell of those that are not confirmed.

    Args:
        client: How to connect.
        publisher: What publishes a letter that is not too large.
        timeout: Seconds for one publish.

    """

    def __init__(self, client: Client, publisher: Publisher, timeout: float) -> None:
        self._client = client
        self._publish = publisher.publish
        self._timeout = timeout

    async def __call__(self, letter: Message, error: BaseException) -> None:
        """Publish a letter and wait for its confirmation.

        Raises:
            NotStartedError: Not started, or stopped.
            PublishError: Not confirmed within the timeout, or refused.

        """
        assignment = handling.get()
        refused = None if assignment is None else assignment.refusal_of(letter)
        try:
            await self._bury(letter, refused)
        except PublishError as refusal:
            if assignment is not None:
                assignment.note_letter(letter, refusal)
            raise
        if assignment is not None:
            assignment.note_letter(letter, None)

    async def _bury(self, letter: Message, refused: BaseException | None) -> None:
        if not _is_too_large(refused):  # one that is would spoil the producer of all
            try:
                await self._publish(letter.topic, letter.value, letter.key, letter.headers)
            except PublishError as error:
                if not _is_too_large(error):
                    raise
            else:
                return
        await publish_large(self._client, letter, self._timeout)


def _is_too_large(refusal: BaseException | None) -> bool:
    return refusal is not None and isinstance(refusal.__cause__, errors.TOO_LARGE)
