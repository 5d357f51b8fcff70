"""The figures of the stress case."""

from collections import Counter

from pyfly_messaging.testing.conformance import Figures


def test_figures_are_counted_as_named() -> None:
    """Each message counts under what became of it."""
    figures = Figures.of(
        attempted={b"ok", b"twice", b"lost", b"recovered", b"refused"},
        acknowledged={b"ok", b"twice", b"lost"},
        handled=Counter({b"ok": 1, b"twice": 2, b"recovered": 1, b"from nowhere": 1}),
    )
    assert figures == Figures(
        attempted=5, acknowledged=3, received=2, lost=1, duplicated=1, recovered=1, unexpected=1
    )


def test_figures_add_up() -> None:
    """Figures of several rounds add up, and read as text."""
    total = Figures(attempted=2, acknowledged=1) + Figures(attempted=3, lost=1)
    assert str(total) == (
        "5 attempted, 1 acknowledged, 0 received, 1 lost, 0 duplicated, 0 recovered, 0 unexpected"
    )
