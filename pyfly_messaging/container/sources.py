"""From what ``bootstrap`` was given to components and listeners."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType

from pyfly_messaging.container.component import (
    Component,
    bean_components,
    class_component,
    value_component,
)
from pyfly_messaging.container.marks import bean_methods, is_bean, is_component
from pyfly_messaging.container.matching import fits
from pyfly_messaging.errors import ContainerError
from pyfly_messaging.listener import Listener, discover, is_listener, module_members, needs_instance
from pyfly_messaging.logs import get_logger

logger = get_logger("pyfly_messaging.container")


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What sources contain.

    Attributes:
        components: What the container makes or is given.
        listeners: Those that need no instance: functions, static and class methods.

    """

    components: tuple[Component, ...]
    listeners: tuple[Listener, ...]


def collect(sources: Sequence[object]) -> Collected:
    """Return the components and listeners of modules, dotted names, classes, instances, functions.

    A module gives its marked classes and functions; a package, those of all its modules but
    ``__main__``. A class given by itself needs no mark. An instance is injectable, its listeners
    are subscribed, and it takes the place of its class.

    Raises:
        ContainerError: A component's annotations do not say what it needs or provides.
        ModuleNotFoundError: A dotted name is no module.
        TypeError: Something that is no source.
        ValueError: Text that is no dotted name.

    """
    found = _Found()
    for source in sources:
        if isinstance(source, str | ModuleType):
            for module in _modules(_import(source) if isinstance(source, str) else source):
                for member in module_members(module):
                    found.add_member(member)
        else:
            found.add(source)
    return Collected(components=tuple(found.components()), listeners=tuple(found.listeners))


def listeners_of(instances: Iterable[object]) -> Iterator[Listener]:
    """Yield the listeners that are methods of instances."""
    for instance in instances:
        if not inspect.isroutine(instance) and type(instance).__module__ != "builtins":
            yield from discover(instance)


class _Found:
    def __init__(self) -> None:
        self.listeners: list[Listener] = []
        self._classes: dict[type, None] = {}
        self._static: dict[type, None] = {}  # classes of which only the listeners are wanted
        self._values: dict[int, object] = {}
        self._unmarked: dict[type, None] = {}

    def add_member(self, member: object) -> None:
        """Add what stands in a module."""
        if inspect.isclass(member):
            (self._classes if is_component(member) else self._unmarked)[member] = None
        elif is_listener(member) or is_bean(member):
            self.add(member)

    def add(self, source: object) -> None:
        """Add a class, function or instance that was given by itself."""
        if is_bean(source):
            raise ContainerError(
                f"the @bean {_name(source)} stands outside of a class: make it a method of a"
                " @configuration class"
            )
        if inspect.isclass(source):
            listeners = discover(source)
            has_beans = any(bean_methods(source))
            if is_component(source) or needs_instance(source) or has_beans or not listeners:
                self._classes[source] = None
            else:
                self._static[source] = None
                self.listeners.extend(listeners)
        elif inspect.isroutine(source):
            self.listeners.extend(discover(source))
        elif type(source).__module__ == "builtins":
            raise TypeError(
                f"{source!r:.80} is no source: pass modules, dotted names, classes, instances and"
                " functions, each as an argument of its own"
            )
        else:
            self._values[id(source)] = source

    def components(self) -> Iterator[Component]:
        """Yield the components of what was added, each followed by its beans."""
        values = [(type(value), value_component(value)) for value in self._values.values()]
        given = {cls for cls, _ in values}
        made = [(cls, class_component(cls)) for cls in self._classes if cls not in given]
        provided: list[object] = list(self._static)
        for cls, component in (*values, *made):
            for one in (component, *bean_components(component, cls)):
                provided.append(one.provides)
                yield one
        self._warn_of_unmarked(provided)

    def _warn_of_unmarked(self, provided: list[object]) -> None:
        for cls in self._unmarked:
            if any(fits(one, cls) for one in provided):
                continue
            has = "@bean methods" if any(bean_methods(cls)) else "listeners"
            if has == "@bean methods" or needs_instance(cls) or discover(cls):
                logger.warning(
                    "%s.%s has %s, but nothing makes it: mark it with @%s, or pass the class or an"
                    " instance of it to bootstrap()",
                    cls.__module__,
                    cls.__qualname__,
                    has,
                    "configuration" if has == "@bean methods" else "service",
                )


def _modules(module: ModuleType) -> Iterator[ModuleType]:
    yield module
    for found in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{module.__name__}."):
        if not found.name.endswith(".__main__"):  # importing it would run a program
            yield from _modules(importlib.import_module(found.name))


def _import(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"{name!r} is no dotted name of a module")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, and imports something that is not
        raise ModuleNotFoundError(
            f"there is no module {error.name!r} for the source {name!r}: text is the dotted name of"
            " a module or package that Python can import; pass classes and functions themselves",
            name=error.name,
        ) from None


def _name(function: object) -> str:
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', function)}"
