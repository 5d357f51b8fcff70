"""What is checked before anything is connected."""

import pytest
from aiokafka import codec

from pyfly_messaging.adapters.kafka import KafkaAdapter
from pyfly_messaging.errors import MissingDependencyError
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
