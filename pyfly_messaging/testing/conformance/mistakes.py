"""Mistakes of a suite's author, told in clear words before any case runs."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from pyfly_messaging.testing.conformance.capabilities import Capabilities
from pyfly_messaging.testing.conformance.stage import Stage

LEAST_DEADLINE = 2.0
"""Seconds. With less a busy machine, or a broker that assigns partitions, fails sound adapters."""

_SIGNATURE = "def make_broker(self, *, policy, timeouts)"
_OF_A_CAPABILITY = (
    ("unreachable", "make_unreachable_broker", "def"),
    ("foreign", "publish_foreign", "async def"),
    ("reconnects", "break_connection", "async def"),
    ("reconnects", "restore", "async def"),
)


def mistakes_of(suite: type[Stage], *, runs_all: bool) -> list[str]:
    """Return what is wrong with a suite, before any case runs.

    Args:
        suite: The class.
        runs_all: It is a `ConformanceSuite`, so that it cannot do without a broker.

    """
    claims: object = suite.capabilities
    found = [*_about_capabilities(suite), *_about_deadline(suite), *_about_make_broker(suite)]
    if runs_all and suite.make_broker is Stage.make_broker:
        found.append(f"it makes no broker: write {_SIGNATURE}, which returns a new one")
    for need, method, kind in _OF_A_CAPABILITY:
        if getattr(claims, need, False):
            found += _about_method(suite, need, method, kind)
    return [f"{suite.__name__}: {mistake}" for mistake in found]


def _about_capabilities(suite: type[Stage]) -> Iterator[str]:
    claims: object = suite.capabilities
    if not isinstance(claims, Capabilities):
        yield f"capabilities is {claims!r}; write capabilities = Capabilities(durable=True, ...)"


def _about_deadline(suite: type[Stage]) -> Iterator[str]:
    deadline: object = suite.deadline
    if isinstance(deadline, bool) or not isinstance(deadline, int | float):
        yield f"deadline is {deadline!r}; it has to be a number of seconds"
    elif not deadline >= LEAST_DEADLINE:
        yield (
            f"deadline is {deadline:g} s; less than {LEAST_DEADLINE:g} s fails sound adapters on a"
            " busy machine"
        )


def _about_make_broker(suite: type[Stage]) -> Iterator[str]:
    if inspect.iscoroutinefunction(suite.make_broker):
        yield "make_broker is async; it has to be a plain function that returns a broker"
        return
    try:
        inspect.signature(suite.make_broker).bind(suite, policy=None, timeouts=None)
    except TypeError as error:
        yield f"make_broker cannot be called with policy= and timeouts= ({error}): {_SIGNATURE}"


def _about_method(suite: type[Stage], need: str, name: str, kind: str) -> Iterator[str]:
    method: object = getattr(suite, name)
    if method is getattr(Stage, name):
        yield f"it claims {need}, and has no {name}: write one, or do not claim it"
    elif inspect.iscoroutinefunction(method) != (kind == "async def"):
        yield f"{name} has to be written with {kind!r}"
