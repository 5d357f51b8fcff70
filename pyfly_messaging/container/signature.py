"""What a constructor or a bean method says by its annotations: what it needs and provides."""

from __future__ import annotations

import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Generator,
    Iterable,
    Iterator,
)
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Protocol, Union, get_args, get_origin, get_type_hints

from pyfly_messaging.container.matching import label
from pyfly_messaging.errors import ContainerError

REQUIRED: Any = inspect.Parameter.empty
_YIELDS = (Iterator, Generator, Iterable, AsyncIterator, AsyncGenerator, AsyncIterable)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_NO_INSTANCE = object()


class _SomeProtocol(Protocol): ...


_STAND_IN = _SomeProtocol.__init__


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A parameter to inject.

    Attributes:
        name: The parameter's name.
        types: What is acceptable, as annotated; the members of a union, without None.
        default: What is passed when nothing provides it, or `REQUIRED`.
        positional: Whether it can only be passed by position.

    """

    name: str
    types: tuple[Any, ...]
    default: Any
    positional: bool

    @property
    def wanted(self) -> str:
        """The annotation as messages write it."""
        return " | ".join(label(one) for one in self.types)


def constructor(cls: type) -> Any:
    """Return the bound ``__init__`` that will run, without parameters if none is in Python.

    ``Protocol`` puts a stand-in before the constructor of a class that inherits from a protocol,
    and removes it when the first instance is made: it is passed over.
    """
    written = (vars(base).get("__init__", _STAND_IN) for base in cls.__mro__)
    found = next(one for one in written if one is not _STAND_IN)
    return bound(found if inspect.isfunction(found) else _no_parameters, cls)


def bound(raw: Any, cls: type) -> Any:
    """Return an attribute of a class as a method whose signature has no ``self``."""
    return raw.__get__(_NO_INSTANCE, cls)


def needs(function: Any, owner: str) -> tuple[Need, ...]:
    """Return the parameters of a function that is already bound.

    Raises:
        ContainerError: An annotation is missing or cannot be read; ``owner`` names the function.

    """
    hints = _hints(function, owner)
    return tuple(
        _need(parameter, hints.get(parameter.name, REQUIRED), owner)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind not in _VARIADIC
    )


def _need(parameter: inspect.Parameter, hint: Any, owner: str) -> Need:
    default = parameter.default
    if hint is REQUIRED and default is REQUIRED:
        raise ContainerError(
            f"{owner}({parameter.name}) has no annotation, so nothing says what to inject:"
            f" write '{parameter.name}: SomeType', or give it a default"
        )
    types = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if NoneType in types and default is REQUIRED:
        default = None
    return Need(
        name=parameter.name,
        types=tuple(one for one in types if one not in (NoneType, REQUIRED)),
        default=default,
        positional=parameter.kind is inspect.Parameter.POSITIONAL_ONLY,
    )


def provided(method: Any, owner: str) -> Any:
    """Return the type that a bean method provides, by its return annotation.

    Raises:
        ContainerError: It is missing, cannot be read, or is not one type.

    """
    hint = _hints(method, owner).get("return", REQUIRED)
    advice = "its return annotation says what it provides"
    if hint is REQUIRED:
        raise ContainerError(f"{owner} has no return annotation: {advice}; write '-> SomeType'")
    if inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method):
        if get_origin(hint) not in _YIELDS:
            kind = "AsyncIterator" if inspect.isasyncgenfunction(method) else "Iterator"
            raise ContainerError(
                f"{owner} yields, and is annotated to return {label(hint)}: write '-> {kind}[X]'"
                " for a bean X that is cleaned up after the yield"
            )
        hint = get_args(hint)[0]
    if hint in (NoneType, Any) or get_origin(hint) in (Union, UnionType):
        raise ContainerError(
            f"{owner} returns {label(hint)}: {advice}, and that must be one type; decide inside"
            " of the method, and annotate what all its results have in common"
        )
    return hint


def _hints(function: Any, owner: str) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise ContainerError(
            f"the annotations of {owner} cannot be read: {error}. Import what they name at run"
            " time, not only for type checkers, and define it at the top of a module"
        ) from error


def _no_parameters(self: object) -> None: ...
