"""What every section of the settings is: a frozen model that keeps its secrets to itself."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import (
    AliasGenerator,
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from pyfly_messaging.settings.text.names import kebab
from pyfly_messaging.settings.text.secrets import MASK, looks_secret

CONFLICT = "settings_conflict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Settings that are valid each by itself and wrong together.

    Attributes:
        code: The stable code of the diagnostic.
        fields: Dotted names below the section, the one to point at first.
        message: What is wrong, without values.
        help: What to do.

    """

    code: str
    fields: tuple[str, ...]
    message: str
    help: str


class Concealed(set[tuple[str | int, ...]]):
    """Paths of values that a repr masks: they came from a secret, whatever they set.

    It never makes two sections different: all compare equal.
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Concealed)

    __hash__ = None


class Section(BaseModel):
    """A part of the settings: frozen, without unknown keys, its inputs hidden from every error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        # Validators are built by the first load, not by the import of this package.
        defer_build=True,
        # Only on the way out: a validation alias would make the environment and YAML disagree.
        alias_generator=AliasGenerator(serialization_alias=kebab),
    )

    forms: ClassVar[Mapping[str, frozenset[str]]] = {}
    """Fields that say the same thing in different forms, by the leading field of each form."""

    _concealed: Concealed = PrivateAttr(default_factory=Concealed)

    def conflicts(self) -> Iterator[Conflict]:
        """Yield what is wrong between the fields of this section."""
        yield from ()

    @model_validator(mode="after")
    def _check_conflicts(self) -> Self:
        if conflicts := _conflicts(self):
            message = "; ".join(conflict.message for conflict in conflicts)
            raise PydanticCustomError(
                CONFLICT,
                message.replace("{", "{{").replace("}", "}}"),
                {"conflicts": conflicts},
            )
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _hide_inputs(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Validate; raise errors that carry no input, not even in their attributes."""
        try:
            return handler(data)
        except ValidationError as error:
            title, details = error.title, without_inputs(error)
        raise ValidationError.from_exception_data(title, details, hide_input=True)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in type(self).model_fields:
            raise frozen(type(self).__name__, name)
        super().__setattr__(name, value)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        return quiet(super().__repr_args__(), self._concealed)


def _conflicts(section: Section) -> tuple[Conflict, ...]:
    """Return what a section says of itself; a check that fails is a conflict as well.

    Its error would otherwise be a traceback that hides every other mistake. The text of the error
    is left out: the check sees secrets, and may repeat them.
    """
    name = type(section).__name__
    try:
        found = tuple(section.conflicts())
    except Exception as error:  # noqa: BLE001 - what an adapter of others does can be anything
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        problem = f"{name}.conflicts() failed with {type(error).__name__} ({place})"
    else:
        wrong = next((item for item in found if not isinstance(item, Conflict)), None)
        if wrong is None:
            return found
        problem = f"{name}.conflicts() yields {type(wrong).__name__}, which is no Conflict"
    help_ = "repair or uninstall the distribution of the adapter, or choose another provider"
    return (Conflict(code="CFG218", fields=(), message=problem, help=help_),)


def quiet(
    pairs: Iterable[tuple[str | None, Any]], concealed: Concealed
) -> Iterator[tuple[str | None, Any]]:
    """Yield what a repr shows of a model: text in free options may come from secret files."""
    for name, value in pairs:
        paths = {path for path in concealed if path[0] == name}
        if isinstance(value, Mapping) and all(len(path) > 1 for path in paths):
            keys = {path[1] for path in paths}
            yield (
                name,
                {k: MASK if k in keys else _quiet(str(k), item) for k, item in value.items()},
            )
        elif paths:
            yield name, MASK
        elif value is None or isinstance(value, bool | int | float | Section):
            yield (
                name,
                MASK if isinstance(value, int | float) and looks_secret(name or "") else value,
            )
        else:
            yield name, _without_secrets(name or "", value)


def _without_secrets(name: str, value: Any) -> Any:
    """Return a value as it is, or as plain data when a part of it must not be shown."""
    if isinstance(value, Section) or hasattr(value, "get_secret_value"):
        return value  # it keeps its secrets to itself
    from pyfly_messaging.settings.text.plain import mask_value

    plain = mask_value(value, name)
    return plain if MASK in str(plain) else value


def frozen(model: str, name: str) -> ValidationError:
    """Return the error of a change to a frozen model; pydantic's own would repeat the value."""
    detail = InitErrorDetails(type="frozen_instance", loc=(name,), input=None)
    return ValidationError.from_exception_data(model, [detail], hide_input=True)


def _quiet(name: str, value: Any) -> Any:
    if looks_secret(name) or not isinstance(value, bool | int | float | BaseModel):
        return MASK
    return _without_secrets(name, value) if isinstance(value, BaseModel) else value


def without_inputs(error: ValidationError) -> list[InitErrorDetails]:
    """Return the errors of ``error`` without the values that caused them."""
    details: list[InitErrorDetails] = []
    for line in error.errors(include_url=False, include_input=False):
        message = line["msg"].replace("{", "{{").replace("}", "}}")
        kind = PydanticCustomError(line["type"], message, line.get("ctx"))
        details.append(InitErrorDetails(type=kind, loc=line["loc"], input=None))
    return details
