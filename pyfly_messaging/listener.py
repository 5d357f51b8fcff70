"""The ``@message_listener`` decorator, and finding what it marked."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, ModuleType
from typing import Any, TypeVar

from pyfly_messaging.message import check_group, check_topic
from pyfly_messaging.policy import POLICY_FIELDS, ListenerPolicy
from pyfly_messaging.ports import MessageHandler

F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, Any]])

_MARK = "__pyfly_listener__"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerMark:
    """What ``@message_listener`` was told; it stands on the function as ``__pyfly_listener__``."""

    topic: str
    group: str | None = None
    name: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A handler with what it listens to.

    Attributes:
        name: Unique within an application; the key below ``listeners:`` in the configuration.
        topic: The topic.
        group: The consumer group, or None for every message.
        handler: The function or bound method that takes each message.
        overrides: The policy fields that the decorator sets; `ListenerPolicy` names them.

    """

    name: str
    topic: str
    group: str | None
    handler: MessageHandler
    overrides: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


def message_listener(
    topic: str,
    group: str | None = None,
    *,
    name: str | None = None,
    retries: int | None = None,
    retry_delay: float | None = None,
    retry_multiplier: float | None = None,
    retry_max_delay: float | None = None,
    retry_jitter: float | None = None,
    dead_letter: bool | None = None,
    dead_letter_topic: str | None = None,
    fatal_exceptions: tuple[type[BaseException] | str, ...] | None = None,
    concurrency: int | None = None,
    timeout: float | None = None,
) -> Callable[[F], F]:
    """Mark an async function or method as a listener; ``bootstrap`` subscribes it.

    Every keyword but ``name`` is a field of `ListenerPolicy` (durations in seconds) and wins over
    the ``listener:`` defaults of the configuration; ``listeners: <name>:`` wins over it.

    Args:
        topic: The topic to listen to.
        group: Handlers that share topic and group share the messages; without a group each gets
            every message.
        name: The listener's key in the configuration; by default the qualified name in kebab-case
            (``NotificationService.on_order_event`` is ``notification-service-on-order-event``).

    Raises:
        TypeError: The function is not ``async def``, or an argument has the wrong type.
        ValueError: An argument is out of its range, or the function is a listener already.

    """
    check_topic(topic)
    check_group(group)
    if name is not None:
        _check_name(name)
    given = locals()
    overrides = {key: given[key] for key in POLICY_FIELDS if given[key] is not None}
    ListenerPolicy(**overrides).dead_letter_topic_for(topic)
    mark = ListenerMark(topic=topic, group=group, name=name, overrides=MappingProxyType(overrides))

    def decorate(function: F) -> F:
        if isinstance(function, staticmethod | classmethod):
            kind = type(function).__name__
            raise TypeError(f"put @message_listener below @{kind}, next to the function")
        if not inspect.iscoroutinefunction(function):
            label = getattr(function, "__qualname__", repr(function))
            raise TypeError(
                f"@message_listener needs an async function: write 'async def' for {label}"
            )
        if is_listener(function):
            raise ValueError(
                f"{function.__qualname__} is a listener already: write one function for each topic"
            )
        marked: Any = function
        marked.__pyfly_message_listener__ = True
        marked.__pyfly_listener_topic__ = topic
        marked.__pyfly_listener_group__ = group
        setattr(marked, _MARK, mark)
        return function

    return decorate


def _check_name(name: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(f"a listener's name must be text, got {name!r:.80}")
    kebab = kebab_case(name)
    if kebab != name or not name:
        hint = f"write it as {kebab!r}" if kebab else "use lower-case letters, digits and hyphens"
        raise ValueError(f"invalid listener name {name!r:.80}: {hint}")


def check_handler(handler: object) -> None:
    """Refuse a handler that cannot be awaited.

    Raises:
        TypeError: It is no async function, bound async method, or object with async ``__call__``.

    """
    inner = handler.func if isinstance(handler, functools.partial) else handler
    if inspect.iscoroutinefunction(inner):
        return
    call = getattr(inner, "__call__", None)  # noqa: B004 - its being async is what is asked
    if not inspect.isclass(inner) and inspect.iscoroutinefunction(call):
        return
    label = getattr(inner, "__qualname__", repr(inner))
    raise TypeError(f"a handler must be an async callable: write 'async def' for {label}")


def handler_name(handler: object) -> str:
    """Return the default name of a handler: its qualified name in kebab-case."""
    inner = handler.func if isinstance(handler, functools.partial) else handler
    owner = getattr(inner, "__self__", None)
    qualname: str = getattr(inner, "__qualname__", type(inner).__qualname__)
    if owner is not None:
        cls = owner if inspect.isclass(owner) else type(owner)
        qualname = f"{cls.__qualname__}.{getattr(inner, '__name__', 'call')}"
    return kebab_case(qualname.rpartition("<locals>.")[2])


def kebab_case(name: str) -> str:
    """Return ``NotificationService.on_order_event`` as ``notification-service-on-order-event``."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name)
    return re.sub(r"[^a-z0-9]+", "-", spaced.lower()).strip("-")


def discover(source: object) -> list[Listener]:
    """Return the listeners of a module, an instance, a class or a function, in source order.

    A module yields the marked functions that it defines or names in ``__all__``. An instance yields
    bound methods. A class yields only what needs no instance (static and class methods): its other
    listeners are bound once an instance exists.

    Raises:
        TypeError: ``source`` is something that cannot carry a listener.

    """
    if isinstance(source, ModuleType):
        found = [discover(member) for member in module_members(source) if is_listener(member)]
        return [listener for listeners in found for listener in listeners]
    if is_listener(source):
        return [_listener(source)]
    if isinstance(source, str | bytes | int | float | bool | None):
        raise TypeError(f"nothing can listen in {source!r}: pass a module, instance or function")
    if inspect.isroutine(source):
        label = getattr(source, "__qualname__", repr(source))
        raise TypeError(f"{label} is no listener: decorate it with @message_listener(topic=…)")
    return [_listener(bound) for bound in _bound_methods(source)]


def is_listener(member: object) -> bool:
    """Tell whether ``@message_listener`` marked this function or method."""
    return (
        inspect.isroutine(member) and getattr(member, "__pyfly_message_listener__", False) is True
    )


def needs_instance(cls: type) -> bool:
    """Tell whether a class has listeners that are methods of its instances."""
    return any(not isinstance(raw, staticmethod | classmethod) for _, raw in _marked(cls))


def module_members(module: ModuleType) -> Iterator[object]:
    """Yield what a module defines itself or names in ``__all__``, in source order."""
    exported = set(getattr(module, "__all__", ()))
    for name, member in vars(module).items():
        if name in exported or getattr(member, "__module__", None) == module.__name__:
            yield member


def _bound_methods(source: object) -> Iterator[MessageHandler]:
    cls = source if inspect.isclass(source) else type(source)
    for name, raw in _marked(cls):
        if inspect.isclass(source) and not isinstance(raw, staticmethod | classmethod):
            continue
        yield getattr(source, name)


def _marked(cls: type) -> Iterator[tuple[str, object]]:
    """Yield (name, attribute as it stands in the class), base classes first."""
    names = dict.fromkeys(name for base in reversed(cls.__mro__) for name in vars(base))
    for name in names:
        raw = inspect.getattr_static(cls, name)
        function = raw.__func__ if isinstance(raw, staticmethod | classmethod) else raw
        if is_listener(function):
            yield name, raw


def _listener(handler: Any) -> Listener:
    mark: ListenerMark = getattr(handler, _MARK)
    return Listener(
        name=mark.name or handler_name(handler),
        topic=mark.topic,
        group=mark.group,
        handler=handler,
        overrides=mark.overrides,
    )


__all__ = [
    "Listener",
    "ListenerMark",
    "check_handler",
    "discover",
    "handler_name",
    "is_listener",
    "kebab_case",
    "message_listener",
    "module_members",
    "needs_instance",
]
