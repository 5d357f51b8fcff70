"""From the name of a setting, as people write it, to its path."""

from __future__ import annotations

import re

from pydantic import BaseModel

from pyfly_messaging.settings.catalogue.naming import naming
from pyfly_messaging.settings.catalogue.tree import ANY_NAME, Setting, catalogue
from pyfly_messaging.settings.models.provider import entry_point_names
from pyfly_messaging.settings.text.names import PREFIX, canonical, canonical_name, dotted

_NUMBER = re.compile(r"\d+|\*|<name>")


def setting_path(setting: str, settings_cls: type[BaseModel]) -> tuple[str, ...]:
    """Return the path of a setting from its name, in any of the spellings `explain` takes.

    Raises:
        LookupError: There is no such setting; the text suggests one.

    """
    root = catalogue(settings_cls)
    text, parts = setting.strip(), name_parts(setting, settings_cls)
    path: list[str] = []
    node: Setting = root
    for part in parts:
        if node.shape == "free":
            path.append(canonical(part))
            break
        if node.shape in {"items", "list"} and _NUMBER.fullmatch(part):
            part = ANY_NAME
        child = node.find((part,))
        if child is None:
            raise LookupError(_unknown(text, part, path, node, root))
        path.append(_name(part) if node.shape == "named" else child.key)
        node = child
    return tuple(path)


def name_parts(setting: str, settings_cls: type[BaseModel]) -> list[str]:
    """Return the levels of a setting's name, which may be that of its variable."""
    names = naming(settings_cls)
    text = setting.strip()
    if text.upper().startswith(names.prefix) and names.prefix:
        return text[len(names.prefix) :].lower().split(names.delimiter)
    text = text.replace("[]", "[*]").replace("[", ".").replace("]", "")
    return [part for part in text.removeprefix(PREFIX).strip(".:").split(".") if part]


def _name(part: str) -> str:
    return ANY_NAME if part in {ANY_NAME, "<name>"} else canonical_name(part)


def _unknown(text: str, part: str, path: list[str], node: Setting, root: Setting) -> str:
    from pyfly_messaging.settings.text.suggest import closest

    others = entry_point_names() if node is root else ()
    near = closest(part, [*node.names(), *others])
    leaves = {leaf.name: leaf.dotted for leaf in root.leaves()}
    ending = f".{dotted(tuple(text.split('.')))}"
    below = next((leaf.dotted for leaf in root.leaves() if leaf.dotted.endswith(ending)), "")
    if below:
        meant = below
    elif near is None:
        found = closest(part, leaves)
        meant = leaves[found] if found else ""
    else:
        meant = ".".join([*(name.replace("_", "-") for name in path), near])
    hint = f'; did you mean "{meant}"?' if meant else f"; there are: {', '.join(node.names())}"
    return f"{text!r} is not a setting{hint}"
