"""Certificates and keys: looked at before any connection, and never quoted."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

from pyfly_messaging.settings.diagnostics.codes import CODES
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic, Related
from pyfly_messaging.settings.loading import Load
from pyfly_messaging.settings.models import TlsSettings
from pyfly_messaging.settings.models.whole import WholeSettings
from pyfly_messaging.settings.text.local_files import read_file, reason
from pyfly_messaging.settings.text.names import full


def check_tls(settings: WholeSettings, provider: str, load: Load) -> Iterator[Diagnostic]:
    """Yield what is wrong with the files of an encrypted connection."""
    if load.broken((provider,)):
        return
    if provider == "kafka":
        tls, encrypted = settings.kafka.tls, settings.kafka.tls.enabled
    else:
        tls, encrypted = settings.rabbitmq.tls, settings.rabbitmq.address.tls
    if not encrypted:
        return
    section = (provider, "tls")
    if not tls.verify:
        yield Diagnostic(
            code="CFG216",
            severity="warning",
            message=f"{full(section)}: the broker's certificate is not checked",
            setting=full((*section, "verify")),
            origin=load.provenance.origin((*section, "verify")),
            label="anyone in between can read and change messages",
            help=CODES["CFG216"].cure,
        )
    missing = list(_missing(tls, section, load))
    yield from missing
    if not missing:
        yield from _invalid(tls, section, load)


def _missing(tls: TlsSettings, section: tuple[str, ...], load: Load) -> Iterator[Diagnostic]:
    for name in ("ca_file", "cert_file", "key_file"):
        value = getattr(tls, name)
        if value is None:
            continue
        path = Path(value)
        try:
            read_file(path)
        except OSError as error:
            problem = reason(error)
        else:
            continue
        setting = (*section, name)
        origin = load.provenance.origin(setting)
        yield Diagnostic(
            code="CFG209",
            message=f"{full(setting)}: the file cannot be read: {problem}",
            setting=full(setting),
            origin=origin,
            label="" if origin.via else f"looked for {path.absolute()}",
            help=CODES["CFG209"].cure,
        )


def _invalid(tls: TlsSettings, section: tuple[str, ...], load: Load) -> Iterator[Diagnostic]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if tls.ca_file is not None:
        try:
            context.load_verify_locations(cafile=tls.ca_file)
        except (ssl.SSLError, OSError):
            yield _refuse("ca_file", "holds no certificate in PEM form", section, load)
    if tls.cert_file is None or tls.key_file is None:
        return
    password = tls.key_password.get_secret_value() if tls.key_password else ""
    try:
        context.load_cert_chain(tls.cert_file, tls.key_file, lambda: password)
    except (ssl.SSLError, OSError) as error:
        mismatch = "MISMATCH" in str(getattr(error, "reason", None))
    else:
        return
    if mismatch:
        yield _refuse("key_file", "does not belong to the certificate", section, load, "cert_file")
    elif not _has_certificate(tls.cert_file):
        yield _refuse("cert_file", "holds no certificate in PEM form", section, load)
    else:
        yield _refuse("key_file", _key_problem(tls.key_file, password), section, load)


def _key_problem(path: str, password: str) -> str:
    """Say why a key could not be read; OpenSSL itself says no more than "PEM lib"."""
    if b"ENCRYPTED" in read_file(Path(path)):
        return "is encrypted, and key-password is " + ("wrong" if password else "not set")
    return "holds no key in PEM form"


def _has_certificate(path: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except (ssl.SSLError, OSError):
        return False
    return True


def _refuse(
    name: str, what: str, section: tuple[str, ...], load: Load, other: str = ""
) -> Diagnostic:
    setting = (*section, name)
    related: tuple[Related, ...] = ()
    if other:
        origin = load.provenance.origin((*section, other))
        related = (Related(origin=origin, label="the certificate is set here"),)
    return Diagnostic(
        code="CFG210",
        message=f"{full(setting)}: the file {what}",
        setting=full(setting),
        origin=load.provenance.origin(setting),
        help=CODES["CFG210"].cure,
        related=related,
    )
