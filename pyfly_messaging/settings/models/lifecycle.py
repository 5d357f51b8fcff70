"""The settings of start and stop, and of the memory broker."""

from __future__ import annotations

from pydantic import Field

from pyfly_messaging.settings.models.base import Section
from pyfly_messaging.settings.models.types import Deadline, Flag


class StartupSettings(Section):
    """The start of a broker. Durations are seconds."""

    timeout: Deadline = Field(
        default=30.0, description="Deadline of the whole start, retries of the connection included."
    )


class ShutdownSettings(Section):
    """The stop of a broker. Durations are seconds."""

    timeout: Deadline = Field(
        default=30.0, description="Deadline of the whole stop; then running handlers are cancelled."
    )


class MemorySettings(Section):
    """The broker in memory, for tests and development."""

    raise_errors: Flag = Field(
        default=False, description="For tests: publish raises what a handler raised."
    )
    skip_retry_delays: Flag = Field(
        default=False, description="For tests: retry at once, without the pauses of the policy."
    )
