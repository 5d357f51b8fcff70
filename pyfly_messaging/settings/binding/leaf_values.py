"""The values of single settings: scalars, lists and free mappings, with placeholders expanded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyfly_messaging.settings.binding.given import Given, show_key
from pyfly_messaging.settings.binding.twins import distinct
from pyfly_messaging.settings.catalogue.tree import Setting
from pyfly_messaging.settings.diagnostics.diagnostic import Report
from pyfly_messaging.settings.diagnostics.origins import Entry, Path
from pyfly_messaging.settings.models.amqp import is_well_formed
from pyfly_messaging.settings.text.names import canonical
from pyfly_messaging.settings.text.secrets import MASK, looks_secret, mask_url, mask_value


class UnreadableError(Exception):
    """The value of a setting could not be read; the problem is reported already."""


class LeafReader:
    """Reads the value of one setting, whatever its shape.

    Attributes:
        via: The placeholders the value came through.
        secret: Whether it must not be shown, whatever the setting.
        parts: Origin and printable value of the items of a list and of the keys of a mapping.

    """

    def __init__(
        self,
        setting: Setting,
        path: tuple[str, ...],
        report: Report,
        placeholders: Mapping[str, str] | None,
    ) -> None:
        self._setting = setting
        self._path = path
        self._report = report
        self._placeholders = placeholders
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
        if shape == "free":
            if given.entries is None and given.kind != "object":
                self._refuse(given)
            return self._free(given, first=True)
        return self._free(given, first=False)

    def shown(self, value: Any) -> Any:
        """Return a value as it may be shown: a URL without its password, a secret not at all."""
        if self.secret:
            return MASK
        if self._setting.key == "url" and isinstance(value, str) and is_well_formed(value):
            return mask_url(value)
        if self._setting.secret:
            return MASK
        if self._setting.shape == "list" and isinstance(value, list | tuple):
            value = ",".join(map(str, value))
        return mask_value(value)

    def _scalar(self, given: Given) -> Any:
        self.secret = self.secret or given.secret
        self._check_one_line(given)
        if given.source is not None and given.span is not None and self._may_show(given):
            given.source.show_value(*given.span)
        if given.plain:
            self._check_lookalike(given)
        text = self._expand(given)
        if text is not None and text != given.text:
            return text
        return given.text if self._setting.as_written and given.text is not None else given.value

    def _list(self, given: Given) -> Any:
        if given.items is None:
            if given.kind == "mapping":
                self._refuse(given)
            return self._scalar(given)
        values = []
        for number, item in enumerate(given.items):
            if item.kind in {"list", "mapping"}:
                self._refuse(item)
            values.append(self._scalar(item))
            shown = MASK if self._setting.secret or self.secret else mask_value(values[-1])
            self.parts[(*self._path, number)] = Entry(item.origin, shown)
        return values

    def _free(self, given: Given, *, first: bool, name: str = "") -> Any:
        """Return data of any shape; of the first level record where each key comes from."""
        if given.entries is not None:
            found = distinct(given.entries, canonical if first else str, self._path, self._report)
            result = {}
            for key, (written, item) in found.items():
                show_key(written, item)
                if first:
                    self.secret, self.via = False, ()
                result[key] = self._free(item, first=False, name=written.text)
                if first:
                    shown = MASK if self.secret else mask_value(result[key], written.text)
                    self.parts[(*self._path, key)] = Entry(item.origin.through(self.via), shown)
            return result
        if given.items is not None:
            items = [self._free(item, first=False, name=name) for item in given.items]
            return tuple(items) if isinstance(given.value, tuple) else items
        return self._free_scalar(given, name)

    def _free_scalar(self, given: Given, name: str) -> Any:
        self._check_one_line(given)
        harmless = isinstance(given.value, bool | int | float) and not looks_secret(name)
        if given.source is not None and given.span is not None and harmless:
            given.source.show(*given.span)
        text = self._expand(given)
        if text is None or text == given.text:
            return given.value
        if given.plain:
            from pyfly_messaging.settings.text.scalars import resolve

            return resolve(text)
        return text

    def _expand(self, given: Given) -> str | None:
        text = given.text
        if text is None or self._placeholders is None or "${" not in text:
            return text
        from pyfly_messaging.settings.text.placeholders import expand

        expanded, problems = expand(text, self._placeholders)
        if expanded is None:
            from pyfly_messaging.settings.binding.value_complaints import placeholder

            for problem in problems:
                self._report(placeholder(problem, given, self._path))
            raise UnreadableError
        self.via += expanded.via
        self.secret = self.secret or expanded.secret
        return expanded.text

    def _check_lookalike(self, given: Given) -> None:
        if given.text is None or given.text.isascii():
            return
        from pyfly_messaging.settings.binding.value_complaints import lookalike_value

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
            from pyfly_messaging.settings.binding.value_complaints import runs_on

            self._report(runs_on(given, self._path))
            raise UnreadableError

    def _may_show(self, given: Given) -> bool:
        """Tell whether a value may be quoted: a URL only when its password can be told apart."""
        if self._setting.key == "url":
            return is_well_formed(given.text or "")
        return not self._setting.secret and not given.secret

    def _refuse(self, given: Given) -> None:
        from pyfly_messaging.settings.binding.value_complaints import wrong_shape

        self._report(wrong_shape(self._setting, given, self._path))
        raise UnreadableError
