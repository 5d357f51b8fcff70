"""One load: all layers in their order, what pydantic-settings takes of them, what was found.

It depends on `sources` and `plugins` and what those depend on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from pyfly_messaging.logs import get_logger
from pyfly_messaging.settings.binding.layers import Layer, choose_forms, foreign, take_back
from pyfly_messaging.settings.catalogue.naming import Naming, naming
from pyfly_messaging.settings.catalogue.tree import catalogue
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic, ExcerptLine, in_order
from pyfly_messaging.settings.diagnostics.origins import Origin, Path, Provenance
from pyfly_messaging.settings.diagnostics.report import brief, most_important
from pyfly_messaging.settings.models.provider import BUILT_IN, entry_point_names
from pyfly_messaging.settings.sources.gathering import Gathered, gather, layers
from pyfly_messaging.settings.sources.inputs import (
    Inputs,
    current_inputs,
    merged,
    with_changes,
    with_overrides,
)
from pyfly_messaging.settings.text.names import PREFIX, canonical, full, is_within
from pyfly_messaging.settings.text.nesting import excess
from pyfly_messaging.settings.text.plain import hidden_texts
from pyfly_messaging.settings.text.secrets import MASK, mask_url

if TYPE_CHECKING:
    from pyfly_messaging.settings.plugins.installed import Adapter

log = get_logger("pyfly_messaging.settings")


class Load:
    """Everything that is known while settings are loaded.

    Attributes:
        layers: All layers, the one with the highest precedence first.
        provenance: Where each value comes from.
        diagnostics: What was found, in no order yet.
        files: The files that are read, and the active profiles.
        taken: What pydantic-settings took, the highest precedence first.
        lost: Whether a file could not be read at all, so that checks across settings are idle.
        refused: What pydantic refused.
        arguments: What to call the constructor of pydantic-settings with.
        adapters: The adapters of others that the layers name. The class and the catalogue have
            their sections.

    """

    def __init__(
        self,
        settings_cls: type[BaseModel],
        inputs: Inputs,
        keywords: Mapping[str, Any],
        names: Naming | None = None,
    ) -> None:
        self.inputs = inputs
        self.settings_cls = settings_cls
        self.root = catalogue(settings_cls)
        self.naming = names or naming(settings_cls)
        self.provenance = Provenance()
        self.diagnostics: list[Diagnostic] = []
        self.taken: list[Mapping[str, Any]] = []
        self.refused: ValidationError | None = None
        self.arguments: dict[str, Any] = {}
        self.layers: list[Layer] = []
        self._others: list[Layer] = []
        self.adapters: tuple[Adapter, ...] = ()
        self._hidden: set[str] | None = None
        gathered = gather(self.naming, inputs, keywords, self.report)
        self.files = gathered.found
        self.provenance.files = tuple(str(path) for path in gathered.found.paths)
        self._texts = gathered.texts
        of_reading = tuple(self.diagnostics)
        self._bind(gathered)
        if (others := self._not_ours()) and self._extend(others):
            # What is there is known only now: what was read gets its meaning anew.
            self.diagnostics[:] = of_reading
            self._bind(gathered)
            self._report_adapters()
        self.lost = gathered.lost

    @contextmanager
    def validating(self) -> Iterator[None]:
        """Keep what pydantic refuses for the report of everything that is wrong."""
        try:
            yield
        except ValidationError as error:
            self.refused = error

    def report(self, diagnostic: Diagnostic) -> None:
        """Take note of a problem."""
        self.diagnostics.append(diagnostic)

    @property
    def failed(self) -> bool:
        """Whether an error was found."""
        return any(found.severity == "error" for found in self.diagnostics)

    def broken(self, path: Path) -> bool:
        """Tell whether an error was found at a setting, below it, or at what it is a part of."""
        if self.lost:
            return True
        name = full(path)
        return any(
            is_within(found.setting, name) or is_within(name, found.setting)
            for found in self.diagnostics
            if found.severity == "error" and found.setting not in {"", PREFIX}
        )

    def safe(self, message: str, otherwise: str = "not valid") -> str:
        """Return a message that somebody else wrote, unless it repeats what must not be shown."""
        lower = message.lower()
        if self._hidden is None:
            self._hidden = {text.lower() for text in self._hidden_texts()}
        return otherwise if any(text in lower for text in self._hidden) else mask_url(message)

    def _hidden_texts(self) -> Iterator[str]:
        """Yield all that was given, or is a default, and that a report does not show."""
        for leaf in self.root.leaves():
            default = None if leaf.info is None else leaf.info.default
            if isinstance(default, SecretStr):
                yield from hidden_texts(default.get_secret_value(), MASK)
        for layer in (*self.layers, *self._others):
            for path, entry in layer.entries.items():
                shown = MASK if entry.origin.via else entry.shown
                if MASK in str(shown):
                    yield from hidden_texts(layer.get(path), shown)

    def take(self, layer: Layer, before: Mapping[str, Mapping[str, Any]]) -> None:
        """Record that pydantic takes a layer, and what sources of others have given before it."""
        for name, state in before.items():
            if not name.startswith("pyfly:") and name not in {o.name for o in self._others}:
                self._others.append(foreign(name, state))
                self.taken.append(state)
                self.provenance.add(self._others[-1].entries, {})
        self.taken.append(layer.values)
        self.provenance.add(layer.entries, layer.places)

    def merged(self) -> dict[str, Any]:
        """Return what pydantic saw: all layers merged, as data of its own."""
        result: dict[str, Any] = {}
        for values in reversed(self.taken):
            result = merged(result, values)
        return merged(result, {})

    def narrowed(self, origin: Origin, part: str) -> Origin:
        """Return the origin of a part of a value, the value's own where the part is not found."""
        text = self._texts.get(origin.name)
        if text is None or not part or not origin.line:
            return origin
        start = text.index(origin.line, origin.column)
        at = text.text.find(part, start, text.index(origin.end_line, origin.end_column))
        return origin if at < 0 else text.origin(at, at + len(part))

    def finish(self) -> list[Diagnostic]:
        """Return all diagnostics in order, those that a report shows with excerpts of the files."""
        found = in_order(self.diagnostics, [str(path) for path in self.files.paths])
        shown = {id(each) for each in most_important(found)}
        return [self._with_excerpt(each) if id(each) in shown else each for each in found]

    def warn(self, diagnostics: list[Diagnostic]) -> None:
        """Log what is no error."""
        if not self.inputs.log:
            return
        for found in most_important(diagnostics):
            level = logging.WARNING if found.severity == "warning" else logging.INFO
            if found.severity != "error" and log.isEnabledFor(level):
                log.log(level, "%s", brief(found))

    def _not_ours(self) -> set[str]:
        """Return the sections that no setting of ours has, and the provider if it is another's."""
        provider = self._provider()
        names = {name for layer in self.layers for name in layer.strangers}
        if isinstance(provider, str) and provider not in BUILT_IN:
            names.add(provider)
        return names

    def _provider(self) -> object:
        field = self.settings_cls.model_fields.get("provider")
        given = (layer.values["provider"] for layer in self.layers if "provider" in layer.values)
        return next(given, field.default if field is not None else None)

    def _extend(self, names: set[str]) -> bool:
        """Add the sections of the adapters that are named; tell whether there are such."""
        from pyfly_messaging.settings.plugins.extension import extended
        from pyfly_messaging.settings.plugins.installed import adapters, field_name

        same = {field_name(name) for name in names}
        if same.isdisjoint(map(field_name, entry_point_names())):
            return False
        own = self.settings_cls.model_fields
        self.adapters = tuple(found for found in adapters(names) if found.field not in own)
        self.settings_cls = extended(self.settings_cls, self.adapters)
        self.root = catalogue(self.settings_cls)
        return True

    def _report_adapters(self) -> None:
        """Give each adapter its section; report those that cannot be used."""
        for adapter in self.adapters:
            self.layers[-1].values.setdefault(adapter.field, {})
            if adapter.problem is not None:
                self.report(adapter.problem.diagnostic(*self._asked_for(adapter)))
        self._warn_of_clashes()

    def _warn_of_clashes(self) -> None:
        """Report installed adapters of impossible names: an error is only what was asked for."""
        from pyfly_messaging.settings.plugins.installed import Adapter, clashes

        reported = {adapter.name for adapter in self.adapters}
        provider = self._provider()
        for clash in clashes():
            if clash.name == provider and clash.name not in reported:
                asked = self._asked_for(Adapter(clash.name, problem=clash.problem))
                self.report(clash.problem.diagnostic(*asked))
            elif clash.name not in reported:
                self.report(clash.problem.diagnostic(severity="warning"))

    def _asked_for(self, adapter: Adapter) -> tuple[str, Origin | None]:
        """Return which setting asks for an adapter, and where: the provider, else its section."""
        for layer in self.layers:
            if layer.values.get("provider") == adapter.name:
                return full(("provider",)), layer.entries["provider",].origin
        section = full((adapter.field,))
        for layer in self.layers:
            if (place := layer.places.get((adapter.field,))) is not None:
                return section, place
            found = (e.origin for path, e in layer.entries.items() if path[0] == adapter.field)
            if (origin := next(found, None)) is not None:
                return section, origin
        return section, None

    def _bind(self, gathered: Gathered) -> None:
        """Make layers of what was read."""
        self.layers = layers(self.root, self.naming, gathered, self.report)
        for path, origin in take_back(self.layers).items():
            from pyfly_messaging.settings.binding.complaints import idle_null

            self.report(idle_null(path, origin))
        for name, field in self.settings_cls.model_fields.items():
            if forms := getattr(field.annotation, "forms", None):
                choose_forms(self.layers, name, forms)

    def _with_excerpt(self, found: Diagnostic) -> Diagnostic:
        lines: list[ExcerptLine] = []
        if found.origin is not None and found.origin.line and found.origin.name in self._texts:
            text = self._texts[found.origin.name]
            lines = [text.excerpt(found.origin, found.label)]
            lines += [
                text.excerpt(related.origin, related.label, primary=False)
                for related in found.related
                if related.origin.name == text.name and related.origin.line
            ]
        return replace(found, excerpt=tuple(lines)) if lines else found


class LayerSource(PydanticBaseSettingsSource):
    """One layer of the configuration: a file, the environment, keyword arguments."""

    def __init__(self, settings_cls: type[BaseSettings], load: Load, layer: Layer) -> None:
        super().__init__(settings_cls)
        self.load = load
        self.layer = layer
        self.__name__ = f"pyfly:{layer.name}"

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return what the layer says about a field."""
        return self.layer.values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return all that the layer says."""
        self.load.take(self.layer, self.settings_sources_data)
        return self.layer.values

    def __repr__(self) -> str:
        return f"LayerSource({self.layer.name!r})"


class NoEnvFiles(tuple[str, ...]):
    """The ``.env`` files that are left for pydantic-settings to read: none, the load has read them.

    It is the one argument that pydantic-settings hands on to its sources as it is, so it is how a
    load reaches the hook that returns the sources.
    """

    load: Load


def begin(settings_cls: type[BaseModel], values: Mapping[str, Any]) -> Load:
    """Begin the load of a settings class: read all layers.

    Args:
        settings_cls: The class.
        values: What its constructor was called with: settings, and the arguments of
            pydantic-settings, which begin with an underscore.

    """
    options = {name: value for name, value in values.items() if name.startswith("_")}
    named = {name: value for name, value in values.items() if not name.startswith("_")}
    inputs = options.pop("_inputs", None) or current_inputs()
    keywords = with_overrides(inputs.overrides, named)
    sources = (options.get("_build_sources") or ((), {}))[0]
    prepared = [source.load for source in sources if isinstance(source, LayerSource)]
    inputs = _with_options(inputs, options, settings_cls)
    names = naming(settings_cls, options)
    load = prepared[0] if prepared else Load(settings_cls, inputs, keywords, names)
    options["_env_file"] = NoEnvFiles()
    options["_env_file"].load = load
    known = load.root.children
    load.arguments = options | {
        known[canonical(name)].key: value
        for name, value in keywords.items()
        if canonical(name) in known and excess(value) is None
    }
    return load


def layer_sources(settings_cls: type[BaseSettings], env_file: object) -> tuple[LayerSource, ...]:
    """Return a source for each layer of a load, the highest precedence first.

    Args:
        settings_cls: The class.
        env_file: What pydantic-settings was told to read: it carries the load. It does not when
            sources are made before there is an instance, as for a command line.

    """
    if isinstance(env_file, NoEnvFiles):
        load = env_file.load
    else:
        load = Load(settings_cls, current_inputs(), current_inputs().overrides)
    return tuple(LayerSource(settings_cls, load, layer) for layer in load.layers)


def _with_options(inputs: Inputs, options: dict[str, Any], settings_cls: type[BaseModel]) -> Inputs:
    """Return where to look, with what pydantic-settings' own arguments say about it."""
    config: Mapping[str, Any] = settings_cls.model_config
    inputs = with_changes(
        inputs, secrets_dir=options.pop("_secrets_dir", config.get("secrets_dir"))
    )
    dotenv = options.pop("_env_file", config.get("env_file") or inputs.dotenv)
    if isinstance(dotenv, Sequence) and not isinstance(dotenv, str):
        return replace(inputs, dotenv=tuple(dotenv))
    return replace(inputs, dotenv=(dotenv,) if dotenv else ())
