"""What is checked before anything is connected."""

import pytest
from aiokafka import codec

from pyfly_messaging.adapters.kafka import KafkaAdapter
from pyfly_messaging.errors import ConfigurationError, MissingDependencyError
from pyfly_messaging.settings import KafkaSettings


@pytest.mark.parametrize("compression", ["snappy", "lz4", "zstd"])
def test_a_compression_needs_its_package(monkeypatch: pytest.MonkeyPatch, compression: str) -> None:
    """A compression whose package is not installed is refused, with the extra that brings it."""
    settings = KafkaSettings.model_validate({"compression": compression})
    KafkaAdapter.from_settings(settings)
    monkeypatch.setattr(codec, "cramjam", None)
    with pytest.raises(MissingDependencyError, match=f"kafka.compression: {compression}") as caught:
        KafkaAdapter.from_settings(settings)
    assert (caught.value.package, caught.value.extra) == ("cramjam", "kafka")


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_other_compressions_need_none(monkeypatch: pytest.MonkeyPatch, compression: str) -> None:
    """What Python brings itself is never refused."""
    monkeypatch.setattr(codec, "cramjam", None)
    KafkaAdapter.from_settings(KafkaSettings.model_validate({"compression": compression}))


@pytest.mark.parametrize("value", ["soon", True, None])
def test_an_option_that_is_no_number(value: object) -> None:
    """An option that aiokafka counts with is refused at once when it is no number."""
    settings = KafkaSettings.model_validate({"options": {"fetch_max_wait_ms": value}})
    with pytest.raises(ConfigurationError, match="fetch_max_wait_ms must be a number") as caught:
        KafkaAdapter.from_settings(settings)
    assert "soon" not in str(caught.value), "it may be the content of a secret file"


@pytest.mark.parametrize(
    "options",
    [
        {"fetch_max_wait_ms": 5},
        {"fetch_max_wait_ms": 0.5},
        {"check_crcs": False},
        {"api_version": "2.0"},
    ],
)
def test_other_options_are_taken(options: dict[str, object]) -> None:
    """Numbers pass, and what aiokafka does not count with."""
    KafkaAdapter.from_settings(KafkaSettings.model_validate({"options": options}))
