"""A distribution whose section has everything that sections of others may have."""

from __future__ import annotations

SECRET = "hunter2Zx9"
"""What stands in its defaults and must be shown nowhere."""
CODE = '''
import enum, re, uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AmqpDsn, BaseModel, BeforeValidator, Field, HttpUrl, PostgresDsn, RedisDsn, SecretBytes,
    SecretStr, field_validator, model_validator,
)
from pydantic_core import PydanticCustomError

from pyfly_messaging.settings import AdapterPlugin, Conflict, Section


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Server(Section):
    host_name: str = "localhost"
    port: int = Field(default=1, ge=1)
    password: str = ""
    pin: SecretStr | None = None
    address: RedisDsn | None = None


class Plain(BaseModel):
    kind: Literal["plain"] = "plain"
    size: int = 1
    key: SecretStr = SecretStr("")


class Fancy(BaseModel):
    kind: Literal["fancy"]
    shape: str


@dataclass
class Point:
    x: int
    token: str = ""


class Needed(Section):
    """Something with a setting that must be given."""

    name: str = Field(description="What it is called.")
    depth: int = 3


def _semicolons(value: object) -> object:
    return value.split(";") if isinstance(value, str) else value


class ZooSettings(Section):
    """Every animal."""

    pause: timedelta = timedelta(seconds=90)
    pauses: list[timedelta] = []
    cache: RedisDsn = RedisDsn("redis://app:hunter2Zx9@cache:6379/0")
    caches: list[RedisDsn] = []
    database: PostgresDsn | AmqpDsn | None = None
    webhook: HttpUrl | None = None
    endpoint_url: str = "http://localhost"
    store: Path = Path("/var/lib/zoo")
    tags: set[str] = {"b", "a"}
    names: list[str] = ["x"]
    numbers: list[int] = []
    frozen: frozenset[int] = frozenset({1})
    pair: tuple[SecretStr, int] | None = None
    colour: Colour = Colour.RED
    colours: set[Colour] = {Colour.BLUE}
    id: uuid.UUID = uuid.UUID(int=1)
    ratio: Decimal = Decimal("0.1")
    day: date = date(2030, 1, 31)
    host: IPv4Address = IPv4Address("127.0.0.1")
    pattern: re.Pattern[str] = re.compile("a+")
    raw: bytes = b"raw"
    odd: bytes = b"\\xff\\x00"
    limits: dict[str, int] = {}
    labels: dict[str, str] = {"a": "b"}
    secrets_by_name: dict[str, SecretStr] = {}
    chips: list[SecretStr] = []
    pin: SecretStr = SecretStr("hunter2Zx9")
    blob: SecretBytes = SecretBytes(b"hunter2Zx9")
    hushed: str = Field(default="hunter2Zx9", repr=False)
    servers: list[Server] = []
    fleet: tuple[Server, ...] = ()
    by_name: dict[str, Server] = {}
    mixed: list[Plain | Fancy] = []
    point: Point = Point(1)
    points: list[Point] = []
    choice: int | Literal["auto"] = "auto"
    amount: int | float | None = None
    either: int | list[str] = 1
    halves: Annotated[list[str], BeforeValidator(_semicolons)] = []
    parts: list[str] = []
    even: int = 0
    motto: str = ""
    nested: Needed | None = None
    call: object = print

    @field_validator("parts", mode="before")
    @classmethod
    def _parts(cls, value: object) -> object:
        return _semicolons(value)

    @field_validator("even")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError(f"{value} is odd")
        return value

    @field_validator("motto", "hushed")
    @classmethod
    def _motto(cls, value: str) -> str:
        if value.startswith("no"):
            raise ValueError(f"{value!r} is no good")
        if value.startswith("own"):
            raise PydanticCustomError("server", "{value} is no server", {"value": value})
        return value

    def conflicts(self) -> Iterator[Conflict]:
        if self.motto == "two":
            yield Conflict(
                code="ZOO007", fields=("motto", "even"), message="they do not go together",
                help="give one",
            )
        if self.even == 4:
            pin = self.pin.get_secret_value()
            yield Conflict(code="ZOO008", fields=("even",), message=f"not with {pin}", help=pin)

    @model_validator(mode="after")
    def _whole(self):
        if self.even == 2:
            raise ValueError(f"not with {self.pin.get_secret_value()} and {self.cache}")
        return self


class LooseSettings(BaseModel):
    """A model that is not built on ours, and tells all."""

    name: str
    password: str = ""
    address: RedisDsn | None = None
    server: Plain = Plain()
    tokens: list[str] = []


def build(settings, *, timeouts, policy):
    raise RuntimeError("nothing to build")


PLUGIN = AdapterPlugin(settings=ZooSettings, build=build)
LOOSE = AdapterPlugin(settings=LooseSettings, build=build)
NEEDED = AdapterPlugin(settings=Needed, build=build)
'''
