"""Which tokens may be acknowledged."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyfly_messaging.delivery.ledger import Ledger


def ledger(*tokens: int) -> Ledger:
    ledger = Ledger()
    ledger.take(tokens)
    return ledger


def test_nothing_is_settled_at_first() -> None:
    """A new ledger has no prefix and nothing to acknowledge."""
    fresh = ledger(1, 2)
    assert fresh.prefix is None
    assert fresh.acknowledgeable() == (None, [])


def test_prefix_grows_in_order() -> None:
    """Tokens that are settled in order move the prefix one by one."""
    work = ledger(10, 12, 15)
    work.settle(10)
    assert work.prefix == 10
    work.settle(12)
    assert work.prefix == 12
    assert work.acknowledgeable() == (12, [])
    assert work.acknowledgeable() == (None, [])


def test_prefix_waits_for_the_slowest() -> None:
    """A token behind one in work is no part of the prefix before that one is settled."""
    work = ledger(1, 2, 3)
    work.settle(3)
    work.settle(2)
    assert work.prefix is None
    work.settle(1)
    assert work.prefix == 3


def test_single_tokens_come_sorted_and_once() -> None:
    """What is settled beyond the prefix is named one by one, and never again."""
    work = ledger(1, 2, 3, 4, 5)
    work.settle(4)
    work.settle(2)
    assert work.acknowledgeable() == (None, [2, 4])
    assert work.acknowledgeable() == (None, [])
    work.settle(5)
    assert work.acknowledgeable() == (None, [5])


def test_the_bound_of_several_is_no_single_one_named_before() -> None:
    """The token up to which all is acknowledged was not acknowledged on its own before."""
    work = ledger(1, 2, 3)
    work.settle(2)
    assert work.acknowledgeable() == (None, [2])
    work.settle(1)
    assert work.prefix == 2
    assert work.acknowledgeable() == (1, [])
    work.settle(3)
    assert work.acknowledgeable() == (3, [])


def test_a_settled_token_that_nobody_named_is_a_bound() -> None:
    """Tokens that come into the prefix unnamed are acknowledged by the bound alone."""
    work = ledger(1, 2, 3)
    work.settle(2)
    work.settle(1)
    assert work.acknowledgeable() == (2, [])


def test_tokens_can_follow_later() -> None:
    """The prefix goes on over tokens that were taken later."""
    work = ledger(1)
    work.settle(1)
    work.take([5, 6])
    work.settle(6)
    assert work.prefix == 1
    work.settle(5)
    assert work.prefix == 6


def test_a_token_that_went_back_is_never_named() -> None:
    """A token that went back to the source on its own is no bound, and no single one."""
    work = ledger(1, 2, 3, 4, 5)
    work.withdraw(2)
    assert work.acknowledgeable() == (None, [])
    work.settle(1)
    assert work.prefix == 2
    assert work.acknowledgeable() == (1, [])
    work.withdraw(3)
    assert work.prefix == 3
    assert work.acknowledgeable() == (None, [])
    work.settle(5)
    work.withdraw(4)
    assert work.prefix == 5
    assert work.acknowledgeable() == (5, [])


def test_a_source_that_asks_for_the_prefix_only_remembers_nothing() -> None:
    """Whoever never asks for single tokens does not make the ledger grow with each message."""
    work = Ledger()
    for first in range(0, 2_000, 2):
        work.take([first, first + 1])
        work.settle(first + 1)
        work.settle(first)
    assert work.prefix == 1_999
    held = [getattr(work, name) for name in Ledger.__slots__]
    assert [len(each) for each in held if hasattr(each, "__len__")] == [0, 0, 0]


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=30),
    st.lists(st.integers(0, 100), max_size=60),
)
def test_everything_settled_is_named_exactly_once(steps: list[int], choices: list[int]) -> None:
    """In any order of settling and asking, tokens are acknowledged once, settled ones only."""
    tokens = [sum(steps[: number + 1]) for number in range(len(steps))]
    work = ledger(*tokens)
    open_tokens, settled, acknowledged = list(tokens), set[int](), set[int]()
    for choice in [*choices, *[0, 1] * len(tokens)]:
        if choice % 3 == 0 and open_tokens:
            token = open_tokens.pop(choice // 3 % len(open_tokens))
            settled.add(token)
            work.settle(token)
        elif choice % 3 == 1:
            up_to, single = work.acknowledgeable()
            named = set(single)
            assert len(single) == len(named)
            if up_to is not None:
                assert up_to not in acknowledged
                named |= {token for token in tokens if token <= up_to} - acknowledged
            assert not named & acknowledged
            assert named <= settled
            acknowledged |= named
            assert acknowledged == settled
        leading = [token for token in tokens if all(t in settled for t in tokens if t <= token)]
        assert work.prefix == (leading[-1] if leading else None)
    assert acknowledged == set(tokens)
