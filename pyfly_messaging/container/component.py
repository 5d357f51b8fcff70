"""What the container makes: one value for each class, bean method and ready object."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from pyfly_messaging.container.marks import bean_methods
from pyfly_messaging.container.matching import fits, instance_fits, label
from pyfly_messaging.container.signature import Need, bound, constructor, needs, provided

Factory: TypeAlias = Callable[..., AbstractAsyncContextManager[Any]]
"""Makes an instance on entering, and cleans it up on leaving."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Component:
    """Something that exists once; compared by identity.

    Attributes:
        label: Its short name in messages: ``OrderService``, ``Wiring.clock``.
        place: Its name with the module, to tell namesakes apart.
        provides: The type as which it is injected.
        needs: What it is made from.
        owner: The component whose method makes it.
        factory: Takes the owner's instance; returns what makes an instance from what it needs.
        value: The object itself when it exists already; then there is no factory.

    """

    label: str
    place: str
    provides: Any
    needs: tuple[Need, ...] = ()
    owner: Component | None = None
    factory: Callable[[Any], Factory] | None = None
    value: Any = None

    def fits(self, wanted: Any) -> bool:
        """Tell whether it can be injected where ``wanted`` is annotated."""
        if self.factory is None and instance_fits(self.value, wanted):
            return True
        return fits(self.provides, wanted)


def class_component(cls: type) -> Component:
    """Return the component of a class, made by its constructor.

    Raises:
        ContainerError: The constructor's annotations are missing or cannot be read.

    """
    name = label(cls)
    return Component(
        label=name,
        place=_place(cls),
        provides=cls,
        needs=needs(constructor(cls), name),
        factory=lambda _: _by_constructor(cls),
    )


def value_component(value: object, name: str | None = None) -> Component:
    """Return the component of an object that exists already.

    Args:
        value: The object.
        name: What messages call it.

    """
    cls = type(value)
    return Component(
        label=name or f"the {label(cls)} that was passed in",
        place=name or f"the {_place(cls)} that was passed in",
        provides=cls,
        value=value,
    )


def bean_components(owner: Component, cls: type) -> list[Component]:
    """Return the components of the ``@bean`` methods of a component's class.

    Raises:
        ContainerError: A method's annotations are missing or cannot be read, or its return
            annotation is not one type.

    """
    return [_bean_component(owner, cls, name, raw) for name, raw in bean_methods(cls)]


def _bean_component(owner: Component, cls: type, name: str, raw: Any) -> Component:
    text = f"{label(cls)}.{name}"
    method = bound(raw, cls)
    return Component(
        label=text,
        place=f"{_place(cls)}.{name}",
        provides=provided(method, text),
        needs=needs(method, text),
        owner=owner,
        factory=partial(_by_method, name),
    )


def _by_constructor(cls: type) -> Factory:
    @asynccontextmanager
    async def made(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        yield cls(*args, **kwargs)

    return made


def _by_method(name: str, instance: object) -> Factory:
    """Return the method of an instance as a factory, whichever of the four kinds it is."""
    method = getattr(instance, name)
    if inspect.isasyncgenfunction(method):
        return asynccontextmanager(method)

    @asynccontextmanager
    async def made(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        if inspect.isgeneratorfunction(method):
            with contextmanager(method)(*args, **kwargs) as yielded:
                yield yielded
        elif inspect.iscoroutinefunction(method):
            yield await method(*args, **kwargs)
        else:
            yield method(*args, **kwargs)

    return made


def _place(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
