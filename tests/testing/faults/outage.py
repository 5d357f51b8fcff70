"""Faults that show only after an outage of the connection."""

from dataclasses import replace

from pyfly_messaging.health import Health
from pyfly_messaging.message import Message
from pyfly_messaging.ports import MessageHandler

from .base import Fault


class KnowsOutages(Fault):
    """Sound: its health tells of an outage, and its listeners go on afterwards."""

    broken = False
    broke = False
    listeners = 0

    def unwell(self) -> bool:
        """Tell whether health shows an outage."""
        return self.broken

    def health(self) -> Health:
        return replace(
            self.inner.health(), publishing=self.inner.health().started and not self.unwell()
        )


class IsDeafAfterwards(KnowsOutages):
    """Consumes nothing more after an outage."""

    deaf: tuple[int, ...] = (0, 1, 2)

    def handler(self, handler: MessageHandler) -> MessageHandler:
        number = self.listeners
        self.listeners += 1

        async def handle(message: Message) -> None:
            if not self.broke or number not in self.deaf:
                await handler(message)

        return handle


class ForgetsOneListener(IsDeafAfterwards):
    """Forgets the listener without a group."""

    deaf = (1,)


class NoticesNothing(KnowsOutages):
    """Says that all is well during an outage."""

    def unwell(self) -> bool:
        return False


class StaysUnwell(KnowsOutages):
    """Takes the outage for one that never ends."""

    def unwell(self) -> bool:
        return self.broke
