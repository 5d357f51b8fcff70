"""Lists of messages compared: what is missing, what came twice, what nobody expected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

_SHOWN = 10


def expect(
    found: Iterable[bytes], wanted: Iterable[bytes], *, order: bool = False, repeats: bool = False
) -> None:
    """Compare the values that arrived with those that should.

    Args:
        found: What arrived.
        wanted: What should have; a value that stands here twice has to come twice.
        order: In this order.
        repeats: A value may come again, as it does when something was lost on the way.

    Raises:
        AssertionError: They differ; it says which are missing, duplicated, unexpected.

    """
    __tracebackhide__ = True
    came, should = list(found), list(wanted)
    faults = _differences(came, should, repeats=repeats)
    if not faults and order and came != should:
        faults = [_disorder(came, should)]
    if faults:
        raise AssertionError("; ".join(faults))


def _differences(
    found: Sequence[bytes], wanted: Sequence[bytes], *, repeats: bool = False
) -> list[str]:
    """Return what is wrong, whatever the order: one text for each kind."""
    came, should = Counter(found), Counter(wanted)
    extra = {value: times for value, times in (came - should).items() if value in should}
    kinds = {
        "missing": list(should - came),
        "duplicated": [] if repeats else list(extra),
        "unexpected": [value for value in came if value not in should],
    }
    return [
        f"{len(values)} of {len(wanted)} {kind}: {shown(values)}"
        for kind, values in kinds.items()
        if values
    ]


def shown(values: Sequence[bytes]) -> str:
    """Return the first values, each in short, and how many more there are."""
    first = ", ".join(_short(value) for value in values[:_SHOWN])
    more = len(values) - _SHOWN
    return f"{first} and {more} more" if more > 0 else first


def expect_bytes(found: bytes, wanted: bytes) -> None:
    """Compare one large value, without showing it whole.

    Raises:
        AssertionError: They differ; it says where.

    """
    __tracebackhide__ = True
    if found == wanted:
        return
    pairs = enumerate(zip(found, wanted, strict=False))
    same = next((at for at, (one, two) in pairs if one != two), min(len(found), len(wanted)))
    raise AssertionError(
        f"{len(found)} bytes arrived of {len(wanted)}; they differ from byte {same} on"
    )


def _disorder(found: list[bytes], wanted: list[bytes]) -> str:
    pairs = zip(found, wanted, strict=False)
    at = next(at for at, (one, two) in enumerate(pairs) if one != two)
    return (
        f"out of order from position {at} on: {shown(found[at:])} instead of {shown(wanted[at:])}"
    )


def _short(value: bytes) -> str:
    return repr(value) if len(value) <= 40 else f"{value[:40]!r}... ({len(value)} bytes)"
