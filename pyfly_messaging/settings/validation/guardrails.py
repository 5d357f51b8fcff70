"""What the profiles ``production`` and ``prod`` do not allow, each with its opt-out."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic
from pyfly_messaging.settings.diagnostics.origins import Path
from pyfly_messaging.settings.loading import Load
from pyfly_messaging.settings.models.whole import WholeSettings
from pyfly_messaging.settings.sources.discovery import GUARDED_PROFILES
from pyfly_messaging.settings.text.names import full


def check_guardrails(settings: WholeSettings, provider: str, load: Load) -> Iterator[Diagnostic]:
    """Yield what must not be in production, unless a setting of ``guardrails`` allows it."""
    if any(load.broken((section,)) for section in ("provider", "guardrails", provider)):
        return
    profile = next(name for name in load.files.profiles if name in GUARDED_PROFILES)
    for ban in _BANS.get(provider, _nothing)(settings):
        if getattr(settings.guardrails, ban.opt_out):
            continue
        origin = load.provenance.origin(ban.path)
        if origin.kind == "default":
            origin = load.provenance.origin(("provider",))
        host = "another machine" if load.provenance.origin(ban.address).via else ban.host
        yield Diagnostic(
            code=ban.code,
            message=f"not in the profile {profile}: {ban.what.format(host)}",
            setting=full(ban.path),
            origin=origin,
            help=f"{ban.cure}: guardrails.{ban.opt_out.replace('_', '-')}: true",
        )


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine: localhost, 127.0.0.0/8 or ::1."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class _Ban:
    code: str
    path: Path
    what: str
    cure: str
    opt_out: str
    address: Path = ()
    host: str = ""


def _memory(settings: WholeSettings) -> Iterator[_Ban]:
    yield _Ban(
        "CFG301",
        ("provider",),
        "messages of the provider memory die with the process",
        "set provider to kafka or rabbitmq, or allow it",
        "allow_memory",
    )


def _kafka(settings: WholeSettings) -> Iterator[_Ban]:
    kafka = settings.kafka
    hosts = [server.rpartition(":")[0] for server in kafka.bootstrap_servers]
    remote = [host for host in hosts if not is_loopback(host)]
    protocol = str(kafka.options.get("security_protocol", ""))
    if remote and not kafka.tls.enabled and not protocol.endswith("SSL"):
        yield _unencrypted(
            "kafka", "bootstrap_servers", remote[0], "set kafka.tls.enabled: true, or allow it"
        )
    if remote and kafka.tls.enabled and not kafka.tls.verify:
        yield _unverified("kafka", "bootstrap_servers", remote[0])


def _rabbitmq(settings: WholeSettings) -> Iterator[_Ban]:
    rabbit, address = settings.rabbitmq, settings.rabbitmq.address
    parts = rabbit.uses_parts
    if address.login == "guest":
        name = "url" if not parts else "username" if rabbit.username else "host"
        yield _Ban(
            "CFG302",
            ("rabbitmq", name),
            "RabbitMQ is used with its default user, guest",
            "set a user of its own, or allow it",
            "allow_guest",
        )
    if is_loopback(address.host):
        return
    if not address.tls:
        cure = "use amqps:// or set rabbitmq.tls.enabled: true, or allow it"
        yield _unencrypted("rabbitmq", "host" if parts else "url", address.host, cure)
    elif not rabbit.tls.verify:
        yield _unverified("rabbitmq", "host" if parts else "url", address.host)


def _unencrypted(section: str, address: str, host: str, cure: str) -> _Ban:
    path = (section, address)
    what = "the connection to {} is not encrypted"
    return _Ban("CFG303", path, what, cure, "allow_unencrypted", path, host)


def _unverified(section: str, address: str, host: str) -> _Ban:
    path = (section, "tls", "verify")
    what = "the certificate of {} is not checked"
    cure = f"set {section}.tls.verify: true, or allow it"
    return _Ban("CFG304", path, what, cure, "allow_unverified", (section, address), host)


def _nothing(settings: WholeSettings) -> Iterator[_Ban]:
    yield from ()


_BANS = {"memory": _memory, "kafka": _kafka, "rabbitmq": _rabbitmq}
