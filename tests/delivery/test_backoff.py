"""How long the pauses between attempts are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfly_messaging.delivery.backoff import Backoff
from pyfly_messaging.policy import ListenerPolicy


def middle() -> float:
    return 0.5


def test_pauses_grow_up_to_the_longest() -> None:
    """Each pause is the one before it times the multiplier, up to retry_max_delay."""
    policy = ListenerPolicy(retry_delay=1.0, retry_multiplier=2.0, retry_max_delay=5.0)
    assert [Backoff.of(policy).pause(failures, middle) for failures in range(1, 6)] == [
        1,
        2,
        4,
        5,
        5,
    ]


def test_a_multiplier_of_one_keeps_the_pause() -> None:
    """A multiplier of 1 makes all pauses equal."""
    policy = ListenerPolicy(retry_delay=3.0, retry_multiplier=1.0)
    assert {Backoff.of(policy).pause(failures, middle) for failures in (1, 2, 50)} == {3.0}


def test_jitter_moves_the_pause_both_ways() -> None:
    """The draw moves a pause by up to the share that retry_jitter says, down or up."""
    policy = ListenerPolicy(retry_delay=10.0, retry_jitter=0.2)
    assert Backoff.of(policy).pause(1, lambda: 0.0) == pytest.approx(8.0)
    assert Backoff.of(policy).pause(1, lambda: 0.25) == pytest.approx(9.0)
    assert Backoff.of(policy).pause(1, lambda: 1.0) == pytest.approx(12.0)


def test_jitter_differs_by_default() -> None:
    """Without a draw of its own a pause is random."""
    policy = ListenerPolicy(retry_jitter=1.0)
    assert len({Backoff.of(policy).pause(1) for _ in range(10)}) > 1


def test_a_connection_varies_by_half() -> None:
    """Without a listener's policy pauses double, and vary by half of themselves."""
    reconnect = Backoff(first=0.5, longest=5.0)
    assert [reconnect.pause(failures, middle) for failures in range(1, 6)] == [0.5, 1, 2, 4, 5]
    assert (reconnect.pause(1, lambda: 0.0), reconnect.pause(1, lambda: 1.0)) == (0.25, 0.75)


def test_no_delay_is_no_pause() -> None:
    """A retry_delay of 0 means that retries follow at once, with any jitter."""
    policy = ListenerPolicy(retry_delay=0.0, retry_jitter=1.0)
    assert Backoff.of(policy).pause(100, lambda: 1.0) == 0.0


@pytest.mark.parametrize("multiplier", [2, 2.0, 1e300])
def test_endless_failures_do_not_overflow(multiplier: float) -> None:
    """A dead letter that is refused for ever gets the longest pause, not an OverflowError."""
    policy = ListenerPolicy(retry_delay=1.0, retry_multiplier=multiplier, retry_max_delay=30.0)
    assert Backoff.of(policy).pause(5_000, middle) == 30.0


@given(
    st.floats(0, 1e6),
    st.floats(1, 1e3),
    st.floats(0, 1e6),
    st.floats(0, 1),
    st.integers(1, 10_000),
    st.floats(0, 1),
)
def test_a_pause_is_bounded(
    delay: float, multiplier: float, longest: float, jitter: float, failures: int, drawn: float
) -> None:
    """No pause is negative, or longer than retry_max_delay and its jitter."""
    policy = ListenerPolicy(
        retry_delay=delay, retry_multiplier=multiplier, retry_max_delay=longest, retry_jitter=jitter
    )
    pause = Backoff.of(policy).pause(failures, lambda: drawn)
    assert 0.0 <= pause <= longest * (1 + jitter) * (1 + 1e-9)
