"""The policy of listeners: for all of them, and for one by its name."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pyfly_messaging.policy import POLICY_FIELDS, ListenerPolicy
from pyfly_messaging.settings.models.base import Section
from pyfly_messaging.settings.models.types import (
    DeadLetterTopic,
    Duration,
    ExceptionNames,
    Flag,
    Number,
    OptionalDeadline,
    Text,
    Topic,
    Whole,
)

_DEFAULT = ListenerPolicy()


class ListenerSettings(Section):
    """What happens around a handler: the defaults for all listeners. Durations are seconds."""

    concurrency: Annotated[Whole, Field(ge=1)] = Field(
        default=_DEFAULT.concurrency,
        description="Handlers at once. With 1 messages are handled in order; with more, those "
        "with the same key stay in order.",
    )
    timeout: OptionalDeadline = Field(
        default=_DEFAULT.timeout, description="Limit of one attempt; an attempt over it has failed."
    )
    retries: Annotated[Whole, Field(ge=0)] = Field(
        default=_DEFAULT.retries, description="Attempts after the first one."
    )
    retry_delay: Duration = Field(
        default=_DEFAULT.retry_delay, description="Pause before the first retry."
    )
    retry_multiplier: Annotated[Number, Field(ge=1)] = Field(
        default=_DEFAULT.retry_multiplier, description="Factor between one pause and the next."
    )
    retry_max_delay: Duration = Field(
        default=_DEFAULT.retry_max_delay, description="Longest pause."
    )
    retry_jitter: Annotated[Number, Field(ge=0, le=1)] = Field(
        default=_DEFAULT.retry_jitter,
        description="Share of a pause by which it varies at random, up and down.",
    )
    dead_letter: Flag = Field(
        default=_DEFAULT.dead_letter,
        description="Keep a spent message on a dead-letter topic; false: log and drop it.",
    )
    dead_letter_topic: DeadLetterTopic = Field(
        default=_DEFAULT.dead_letter_topic,
        description="Where spent messages go; {topic} stands for the listener's topic.",
    )
    fatal_exceptions: ExceptionNames = Field(
        default=(),
        description="Exceptions that no retry can mend, by name; their subclasses too.",
    )

    def policy(self) -> ListenerPolicy:
        """Return these settings as the policy of a listener."""
        return ListenerPolicy(**{name: getattr(self, name) for name in POLICY_FIELDS})


class ListenerOverride(ListenerSettings):
    """What an operator sets for one listener. Only what is really set counts."""

    topic: Topic | None = Field(
        default=None, description="Topic to listen to, instead of the one in the code."
    )
    group: Annotated[Text, Field(max_length=200)] | None = Field(
        default=None, description="Consumer group, instead of the one in the code."
    )
    enabled: Flag = Field(default=True, description="Whether the listener is started at all.")

    def changes(self) -> dict[str, object]:
        """Return the policy fields that are set here, by name."""
        return {
            name: getattr(self, name) for name in POLICY_FIELDS if name in self.model_fields_set
        }
