"""What may be shown of the value of a setting, as it was given or as it is."""

from __future__ import annotations

from typing import Any

from pyfly_messaging.settings.catalogue.tree import Setting
from pyfly_messaging.settings.text.plain import mask_value, texts
from pyfly_messaging.settings.text.secrets import MASK, mask_url, may_show_url


def masked(setting: Setting, value: Any) -> Any:
    """Return a value as plain data that may be shown: a URL without its password, no secret."""
    if value is None:
        return None
    if hides(setting):
        return MASK
    if (setting.url or _is_address(setting)) and not all(
        is_showable(setting, text) for text in texts(value)
    ):
        return MASK
    plain = mask_value(value)
    if setting.shape == "list" and isinstance(plain, list):
        # A password with a comma in it makes two items, neither of which looks like one.
        return mask_url(",".join(map(str, plain))) or "[]"
    return plain


def hides(setting: Setting) -> bool:
    """Tell whether nothing at all of a value may be shown."""
    return setting.secret and not _is_address(setting)


def may_quote(setting: Setting, text: str) -> bool:
    """Tell whether text that is given for a setting may be quoted, without the password in a URL.

    A URL may be only when its password can be told apart.
    """
    if hides(setting):
        return False
    is_url = setting.url or _is_address(setting) or "://" in text
    return not is_url or is_showable(setting, text)


def is_showable(setting: Setting, url: str) -> bool:
    """Tell whether the password of a URL can be told apart from all the rest."""
    kind = setting.kind
    return (
        may_show_url(url) if kind is None or kind.shows_address is None else kind.shows_address(url)
    )


def _is_address(setting: Setting) -> bool:
    return setting.kind is not None and setting.kind.shows_address is not None
