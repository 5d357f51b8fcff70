"""Checks across settings. They see settings that are valid by themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pyfly_messaging.settings.catalogue.display import value_at
from pyfly_messaging.settings.diagnostics.codes import CODES
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic, Related
from pyfly_messaging.settings.diagnostics.origins import DEFAULT, Path
from pyfly_messaging.settings.loading import Load
from pyfly_messaging.settings.models.provider import CLIENTS, choose, has_client
from pyfly_messaging.settings.models.whole import WholeSettings
from pyfly_messaging.settings.text.names import full

Check = Callable[[WholeSettings, Load], Iterator[Diagnostic]]


def run_checks(settings: WholeSettings, load: Load) -> None:
    """Report what is wrong between settings; skip what an error already explains."""
    for check in (_provider, _unused, _listeners, _delays):
        for diagnostic in check(settings, load):
            load.report(diagnostic)
    provider = effective_provider(settings)
    if provider in CLIENTS:
        from pyfly_messaging.settings.validation.tls_files import check_tls

        for diagnostic in check_tls(settings, provider, load):
            load.report(diagnostic)
    from pyfly_messaging.settings.sources.discovery import GUARDED_PROFILES

    if GUARDED_PROFILES.intersection(load.files.profiles):
        from pyfly_messaging.settings.validation.guardrails import check_guardrails

        for diagnostic in check_guardrails(settings, provider, load):
            load.report(diagnostic)


def effective_provider(settings: WholeSettings) -> str:
    """Return the provider that is used: what ``auto`` chooses here, or the one that is set."""
    return choose()[0] if settings.provider == "auto" else settings.provider


def _provider(settings: WholeSettings, load: Load) -> Iterator[Diagnostic]:
    path: Path = ("provider",)
    if load.broken(path):
        return
    origin = load.provenance.origin(path)
    if settings.provider == "auto":
        chosen, reason = choose()
        yield Diagnostic(
            code="CFG212",
            severity="info",
            message=f"provider auto uses {chosen}: {reason}",
            setting=full(path),
            origin=origin,
            help=f"set provider: {chosen} to be independent of what is installed",
        )
    client = CLIENTS.get(settings.provider)
    if client is not None and not has_client(client[0]):
        package, extra = client
        yield Diagnostic(
            code="CFG201",
            message=f"provider {settings.provider} needs the package {package}",
            setting=full(path),
            origin=origin,
            label=f"{package} is not installed",
            help=f'pip install "pyfly-messaging[{extra}]"',
        )


def _unused(settings: WholeSettings, load: Load) -> Iterator[Diagnostic]:
    if settings.provider != "memory" or load.broken(("provider",)):
        return
    others = {adapter.field: adapter.name for adapter in load.adapters}
    for section, name in ({name: name for name in CLIENTS} | others).items():
        given = load.provenance.below((section,))
        first = next((path for path in given if _changes(settings, path, load)), None)
        if first is None or load.broken((section,)):
            continue
        provider = load.provenance.origin(("provider",))
        related = (Related(origin=provider, label="the provider is set here"),)
        yield Diagnostic(
            code="CFG211",
            severity="warning",
            message=f"{name} is configured, but the provider is memory",
            setting=full((section,)),
            origin=load.provenance.origin(first[:2]),
            label="no message goes there",
            help=f"set provider: {name}, or remove the section",
            related=related if provider is not DEFAULT else (),
        )
        return


def _changes(settings: WholeSettings, path: Path, load: Load) -> bool:
    """Tell whether what is given for a setting differs from its default."""
    node = load.root.find(path)
    return node is None or value_at(settings, path) != node.default


def _listeners(settings: WholeSettings, load: Load) -> Iterator[Diagnostic]:
    """Find dead-letter topics that are the topic itself, where the topic is configured."""
    if load.broken(("listeners",)) or load.broken(("listener",)):
        return
    for name, override in settings.listeners.items():
        if override.topic is None:
            continue
        changes = override.changes()
        policy = settings.listener.policy().replace(**changes)
        try:
            policy.dead_letter_topic_for(override.topic)
        except ValueError as error:
            loop = "itself" in str(error)
        else:
            continue
        section: Path = ("listeners", name)
        own = "dead_letter_topic" in changes
        path: Path = (*section, "dead_letter_topic") if own else ("listener", "dead_letter_topic")
        topic = load.provenance.origin((*section, "topic"))
        yield Diagnostic(
            code="CFG214" if loop else "CFG107",
            message=f"the dead-letter topic of {name} is "
            + ("its own topic" if loop else "too long a name"),
            setting=full(path),
            origin=load.provenance.origin(path),
            label="spent messages would return for ever" if loop else "",
            help='choose another, for example "{topic}.dlt"',
            related=(Related(origin=topic, label="the topic is set here"),),
        )


def _delays(settings: WholeSettings, load: Load) -> Iterator[Diagnostic]:
    sections: list[Path] = [("listener",), *(("listeners", name) for name in settings.listeners)]
    for section in sections:
        override = settings.listeners.get(str(section[-1])) if len(section) > 1 else None
        changes = override.changes() if override else {}
        policy = settings.listener.policy().replace(**changes)
        if policy.retry_delay <= policy.retry_max_delay or load.broken(section):
            continue
        given = [n for n in ("retry_delay", "retry_max_delay") if override is None or n in changes]
        if not given:
            continue
        path = (*section, given[0])
        yield Diagnostic(
            code="CFG215",
            severity="warning",
            message=f"{full(section)}: retry-delay is longer than retry-max-delay",
            setting=full(path),
            origin=load.provenance.origin(path),
            label="every pause will be the longest one",
            help=CODES["CFG215"].cure,
        )
