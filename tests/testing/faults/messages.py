"""Faults of what is carried."""

from pyfly_messaging.message import Message
from pyfly_messaging.policy import ListenerPolicy
from pyfly_messaging.ports import MessageHandler

from .base import Fault, Headers, Make, Outgoing


class DropsHeaders(Fault):
    """Carries no headers."""

    def outgoing(self, value: bytes, key: bytes | None, headers: Headers) -> Outgoing:
        return value, key, None


class TakesValuesForText(Fault):
    """Decodes and encodes values, whatever they are."""

    def outgoing(self, value: object, key: bytes | None, headers: Headers) -> Outgoing:
        text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        return text.encode(), key, headers


class TakesEmptyForNone(Fault):
    """Takes an empty key for none."""

    def outgoing(self, value: bytes, key: bytes | None, headers: Headers) -> Outgoing:
        return value, key or None, headers


class SharesHeaders(Fault):
    """Gives every handler and every attempt the same headers."""

    def __init__(self, make: Make, policy: ListenerPolicy) -> None:
        super().__init__(make, policy)
        self._shared: dict[bytes, Message] = {}

    def handler(self, handler: MessageHandler) -> MessageHandler:
        async def share(message: Message) -> None:
            await handler(self._shared.setdefault(message.value, message))

        return share


class CutsLargeValues(Fault):
    """Takes half a megabyte of a value, and no more."""

    def outgoing(self, value: bytes, key: bytes | None, headers: Headers) -> Outgoing:
        return value[: 512 * 1024], key, headers


class KnowsNoCapitals(Fault):
    """Takes topics and groups for the same when only the case of their letters differs."""

    def topic(self, topic: str) -> str:
        return topic.lower()

    def group(self, group: str | None) -> str | None:
        return None if group is None else group.lower()


class CutsNames(Fault):
    """Has no room for the last character of a long name."""

    def topic(self, topic: str) -> str:
        return topic[:248]

    def group(self, group: str | None) -> str | None:
        return None if group is None else group[:199]
