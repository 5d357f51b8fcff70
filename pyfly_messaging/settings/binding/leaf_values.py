"""The values of single settings: scalars, lists and free mappings, with placeholders expanded."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic_core import PydanticCustomError

from pyfly_messaging.settings.binding.duplicates import distinct
from pyfly_messaging.settings.binding.given import Given, show_key
from pyfly_messaging.settings.catalogue.masking import masked, may_quote
from pyfly_messaging.settings.catalogue.tree import Setting
from pyfly_messaging.settings.diagnostics.diagnostic import Report
from pyfly_messaging.settings.diagnostics.origins import Entry, Path
from pyfly_messaging.settings.models.readers import split_list
from pyfly_messaging.settings.text.names import canonical
from pyfly_messaging.settings.text.secrets import MASK, looks_secret


class UnreadableError(Exception):
    """The value of a setting could not be read; the problem is reported already."""


class LeafReader:
    """Reads the value of one setting, whatever its shape.

    Attributes:
        via: The placeholders the value came through.
        secret: Whether it must not be shown, whatever the setting.
        parts: Origin and printable value of what is in a list or a mapping, at any depth.

    """

    def __init__(
        self,
        setting: Setting,
        path: Path,
        report: Report,
        placeholders: Mapping[str, str] | None,
    ) -> None:
        self._setting = setting
        self._path = path
        self._report = report
        self._placeholders = placeholders
        self._content = setting.element or setting
        self.via: tuple[str, ...] = ()
        self.secret = False
        self.parts: dict[Path, Entry] = {}

    def read(self, given: Given) -> Any:
        """Return the value.

        Raises:
            UnreadableError: It has the wrong shape, or a placeholder in it is not set.

        """
        shape = self._setting.shape
        if shape == "scalar":
            if given.kind in {"list", "mapping"}:
                self._refuse(given)
            return self._scalar(given)
        if shape == "list":
            return self._list(given)
        if shape == "free" and given.entries is None and given.kind != "object":
            self._refuse(given)
        return self._free(given, self._path, first=shape == "free")

    def shown(self, value: Any) -> Any:
        """Return a value as it may be shown: a URL without its password, a secret not at all."""
        if self.secret:
            return MASK
        return masked(self._setting, value)

    def _scalar(self, given: Given) -> Any:
        self.secret = self.secret or given.secret
        self._check_one_line(given)
        if given.source is not None and given.span is not None and self._may_show(given):
            given.source.show_value(*given.span)
        if given.plain:
            self._check_lookalike(given)
        text = self._expand(given)
        if text is None or text == given.text:
            text = given.text if self._setting.as_written else None
        return self._seconds(given.value if text is None else text)

    def _seconds(self, value: Any) -> Any:
        """Return the seconds of a duration of others that is written as ours are: ``5m``."""
        content = self._content
        if content.base is not timedelta or content.custom or not isinstance(value, str):
            return value
        from pyfly_messaging.settings.text.durations import parse_duration

        try:
            return parse_duration(value)
        except ValueError:  # pydantic knows other spellings
            return value

    def _list(self, given: Given) -> Any:
        if given.items is None:
            if given.kind == "mapping":
                self._refuse(given)
            return self._split(self._scalar(given))
        values, via = [], tuple[str, ...]()
        for number, item in enumerate(given.items):
            if item.kind in {"list", "mapping"}:
                self._refuse(item)
            self.via = ()
            values.append(self._scalar(item))
            origin, shown = item.origin.through(self.via), self.shown(values[-1])
            self.parts[(*self._path, number)] = Entry(origin, shown)
            via += self.via
        self.via = tuple(dict.fromkeys(via))
        return values

    def _split(self, value: Any) -> Any:
        """Return the items of a list of others that is given as text, as our own types do it."""
        if self._setting.kind is not None:
            return value
        if isinstance(value, bool | int | float):
            return [value]
        try:
            items = split_list(value)
        except PydanticCustomError:  # broken JSON, which pydantic refuses as no list
            return value
        return [self._seconds(item) for item in items] if isinstance(items, list) else value

    def _free(self, given: Given, at: Path, *, first: bool, name: str = "") -> Any:
        """Return data of any shape; record where each part of it comes from.

        Args:
            given: The data.
            at: Its path.
            first: Whether it is a mapping of the setting itself, each key of which counts alone.
            name: The key that it is under, the outermost that looks secret.

        """
        if given.entries is not None:
            found = distinct(given.entries, canonical if first else str, self._path, self._report)
            result = {}
            for key, (written, item) in found.items():
                show_key(written, item)
                if first:
                    self.secret, self.via = False, ()
                label = name if looks_secret(name) else written.text
                result[key] = self._part(item, (*at, key), label)
            return result
        if given.items is not None:
            items = [self._part(item, (*at, n), name) for n, item in enumerate(given.items)]
            return tuple(items) if isinstance(given.value, tuple) else items
        return self._free_scalar(given, name)

    def _part(self, given: Given, at: Path, name: str) -> Any:
        value = self._free(given, at, first=False, name=name)
        hidden = self.secret or (looks_secret(name) and value is not None)
        shown = MASK if hidden else masked(self._setting, value)
        self.parts[at] = Entry(given.origin.through(self.via), shown)
        return value

    def _free_scalar(self, given: Given, name: str) -> Any:
        self._check_one_line(given)
        # What is secret by its name is masked by its name, and hides nothing beside it.
        self.secret = self.secret or (given.secret and not looks_secret(name))
        harmless = isinstance(given.value, bool | int | float) or self._content.shape == "scalar"
        hidden = looks_secret(name) or not self._may_show(given)
        if given.source is not None and given.span is not None and harmless and not hidden:
            given.source.show_value(*given.span)
        text = self._expand(given)
        if self._setting.shape == "free" and text is not None and self._content.as_written:
            return text
        if text is None or text == given.text:
            return self._seconds(given.value)
        if given.plain:
            from pyfly_messaging.settings.text.scalars import resolve

            return self._seconds(resolve(text))
        return self._seconds(text)

    def _expand(self, given: Given) -> str | None:
        text = given.text
        if text is None or self._placeholders is None or "${" not in text:
            return text
        from pyfly_messaging.settings.text.placeholders import expand

        expanded, problems = expand(text, self._placeholders)
        if expanded is None:
            from pyfly_messaging.settings.binding.complaints import placeholder

            for problem in problems:
                self._report(placeholder(problem, given, self._path))
            raise UnreadableError
        self.via += expanded.via
        self.secret = self.secret or expanded.secret
        return expanded.text

    def _check_lookalike(self, given: Given) -> None:
        if given.text is None or given.text.isascii():
            return
        from pyfly_messaging.settings.binding.complaints import lookalike_value

        problem = lookalike_value(given, self._path)
        if problem is not None:
            self._report(problem)
            raise UnreadableError

    def _check_one_line(self, given: Given) -> None:
        """Refuse a text that goes on in the next line: it swallows what stands there.

        A secret in quotes may do so, since it is never shown; a block (``|``) says that it does.
        """
        if given.source is None or given.span is None or given.block:
            return
        text = given.source.text[slice(*given.span)]
        if ("\n" in text or "\r" in text) and (given.plain or not self._setting.secret):
            from pyfly_messaging.settings.binding.complaints import runs_on

            self._report(runs_on(given, self._path))
            raise UnreadableError

    def _may_show(self, given: Given) -> bool:
        return not given.secret and may_quote(self._setting, given.text or "")

    def _refuse(self, given: Given) -> None:
        from pyfly_messaging.settings.binding.complaints import wrong_shape

        self._report(wrong_shape(self._setting, given, self._path))
        raise UnreadableError
