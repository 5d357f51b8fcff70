"""Frames that hold a password leave tracebacks, and nothing else changes."""

import traceback

from pyfly_messaging.adapters.kafka.redaction import drop_secret_frames


class Hostile(Exception):
    """An exception whose attributes raise."""

    @property
    def __traceback__(self) -> None:  # type: ignore[override]
        raise ZeroDivisionError

    @property
    def __context__(self) -> None:  # type: ignore[override]
        raise ZeroDivisionError


def secret_call(sasl_plain_password: str) -> None:
    raise ValueError("refused")


def refused() -> BaseException:
    try:
        secret_call("hunter2")
    except ValueError as error:
        return error
    raise AssertionError


def test_the_frame_with_the_password_goes() -> None:
    """What prints local variables finds none of that frame, in the exception and its context."""
    error = RuntimeError()
    error.__context__ = refused()
    drop_secret_frames(error)
    names = [frame.name for frame in traceback.extract_tb(error.__context__.__traceback__)]
    assert names == ["refused"]


def test_a_traceback_without_a_password_is_left_alone() -> None:
    """Exceptions of others keep their own traceback."""
    try:
        raise KeyError("theirs")
    except KeyError as error:
        theirs, before = error, error.__traceback__
    drop_secret_frames(theirs)
    assert theirs.__traceback__ is before


def test_chains_of_any_length_and_hostile_exceptions() -> None:
    """A chain of thousands, a loop and attributes that raise are no reason to fail."""
    error: BaseException = ValueError(0)
    for number in range(5000):
        following = ValueError(number)
        following.__context__, error = error, following
    drop_secret_frames(error)
    group = BaseExceptionGroup("several", [Hostile(), refused()])
    group.__cause__ = group
    drop_secret_frames(group)
    names = [f.name for f in traceback.extract_tb(group.exceptions[1].__traceback__)]
    assert names == ["refused"]
