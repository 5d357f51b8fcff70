"""What the profile ``production`` forbids, and how to allow it all the same."""

from __future__ import annotations

from pydantic import Field

from pyfly_messaging.settings.models.base import Section
from pyfly_messaging.settings.models.types import Flag


class GuardrailSettings(Section):
    """Exceptions from what the profiles ``production`` and ``prod`` do not allow."""

    allow_memory: Flag = Field(
        default=False,
        description="In production: allow the provider memory; its messages die with the process.",
    )
    allow_guest: Flag = Field(
        default=False, description="In production: allow RabbitMQ's default user, guest."
    )
    allow_unencrypted: Flag = Field(
        default=False,
        description="In production: allow connections without TLS to other machines.",
    )
    allow_unverified: Flag = Field(
        default=False,
        description="In production: allow tls.verify: false towards other machines.",
    )
