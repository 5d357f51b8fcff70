"""For whose handler a stop waits."""

from __future__ import annotations

from contextvars import copy_context

from pyfly_messaging.delivery.handling import handling, is_waited_for, stopping, within_handler


def test_a_program_waits_for_every_handler() -> None:
    """Outside of handlers a stop waits for those, too, that wait for a stop."""
    inside = copy_context()
    inside.run(handling.set, "one")
    wait = stopping()
    inside.run(wait.__enter__)
    with stopping():
        assert is_waited_for("one")
    inside.run(wait.__exit__, None, None, None)
    assert not within_handler()


def test_a_handler_does_not_wait_for_itself() -> None:
    """Within a handler a stop waits for others, unless they wait for a stop themselves."""

    def within(own: str) -> None:
        handling.set(own)
        assert within_handler()
        assert (is_waited_for(own), is_waited_for("other")) == (False, True)
        with stopping(), stopping():
            copy_context().run(beside)
        assert copy_context().run(waits_for, own)

    def waits_for(own: str) -> bool:
        handling.set("other")
        return is_waited_for(own)

    def beside() -> None:
        assert not waits_for("own")

    copy_context().run(within, "own")
