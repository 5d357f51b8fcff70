"""TLS and SASL: how a connection is encrypted, and who connects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pyfly_messaging.settings.models.base import Conflict, Section
from pyfly_messaging.settings.models.types import FilePath, Flag, Secret, Text
from pyfly_messaging.settings.text.local_files import read_file

if TYPE_CHECKING:
    import ssl

SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class TlsSettings(Section):
    """Encryption of the connection to a broker."""

    enabled: Flag = Field(default=False, description="Encrypt the connection.")
    ca_file: FilePath | None = Field(
        default=None,
        description="PEM file of the authorities to trust; the system's when not given.",
    )
    cert_file: FilePath | None = Field(
        default=None, description="PEM file of the client's certificate (mutual TLS)."
    )
    key_file: FilePath | None = Field(
        default=None, description="PEM file of the key of the client's certificate."
    )
    key_password: Secret | None = Field(
        default=None, description="Password of the key file, when it is encrypted."
    )
    verify: Flag = Field(
        default=True,
        description="Check the broker's certificate and host name. Off, anyone can listen in.",
    )

    @property
    def given(self) -> tuple[str, ...]:
        """The names of the fields that only matter to an encrypted connection and are set."""
        names = ("ca_file", "cert_file", "key_file", "key_password")
        found = tuple(name for name in names if getattr(self, name) is not None)
        return found if self.verify else (*found, "verify")

    def conflicts(self) -> Iterator[Conflict]:
        """Yield a certificate without its key and the reverse."""
        if self.cert_file is None and self.key_file is not None:
            yield Conflict(
                code="CFG205",
                fields=("key_file",),
                message="key-file is set without cert-file",
                help="set cert-file to the certificate that belongs to this key",
            )
        if self.cert_file is not None and self.key_file is None:
            yield Conflict(
                code="CFG205",
                fields=("cert_file",),
                message="cert-file is set without key-file",
                help="set key-file to the key of this certificate",
            )
        if self.key_password is not None and self.key_file is None:
            yield Conflict(
                code="CFG205",
                fields=("key_password",),
                message="key-password is set without key-file",
                help="set key-file to the key that this password opens",
            )

    def ssl_context(self) -> ssl.SSLContext:
        """Return a client's context as these settings say, whether or not ``enabled`` is set.

        Raises:
            OSError: A file cannot be read.
            ssl.SSLError: A file is not what it should be, or the key does not fit.

        """
        import ssl

        for name in filter(None, (self.ca_file, self.cert_file, self.key_file)):
            read_file(Path(name))  # OpenSSL itself would wait for a named pipe
        context = ssl.create_default_context(cafile=self.ca_file)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.cert_file is not None:
            # A callable, so that OpenSSL never asks for the password on the terminal, and that no
            # variable of a traceback holds it.
            context.load_cert_chain(self.cert_file, self.key_file, self._read_key_password)
        return context

    def _read_key_password(self) -> str:
        return self.key_password.get_secret_value() if self.key_password else ""


class SaslSettings(Section):
    """Who connects to Kafka."""

    mechanism: SaslMechanism | None = Field(
        default=None, description="How the client identifies itself; without it, it does not."
    )
    username: Text | None = Field(default=None, description="Name of the user.")
    password: Secret | None = Field(default=None, description="Password of the user.")

    def conflicts(self) -> Iterator[Conflict]:
        """Yield a mechanism without credentials, and credentials without a mechanism."""
        missing = [name for name in ("username", "password") if getattr(self, name) is None]
        if self.mechanism is not None and missing:
            yield Conflict(
                code="CFG203",
                fields=("mechanism",),
                message=f"SASL needs {' and '.join(missing)} as well",
                help="set " + " and ".join(f"kafka.sasl.{name}" for name in missing),
            )
        if self.mechanism is None and len(missing) < 2:
            given = next(name for name in ("username", "password") if name not in missing)
            yield Conflict(
                code="CFG204",
                fields=(given,),
                message="credentials are set, but no mechanism: they would not be sent",
                help="set kafka.sasl.mechanism to PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
            )
