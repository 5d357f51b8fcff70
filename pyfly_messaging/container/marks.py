"""The decorators. Each one only leaves a mark: what it decorates works and is typed as before."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable[..., Any])

_COMPONENT = "__pyfly_component__"
_BEAN = "__pyfly_bean__"


def service(cls: C) -> C:
    """Mark a class of which ``bootstrap`` makes one instance, its constructor injected by type.

    Its methods under ``@message_listener`` are subscribed.

    Raises:
        TypeError: What is decorated is no class.

    """
    return _mark("service", cls)


def configuration(cls: C) -> C:
    """Mark a class whose methods under ``@bean`` make further objects to inject.

    Its own constructor is injected by type, like that of a ``@service``.

    Raises:
        TypeError: What is decorated is no class.

    """
    return _mark("configuration", cls)


def bean(function: F) -> F:
    """Mark a method that makes an object to inject; its return annotation says as what.

    The method is called once, with its parameters injected by type. It may be ``async``. With a
    single ``yield`` (``-> Iterator[X]`` or ``-> AsyncIterator[X]``) what follows the ``yield``
    runs when the application stops.

    Raises:
        TypeError: What is decorated is no function.

    """
    if isinstance(function, staticmethod | classmethod):
        raise TypeError(f"put @bean below @{type(function).__name__}, next to the function")
    if not inspect.isfunction(function):
        raise TypeError(f"@bean goes on a method of a @configuration class, got {function!r:.80}")
    setattr(function, _BEAN, True)
    return function


def is_component(cls: type) -> bool:
    """Tell whether ``@service`` or ``@configuration`` marks this class itself, not only a base."""
    return _COMPONENT in vars(cls)


def is_bean(member: object) -> bool:
    """Tell whether ``@bean`` marked this function."""
    return inspect.isfunction(member) and getattr(member, _BEAN, False) is True


def bean_methods(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield (name, attribute as it stands in the class) of the beans of a class, bases first."""
    names = dict.fromkeys(name for base in reversed(cls.__mro__) for name in vars(base))
    for name in names:
        raw = inspect.getattr_static(cls, name)
        if is_bean(raw.__func__ if isinstance(raw, staticmethod | classmethod) else raw):
            yield name, raw


def _mark(kind: str, cls: C) -> C:
    if not inspect.isclass(cls):
        raise TypeError(f"@{kind} goes on a class, got {cls!r:.80}")
    setattr(cls, _COMPONENT, kind)
    return cls
