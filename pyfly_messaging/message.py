"""The one value that travels: a message, and the check of what may be published."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# What both brokers take: Apache Kafka's rule for topic names (its class internals.Topic), whose
# length of 249 also fits AMQP 0-9-1's 255 bytes for a queue name with "pyfly." in front.
_GROUP = re.compile(r"[a-zA-Z0-9 _.:@#,/+-]{1,200}")
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was published: the only object that a handler receives.

    Attributes:
        topic: The topic it belongs to.
        value: The payload, byte for byte. Its encoding (JSON, Avro, Protobuf …) is the caller's.
        key: Keeps messages that share it in order. Kafka chooses the partition by it;
            RabbitMQ carries it without routing by it.
        headers: Text by name. The message keeps a copy of its own, so two messages never share one.
        origin: For adapters: what they received it as, a client's record. None elsewhere.

    """

    topic: str
    value: bytes
    key: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict, hash=False)
    origin: Any = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.headers:
            object.__setattr__(self, "headers", dict(self.headers))

    def with_own_headers(self) -> Message:
        """Return the same message with headers of its own, which whoever gets it may change."""
        return derived(self, self.topic, self.value, self.key, self.headers)


# For adapters: a frozen dataclass sets each field by its name through object.__setattr__; setting
# the slots of a new_message() takes half of that time, which is the most of what decoding costs.
new_message = object.__new__
set_topic, set_value, set_key, set_headers, set_origin = (
    vars(Message)[name].__set__ for name in ("topic", "value", "key", "headers", "origin")
)


def derived(
    message: Message, topic: str, value: bytes, key: bytes | None, headers: dict[str, str]
) -> Message:
    """Return a message made of a delivered one, which comes from where that came from."""
    made = Message(topic, value, key, headers or {})  # never the same, not even an empty one
    set_origin(made, message.origin)
    return made


def check_topic(topic: Any) -> None:
    """Refuse a topic name that not every broker takes, before it costs a round trip.

    Raises:
        TypeError: The topic is not text.
        ValueError: The topic is empty, longer than 249 characters, "." or "..", or has a character
            other than ASCII letters, digits, ".", "_" and "-" (Apache Kafka's rule, which answers
            a name outside of it only after 40 seconds).

    """
    if not isinstance(topic, str):
        raise TypeError(f"topic must be str, got {type(topic).__name__}: {topic!r:.80}")
    if _TOPIC.fullmatch(topic) is None or topic in {".", ".."}:
        raise ValueError(
            f"invalid topic {topic!r:.80}: use 1 to 249 ASCII letters, digits, '.', '_' and '-'"
            " (and not '.' or '..' alone)"
        )


def check_message(
    topic: Any, value: Any, key: Any = None, headers: Mapping[Any, Any] | None = None
) -> None:
    """Refuse what no broker could carry unchanged, before anything is sent.

    Raises:
        TypeError: A value or key that is not ``bytes``, or a header that is not text to text.
        ValueError: An impossible topic (see `check_topic`), an empty header name, or a header that
            UTF-8 cannot encode.

    """
    check_topic(topic)
    if not isinstance(value, bytes):
        hint = "; encode it first: value.encode()" if isinstance(value, str) else ""
        raise TypeError(f"value must be bytes, got {type(value).__name__} (topic {topic!r}){hint}")
    if key is not None and not isinstance(key, bytes):
        hint = "; encode it first: key.encode()" if isinstance(key, str) else ""
        raise TypeError(
            f"key must be bytes or None, got {type(key).__name__} (topic {topic!r}){hint}"
        )
    if headers:
        _check_headers(topic, headers)


def _check_headers(topic: str, headers: Mapping[Any, Any]) -> None:
    if not isinstance(headers, Mapping):
        raise TypeError(
            f"headers must be a mapping of str to str, got {type(headers).__name__}"
            f" (topic {topic!r})"
        )
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(
                f"header {name!r:.80} must be text: str to str, got"
                f" {type(name).__name__} to {type(value).__name__} (topic {topic!r})"
            )
        if not name:
            raise ValueError(f"a header name is empty (topic {topic!r})")
        try:
            name.encode()
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"header {name!a:.80} has lone surrogates, which UTF-8 cannot encode"
                f" (topic {topic!r})"
            ) from None


def check_group(group: Any) -> None:
    """Refuse a group name that not every broker takes.

    Raises:
        TypeError: The group is neither text nor None.
        ValueError: The group is empty or longer than 200 characters (AMQP 0-9-1 allows a queue name
            255 bytes), has a character that RabbitMQ's client does not take in a queue name
            (aiormq: ASCII letters, digits, spaces and "_.:@#,/+-"), an outer space, or begins with
            "amq." (reserved by AMQP).

    """
    if group is None:
        return
    if not isinstance(group, str):
        raise TypeError(f"group must be str or None, got {type(group).__name__}: {group!r:.80}")
    if _GROUP.fullmatch(group) is None or group != group.strip() or group.startswith("amq."):
        raise ValueError(
            f"invalid group {group!r:.80}: use 1 to 200 ASCII letters, digits, inner spaces and"
            " '_.:@#,/+-', not beginning with 'amq.'"
        )
