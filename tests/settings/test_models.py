"""The models: their defaults, what they take and refuse, and that they keep their secrets."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from pyfly_messaging.policy import POLICY_FIELDS, ListenerPolicy
from pyfly_messaging.settings import (
    KafkaSettings,
    ListenerOverride,
    ListenerSettings,
    MemorySettings,
    RabbitSettings,
    SaslSettings,
    ShutdownSettings,
    StartupSettings,
    TlsSettings,
    providers,
)
from pyfly_messaging.settings.models import provider
from pyfly_messaging.settings.models.amqp import parse_url


def refused(model: type[Any], **values: Any) -> ValidationError:
    """Return the error of a model, after a look at what it carries."""
    with pytest.raises(ValidationError) as caught:
        model(**values)
    error = caught.value
    assert error.__context__ is None
    assert error.__cause__ is None
    assert all(line["input"] is None for line in error.errors())
    return error


class TestDefaults:
    """The defaults are those of the design."""

    def test_kafka(self) -> None:
        """Kafka is safe by default: all replicas, idempotent, on localhost."""
        kafka = KafkaSettings()
        assert kafka.bootstrap_servers == ("localhost:9092",)
        assert (kafka.client_id, kafka.acks, kafka.idempotence) == ("pyfly", "all", True)
        assert (kafka.compression, kafka.linger) == ("none", 0.0)
        assert (kafka.session_timeout, kafka.max_poll_interval) == (45.0, 300.0)
        assert (kafka.auto_offset_reset, kafka.topics) == ("earliest", "create")
        assert (kafka.commit_interval, kafka.commit_count, kafka.max_in_flight) == (0.1, 1000, 500)
        assert (kafka.max_in_flight_bytes, kafka.unreadable) == (64 * 1024 * 1024, "block")
        assert (kafka.partitions, kafka.replication_factor, kafka.options) == (None, None, {})
        assert kafka.tls == TlsSettings()
        assert kafka.sasl == SaslSettings()

    def test_rabbitmq(self) -> None:
        """RabbitMQ is the one on localhost, with quorum queues that refuse unroutable messages."""
        rabbit = RabbitSettings()
        assert rabbit.url.get_secret_value() == "amqp://guest:guest@localhost/"
        assert (rabbit.exchange_name, rabbit.queue_type) == ("pyfly", "quorum")
        assert (rabbit.queue_naming, rabbit.broadcast) == ("group", "shared")
        assert (rabbit.unroutable, rabbit.prefetch, rabbit.heartbeat) == ("raise", 100, 60)

    def test_the_rest(self) -> None:
        """Deadlines are 30 seconds; TLS is off and checks when it is on; memory is silent."""
        assert StartupSettings().timeout == ShutdownSettings().timeout == 30.0
        assert (TlsSettings().enabled, TlsSettings().verify) == (False, True)
        assert MemorySettings().model_dump() == {"raise_errors": False, "skip_retry_delays": False}

    def test_listener_fields_are_those_of_the_policy(self) -> None:
        """There is one set of names, with one set of defaults."""
        assert tuple(ListenerSettings.model_fields) == POLICY_FIELDS
        assert ListenerSettings().policy() == ListenerPolicy()
        assert set(ListenerOverride.model_fields) - set(POLICY_FIELDS) == {
            "topic",
            "group",
            "enabled",
        }


class TestKafka:
    """What `KafkaSettings` takes and refuses."""

    @pytest.mark.parametrize(
        ("given", "servers"),
        [
            ("a:1,b:2", ("a:1", "b:2")),
            (" a:1 , b:2 ", ("a:1", "b:2")),
            (["a:1", "b"], ("a:1", "b:9092")),
            ('["a:1"]', ("a:1",)),
            ("[::1]:9093", ("[::1]:9093",)),
            (("broker_1.internal:65535",), ("broker_1.internal:65535",)),
        ],
    )
    def test_servers(self, given: object, servers: tuple[str, ...]) -> None:
        """Servers come as text or list and are always a tuple of host:port."""
        assert KafkaSettings.model_validate({"bootstrap_servers": given}).bootstrap_servers == (
            servers
        )

    @pytest.mark.parametrize(
        "given", ["", "a:0", "a:70000", "a:b", "a b", "http://a:1", "a:1,", [], [1], 1, "u:p@a:1"]
    )
    def test_servers_refused(self, given: object) -> None:
        """What is no host:port is refused, without being repeated."""
        error = refused(KafkaSettings, bootstrap_servers=given)
        assert "input" not in str(error)

    def test_acks(self) -> None:
        """``acks`` keeps its type, and is no boolean."""
        assert KafkaSettings(acks="all").acks == "all"
        assert KafkaSettings(acks=1, idempotence=False).acks == 1
        refused(KafkaSettings, acks=True)

    def test_acks_and_idempotence(self) -> None:
        """What Kafka would refuse is refused here."""
        assert "exclude each other" in str(refused(KafkaSettings, acks=1))

    def test_tls_that_is_off(self) -> None:
        """A file that would have no effect is refused."""
        assert "no effect" in str(refused(KafkaSettings, tls=TlsSettings(ca_file="ca.pem")))
        assert "verify has no effect" in str(refused(KafkaSettings, tls={"verify": False}))

    def test_unknown_argument(self) -> None:
        """An unknown name is refused."""
        assert refused(KafkaSettings, servers="a:1").errors()[0]["type"] == "extra_forbidden"


class TestRabbit:
    """What `RabbitSettings` takes and refuses."""

    def test_password_with_any_characters(self) -> None:
        """A password may hold what would mean something in a URL, in both forms."""
        password = "p#a/s?s@w:o%20rd"
        by_parts = RabbitSettings(host="mq", username="app", password=SecretStr(password))
        assert by_parts.address.password == password
        by_url = RabbitSettings(url=SecretStr("amqp://app:p#a/s?s@w:ord@mq:5673/shop"))
        assert by_url.address.password == "p#a/s?s@w:ord"
        assert (by_url.address.host, by_url.address.port) == ("mq", 5673)
        assert by_url.redacted_url == "amqp://app:******@mq:5673/shop"

    def test_defaults_of_the_parts(self) -> None:
        """Parts that are not given are those of the default URL."""
        address = RabbitSettings(host="mq").address
        assert address == parse_url("amqp://guest:guest@mq/")

    def test_tls_implies_the_port(self) -> None:
        """With TLS the port is 5671, unless it is given."""
        assert RabbitSettings(host="mq", tls=TlsSettings(enabled=True)).address.port == 5671
        assert RabbitSettings(url=SecretStr("amqps://mq")).address.port == 5671
        rabbit = RabbitSettings(url=SecretStr("amqp://mq:1234"), tls=TlsSettings(enabled=True))
        assert (rabbit.address.port, rabbit.address.tls) == (1234, True)
        plain = RabbitSettings(url=SecretStr("amqp://mq"), tls=TlsSettings(enabled=True))
        assert plain.redacted_url == "amqps://guest:******@mq/"

    def test_both_forms(self) -> None:
        """The URL and single settings at once are an error."""
        error = refused(RabbitSettings, url="amqp://app:hunter2@mq", host="mq")
        assert "url and host are both set" in str(error)
        assert "hunter2" not in str(error.errors())

    @pytest.mark.parametrize(
        "url",
        [
            "mq", "amqp://", "amqp://mq:0", "amqp://mq:x", "http://mq", "amqp:/u:p@mq",
            "amqp://u:p/v", "amqp://:p@mq", "amqp://mq?x=1", 5,
        ],
    )  # fmt: skip
    def test_url_refused(self, url: object) -> None:
        """What is no AMQP URL is refused."""
        refused(RabbitSettings, url=url)

    def test_contradicting_tls(self) -> None:
        """TLS cannot be on by the URL and off by its setting."""
        error = refused(RabbitSettings, url="amqps://mq", tls={"enabled": False})
        assert "amqps" in str(error)

    def test_ipv6(self) -> None:
        """An address of IPv6 stands in brackets in the URL, and alone as a host."""
        rabbit = RabbitSettings(url=SecretStr("amqp://[::1]:5673/"))
        assert (rabbit.address.host, rabbit.address.port) == ("::1", 5673)
        assert RabbitSettings(host="::1").redacted_url == "amqp://guest:******@[::1]/"

    @pytest.mark.parametrize("host", ["mq:5672", "http://mq", "m q", "", "-mq"])
    def test_host_refused(self, host: str) -> None:
        """A host is a name alone."""
        refused(RabbitSettings, host=host)


class TestTls:
    """`TlsSettings` and the context that both adapters use."""

    def test_certificate_and_key_belong_together(self) -> None:
        """One without the other is refused."""
        refused(TlsSettings, cert_file="c.pem")
        refused(TlsSettings, key_file="k.pem")
        refused(TlsSettings, key_password="hunter2")

    def test_context(self) -> None:
        """The context trusts, identifies and checks as the settings say."""
        pem = Path(__file__).parent / "corpus" / "pem"
        tls = TlsSettings(
            enabled=True,
            ca_file=str(pem / "cert.pem"),
            cert_file=str(pem / "cert.pem"),
            key_file=str(pem / "locked-key.pem"),
            key_password=SecretStr("sesame"),
        )
        context = tls.ssl_context()
        assert context.check_hostname
        assert len(context.get_ca_certs()) == 1
        assert not TlsSettings(enabled=True, verify=False).ssl_context().check_hostname

    def test_a_locked_key_never_asks_on_the_terminal(self) -> None:
        """Without a password a locked key is an error, not a prompt."""
        pem = Path(__file__).parent / "corpus" / "pem"
        tls = TlsSettings(cert_file=str(pem / "cert.pem"), key_file=str(pem / "locked-key.pem"))
        with pytest.raises(OSError, match="PEM"):
            tls.ssl_context()


class TestListener:
    """`ListenerSettings` and `ListenerOverride`."""

    def test_only_what_is_set_is_a_change(self) -> None:
        """A value that is given counts, even when it is the default; the rest does not."""
        assert ListenerOverride().changes() == {}
        override = ListenerOverride(retries=3, timeout=None, topic="orders")
        assert override.changes() == {"retries": 3, "timeout": None}

    @pytest.mark.parametrize(
        "values",
        [
            {"concurrency": 0}, {"concurrency": True}, {"retries": -1}, {"retries": 1.0},
            {"timeout": 0}, {"retry_jitter": 2}, {"retry_multiplier": 0.5},
            {"retry_multiplier": float("nan")}, {"dead_letter": "yes"}, {"dead_letter": 1},
            {"dead_letter_topic": "{topic}"}, {"dead_letter_topic": "a b"},
            {"fatal_exceptions": ["Nope"]}, {"fatal_exceptions": "a..b"},
            {"fatal_exceptions": 5}, {"fatal_exceptions": [ValueError]}, {"retries": 10**30},
        ],
    )  # fmt: skip
    def test_refused(self, values: dict[str, object]) -> None:
        """What no policy could be made of is refused."""
        refused(ListenerSettings, **values)

    def test_every_valid_settings_make_a_policy(self) -> None:
        """Text is read as in a file."""
        settings = ListenerSettings.model_validate(
            {"timeout": "1m", "retries": "0", "fatal_exceptions": "ValueError, shop.errors.Bad"}
        )
        policy = settings.policy()
        assert (policy.timeout, policy.retries) == (60.0, 0)
        assert policy.fatal_exceptions == ("ValueError", "shop.errors.Bad")

    def test_names_of_exceptions_import_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A name with a module is compared with what is raised; the module is not imported."""
        monkeypatch.setattr("builtins.__import__", _no_import)
        monkeypatch.setattr("importlib.import_module", _no_import)
        settings = ListenerSettings.model_validate({"fatal_exceptions": "antigravity.Error"})
        assert settings.policy().fatal_exceptions == ("antigravity.Error",)
        assert "antigravity" not in sys.modules


_import = builtins.__import__


def _no_import(name: str, *args: Any, **kwargs: Any) -> object:
    if name.startswith("antigravity"):
        raise AssertionError(f"{name} is imported")
    return _import(name, *args, **kwargs)


class TestSecrecy:
    """No secret is in a repr, and nothing can be changed."""

    def test_reprs(self) -> None:
        """Passwords, the URL and text in options are masked."""
        kafka = KafkaSettings(
            sasl=SaslSettings(mechanism="PLAIN", username="app", password=SecretStr("hunter2")),
            options={"sasl_plain_password": "hunter2", "text": "hunter2", "number": 5},
        )
        rabbit = RabbitSettings(url=SecretStr("amqp://app:hunter2@mq"))
        text = f"{kafka!r} {kafka} {rabbit!r} {rabbit} {rabbit.address!r} {kafka.sasl.password}"
        assert "hunter2" not in text
        assert "'number': 5" in text

    def test_frozen(self) -> None:
        """A change is refused, and the error does not repeat the value."""
        kafka = KafkaSettings()
        with pytest.raises(ValidationError) as caught:
            kafka.sasl.password = SecretStr("hunter2")  # type: ignore[misc]
        assert caught.value.errors()[0]["type"] == "frozen_instance"
        assert caught.value.errors()[0]["input"] is None


class TestProviders:
    """The names that ``provider`` takes."""

    def test_built_in(self) -> None:
        """The built-in providers are always there."""
        assert providers()[:4] == ("memory", "kafka", "rabbitmq", "auto")

    def test_entry_points(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An adapter that is installed as an entry point is a provider, and its name suggested."""
        monkeypatch.setattr(provider, "entry_point_names", lambda: ("nats",))
        assert providers()[-1] == "nats"
        assert provider.is_provider("nats")

    @pytest.mark.parametrize(
        ("installed", "chosen"),
        [
            ({"aiokafka", "aio_pika"}, "kafka"),
            ({"aiokafka"}, "kafka"),
            ({"aio_pika"}, "rabbitmq"),
            (set(), "memory"),
        ],
    )
    def test_auto(self, installed: set[str], chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """``auto`` takes Kafka before RabbitMQ before memory."""
        monkeypatch.setattr(provider, "has_client", installed.__contains__)
        assert provider.choose()[0] == chosen

    def test_has_client(self) -> None:
        """A package is found without being imported."""
        assert provider.has_client("json")
        assert not provider.has_client("no_such_package")
        assert not provider.has_client("no_such.package")
