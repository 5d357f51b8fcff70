"""Who gets what, decided before anything is made; then everything is made, each thing once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, TypeVar, cast

from pyfly_messaging.container.cleanup import Cleanups
from pyfly_messaging.container.component import Component
from pyfly_messaging.container.matching import by_inheritance_only, label
from pyfly_messaging.container.signature import REQUIRED, Need
from pyfly_messaging.errors import ContainerError

T = TypeVar("T")

_Chain = tuple[tuple[Component, Need | None], ...]


class Container:
    """One instance of every component, each made from the others by the types of its parameters.

    A parameter takes the one component whose type is what is annotated, or a subtype of it. With
    none, its default stays (``X | None`` has the default None). Names are never used to choose.

    Args:
        components: All that can be injected; all of them are made.

    Raises:
        ContainerError: A component needs what nothing provides, what several provide, or itself.
            The message has the whole chain.

    """

    def __init__(self, components: Iterable[Component]) -> None:
        self._components = tuple(components)
        self._suppliers: dict[Component, dict[str, Component]] = {}  # in the order of making
        self._instances: dict[Component, Any] = {}
        for component in self._components:
            self._resolve(component, ())

    def get(self, wanted: type[T]) -> T:
        """Return the instance for a type, as it would be injected.

        Raises:
            ContainerError: Nothing, or more than one component, provides it.

        """
        found = self.candidates((wanted,))
        if not found:
            raise ContainerError(f"nothing provides {label(wanted)}: {_advice((wanted,))}")
        if len(found) > 1:
            raise ContainerError(f"{_several(label(wanted), found)}: ask for the narrower type")
        return cast("T", self._instances[found[0]])

    def candidates(self, wanted: Sequence[Any]) -> list[Component]:
        """Return the components that provide one of the types."""
        return [one for one in self._components if any(one.fits(hint) for hint in wanted)]

    def instances(self) -> list[object]:
        """Return all that was made, in the order in which it was made."""
        return list(self._instances.values())

    async def open(self, cleanups: Cleanups, within: float | None = None) -> None:
        """Make everything, and first what it is made from.

        Args:
            cleanups: Is given what cleans up after each thing made.
            within: Seconds for all of it.

        Raises:
            ContainerError: It took longer, or a bean is None.
            Exception: What a constructor or a bean raised, with a note that names it.

        """
        making = ""
        try:
            async with asyncio.timeout(within) as limit:
                for component in self._suppliers:
                    making = component.label
                    self._instances[component] = await self._make(component, cleanups)
        except TimeoutError as error:
            if limit.expired():
                raise ContainerError(
                    f"{making} was not made within {within:g} s (startup.timeout)"
                ) from error
            error.add_note(f"raised while {making} was made")
            raise
        except Exception as error:
            error.add_note(f"raised while {making} was made")
            raise

    def _resolve(self, component: Component, chain: _Chain) -> None:
        """Find a supplier for every need of a component; ``chain`` says who needs the component."""
        if component in self._suppliers:
            return
        passed = [link for link, _ in chain]
        if component in passed:
            circle = chain[passed.index(component) :]
            raise ContainerError(
                f"{_path(circle)} -> {component.label}: each needs the next one, so none can be"
                " made first; let one of them do without, or let them exchange messages"
            )
        if component.owner is not None:
            self._resolve(component.owner, (*chain, (component, None)))
        suppliers = {}
        for need in component.needs:
            way = (*chain, (component, need))
            supplier = self._supplier(need, way)
            if supplier is not None:
                self._resolve(supplier, way)
                suppliers[need.name] = supplier
        self._suppliers[component] = suppliers

    def _supplier(self, need: Need, chain: _Chain) -> Component | None:
        found = self.candidates(need.types)
        if len(found) > 1:
            raise ContainerError(
                f"{_path(chain)} is ambiguous: {_several(need.wanted, found)}: leave out all but"
                " one, or annotate a narrower type"
            )
        if not found and need.default is REQUIRED:
            raise ContainerError(
                f"{_path(chain)} needs {need.wanted}, which nothing provides:"
                f" {_advice(need.types)}; or give {need.name!r} a default"
            )
        return found[0] if found else None

    async def _make(self, component: Component, cleanups: Cleanups) -> Any:
        if component.factory is None:
            return component.value
        owner = None if component.owner is None else self._instances[component.owner]
        positional, named = self._arguments(component)
        making = component.factory(owner)(*positional, **named)
        made = await making.__aenter__()
        cleanups.add(component.label, partial(making.__aexit__, None, None, None))
        if made is None:
            raise ContainerError(
                f"{component.label} gave None, and is annotated to give"
                f" {label(component.provides)}: it must return one"
            )
        return made

    def _arguments(self, component: Component) -> tuple[list[Any], dict[str, Any]]:
        positional, named = [], {}
        suppliers = self._suppliers[component]
        for need in component.needs:
            supplier = suppliers.get(need.name)
            value = need.default if supplier is None else self._instances[supplier]
            if need.positional:
                positional.append(value)
            else:
                named[need.name] = value
        return positional, named


def _path(chain: _Chain) -> str:
    """Return ``OrderService(clock: Clock) -> Wiring.clock(zone: Zone)``."""
    return " -> ".join(
        component.label if need is None else f"{component.label}({need.name}: {need.wanted})"
        for component, need in chain
    )


def _several(wanted: str, found: Sequence[Component]) -> str:
    return f"{len(found)} provide {wanted} ({', '.join(one.place for one in found)})"


def _advice(wanted: Sequence[Any]) -> str:
    strict = [label(one) for one in wanted if by_inheritance_only(one)]
    hint = (
        f" ({strict[0]} is a protocol that is not @runtime_checkable: only classes that inherit"
        " from it count)"
        if strict
        else ""
    )
    return (
        "mark a class of that type with @service, or return one from a @bean, and pass its module"
        f" to bootstrap(){hint}"
    )
