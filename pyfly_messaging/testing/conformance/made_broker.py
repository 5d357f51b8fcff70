"""What a suite's ``make_broker`` returned, before a case works with it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator

_METHODS = ("publish", "subscribe", "start", "stop")


def check_broker(suite: str, broker: object, earlier: Iterable[object]) -> None:
    """Check what ``make_broker`` returned.

    Raises:
        TypeError: It is no broker that a case could work with.

    """
    __tracebackhide__ = True
    for mistake in _about_broker(broker, earlier):
        raise TypeError(f"{suite}.make_broker {mistake}")


def _about_broker(broker: object, earlier: Iterable[object]) -> Iterator[str]:
    if inspect.isawaitable(broker):
        if inspect.iscoroutine(broker):
            broker.close()
        yield "is async; it has to be a plain function that returns a broker, not started"
    elif broker is None:
        yield "returned None; does it lack a return?"
    elif isinstance(broker, type):
        yield f"returned the class {broker.__name__}; it has to return an instance"
    elif absent := _absent(broker):
        yield f"returned a {type(broker).__name__}, which has no {', '.join(absent)}"
    elif any(broker is other for other in earlier):
        yield "returned the same broker as before; every call has to return a new one"


def _absent(broker: object) -> list[str]:
    return [f"{name}()" for name in _METHODS if not callable(getattr(broker, name, None))]
