"""What makes an async method a case: its sentence, what it needs, how long it may take."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from pyfly_messaging.testing.conformance.capabilities import CAPABILITIES
from pyfly_messaging.testing.conformance.stage import Stage

P = ParamSpec("P")
StageT = TypeVar("StageT", bound=Stage)

_NEEDS = "__conformance_needs__"


def case(
    *needs: str, deadlines: int = 4
) -> Callable[
    [Callable[Concatenate[StageT, P], Coroutine[Any, Any, None]]],
    Callable[Concatenate[StageT, P], None],
]:
    """Make an async method a case, which runs in an event loop of its own.

    The result is an ordinary method, so that the kit needs no plugin for async tests and gets along
    with each of them. The method's docstring is the sentence of the contract that it proves.

    Args:
        needs: The capabilities without which the case does not run.
        deadlines: How many of the suite's deadlines the case may take as a whole.

    Raises:
        ValueError: A need that is no capability.

    """
    for need in needs:
        if need not in CAPABILITIES:
            raise ValueError(f"{need!r} is no capability; there are {', '.join(CAPABILITIES)}")

    def decorate(
        method: Callable[Concatenate[StageT, P], Coroutine[Any, Any, None]],
    ) -> Callable[Concatenate[StageT, P], None]:
        @functools.wraps(method)
        def play(self: StageT, /, *args: P.args, **kwargs: P.kwargs) -> None:
            __tracebackhide__ = True
            self.play(method(self, *args, **kwargs), deadlines * self.deadline)

        setattr(play, _NEEDS, needs)
        return play

    return decorate


def needs_of(method: object) -> tuple[str, ...] | None:
    """Return what a case needs, or None when the method is no case."""
    needs: tuple[str, ...] | None = getattr(method, _NEEDS, None)
    return needs


def cases_of(suite: type[Stage]) -> dict[str, tuple[str, ...]]:
    """Return the cases of a suite with what each needs, in the order of the contract."""
    found: dict[str, tuple[str, ...]] = {}
    for cls in reversed(suite.__mro__):
        for name, member in vars(cls).items():
            if (needs := needs_of(member)) is not None:
                found[name] = needs
    return found


def unclaimed(suite: type[Stage]) -> dict[str, str]:
    """Return the cases that do not run, each with the capability that is not claimed."""
    return {
        name: need
        for name, needs in cases_of(suite).items()
        if (need := suite.capabilities.missing(needs)) is not None
    }
