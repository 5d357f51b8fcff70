"""When an object of one type may be injected where another type is annotated."""

from __future__ import annotations

import inspect
from types import NoneType
from typing import Any, get_origin


def fits(provided: Any, wanted: Any) -> bool:
    """Tell whether ``provided`` is ``wanted``, or a subtype of it as far as can be known.

    A class counts by inheritance; for a ``@runtime_checkable`` protocol also by its methods. A
    parametrised type (``Repository[Order]``) counts when it is the declared type itself or stands
    among the bases of the class.
    """
    if provided == wanted:
        return True
    cls = get_origin(provided) or provided
    if not inspect.isclass(cls):
        return False
    if get_origin(wanted) is not None:
        return any(wanted in vars(base).get("__orig_bases__", ()) for base in cls.__mro__)
    return inspect.isclass(wanted) and (wanted in cls.__mro__ or _is_subclass(cls, wanted))


def instance_fits(value: object, wanted: Any) -> bool:
    """Tell whether an object is an instance of ``wanted``."""
    if fits(type(value), wanted):
        return True
    try:
        return inspect.isclass(wanted) and isinstance(value, wanted)
    except TypeError:
        return False


def by_inheritance_only(wanted: Any) -> bool:
    """Tell whether ``wanted`` is a protocol that cannot be compared by its methods."""
    return getattr(wanted, "_is_protocol", False) and not _comparable(wanted)


def label(hint: Any) -> str:
    """Return a type as messages write it, without modules."""
    if hint in (None, NoneType):
        return "None"
    if inspect.isclass(hint) and get_origin(hint) is None:
        return hint.__qualname__.rpartition("<locals>.")[2]
    name = getattr(hint, "__name__", None) if get_origin(hint) is None else None
    return name or str(hint).replace("typing.", "")


def _is_subclass(cls: type, wanted: type) -> bool:
    try:
        return issubclass(cls, wanted)
    except TypeError:  # a protocol without @runtime_checkable, or with attributes
        return False


def _comparable(protocol: type) -> bool:
    try:
        issubclass(object, protocol)
    except TypeError:
        return False
    return True
