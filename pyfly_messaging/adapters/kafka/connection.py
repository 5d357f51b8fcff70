"""Who connects, and how."""

from __future__ import annotations

from typing import Any

from pyfly_messaging.errors import ConfigurationError
from pyfly_messaging.settings import KafkaSettings


class Connection:
    """The arguments that all of aiokafka's clients and connections have in common.

    Args:
        settings: The ``kafka:`` section.

    Attributes:
        protocol: ``PLAINTEXT``, ``SSL``, ``SASL_PLAINTEXT`` or ``SASL_SSL``.

    Raises:
        ConfigurationError: A file of ``kafka.tls`` that cannot be used.

    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._ssl_context = None
        self.protocol = "SSL" if settings.tls.enabled else "PLAINTEXT"
        if settings.tls.enabled:
            try:
                self._ssl_context = settings.tls.ssl_context()
            except OSError as error:
                tls = settings.tls
                files = ", ".join(str(f) for f in (tls.ca_file, tls.cert_file, tls.key_file) if f)
                raise ConfigurationError(f"kafka.tls: cannot use {files}: {error}") from error
        if settings.sasl.mechanism is not None:
            self.protocol = "SASL_SSL" if settings.tls.enabled else "SASL_PLAINTEXT"

    def arguments(self) -> dict[str, Any]:
        """Return the arguments, to be passed on at once: the password is among them.

        A variable that holds them would show it to whatever prints the local variables of a
        traceback.
        """
        sasl = self._settings.sasl
        return {
            "client_id": self._settings.client_id,
            "security_protocol": self.protocol,
            **({"ssl_context": self._ssl_context} if self._ssl_context else {}),
            **(
                {
                    "sasl_mechanism": sasl.mechanism,
                    "sasl_plain_username": sasl.username,
                    "sasl_plain_password": sasl.password and sasl.password.get_secret_value(),
                }
                if sasl.mechanism
                else {}
            ),
        }
