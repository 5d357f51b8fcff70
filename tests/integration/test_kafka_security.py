"""TLS, SASL and permissions on a real Kafka: who is let in, and what is never printed."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from traceback import TracebackException, walk_tb
from typing import Any

import pytest
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError

from pyfly_messaging.adapters.kafka import KafkaAdapter
from pyfly_messaging.errors import (
    AuthenticationError,
    BrokerUnavailableError,
    ConfigurationError,
    PublishError,
)
from pyfly_messaging.message import Message
from pyfly_messaging.policy import Timeouts
from tests.brokers import KafkaCluster
from tests.integration.test_kafka_support import (
    Inbox,
    make_adapter,
    nothing_left,
    running,
    unique,
)

pytestmark = pytest.mark.kafka

USERS = {"alice": "correct horse", "bob": "battery staple"}
AT_ONCE = 10.0  # of a startup timeout of 30


@pytest.fixture(scope="module")
def secured() -> Iterator[dict[str, KafkaCluster]]:
    """Four brokers: each combination of TLS and SASL."""
    clusters = {
        "plain": KafkaCluster(brief=True),
        "tls": KafkaCluster(tls=True, brief=True),
        "sasl": KafkaCluster(sasl=USERS, brief=True),
        "both": KafkaCluster(sasl=USERS, client_certificates=True, brief=True),
    }
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        for cluster in clusters.values():
            stack.callback(cluster.stop)
        for started in [pool.submit(cluster.start) for cluster in clusters.values()]:
            started.result()
        yield clusters


def login(user: str = "alice", password: str = "correct horse", way: str = "PLAIN") -> Any:
    """Return the settings of somebody who logs in."""
    return {"mechanism": way, "username": user, "password": password}


def trusting(cluster: KafkaCluster, **more: Any) -> Any:
    """Return the settings of somebody who trusts a cluster's authority."""
    return {"enabled": True, "ca_file": str(cluster.ca_file), **more}


@pytest.mark.parametrize("way", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("kind", ["sasl", "both"])
async def test_users_are_let_in(secured: dict[str, KafkaCluster], kind: str, way: str) -> None:
    """Each mechanism works, with TLS and a client's certificate and without."""
    cluster, inbox, topic = secured[kind], Inbox(), unique()
    settings: dict[str, Any] = {"sasl": login(way=way)}
    if kind == "both":
        made = cluster.certificates
        settings["tls"] = trusting(
            cluster,
            cert_file=str(made.client),
            key_file=str(made.client_encrypted_key),
            key_password=made.client_key_password,
        )
    adapter = make_adapter(cluster.bootstrap_servers, **settings)
    await adapter.subscribe(topic, inbox, "group")
    async with running(adapter):
        await adapter.publish(topic, b"value")
        assert await inbox.has(1) == [b"value"]


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [
        ("sasl", {"sasl": login(password="wrong")}, r"kafka\.sasl"),
        ("sasl", {"sasl": login(password="wrong", way="SCRAM-SHA-512")}, r"kafka\.sasl"),
        ("sasl", {"sasl": login(user="mallory")}, r"kafka\.sasl"),
        ("sasl", {}, r"set kafka\.sasl\.mechanism to .*PLAIN"),
        ("sasl", {"sasl": login(), "tls": {"enabled": True}}, r"set kafka\.tls\.enabled: false"),
        ("plain", {"sasl": login()}, r"remove kafka\.sasl"),
        ("plain", {"tls": {"enabled": True}}, r"set kafka\.tls\.enabled: false"),
        ("tls", {}, r"set kafka\.tls\.enabled: true"),
        ("tls", {"sasl": login()}, r"set kafka\.tls\.enabled: true"),
        ("tls", {"tls": {"enabled": True}}, r"kafka\.tls\.\* \(ca-file"),
        ("both", {"tls": "trusting", "sasl": login()}, r"kafka\.tls\.\* .*cert-file"),
    ],
    ids=str,
)
async def test_who_is_refused_learns_why_at_once(
    secured: dict[str, KafkaCluster], kind: str, settings: dict[str, Any], says: str
) -> None:
    """A refusal is an AuthenticationError at once, and names the setting."""
    cluster = secured[kind]
    if settings.get("tls") == "trusting":
        settings = {**settings, "tls": trusting(cluster)}
    adapter = make_adapter(cluster.bootstrap_servers, **settings)
    await adapter.subscribe(unique(), Inbox(), "group")
    async with nothing_left():
        before = time.monotonic()
        with pytest.raises(AuthenticationError, match=says) as caught:
            await adapter.start()
        assert time.monotonic() - before < AT_ONCE
    assert "horse" not in str(caught.value)
    assert caught.value.__cause__ is not None


async def test_an_unverified_certificate_is_accepted_when_asked_for(
    secured: dict[str, KafkaCluster],
) -> None:
    """With `verify: false` any certificate will do."""
    cluster = secured["tls"]
    adapter = make_adapter(cluster.bootstrap_servers, tls={"enabled": True, "verify": False})
    async with running(adapter):
        await adapter.publish(unique(), b"value")


async def test_no_password_and_no_payload_is_logged(
    secured: dict[str, KafkaCluster], caplog: pytest.LogCaptureFixture
) -> None:
    """With every logger at DEBUG neither the password nor what messages carry is printed."""
    cluster, inbox, topic = secured["sasl"], Inbox(), unique()
    with caplog.at_level(logging.DEBUG):
        for way in ("PLAIN", "SCRAM-SHA-256"):
            adapter = make_adapter(cluster.bootstrap_servers, sasl=login(way=way))
            await adapter.subscribe(topic, inbox, unique("group"))
            async with running(adapter):
                message = Message(topic, b"PAYLOAD", b"KEY", {"name": "HEADER"})
                await adapter.publish(topic, b"PAYLOAD", key=b"KEY", headers={"name": "HEADER"})
                await adapter.publish_many([message])
                await inbox.has(2)
        wrong = make_adapter(cluster.bootstrap_servers, sasl=login(password="battery horse"))
        with pytest.raises(AuthenticationError):
            await wrong.start()
    assert any(record.name == "aiokafka.conn" for record in caplog.records)
    for secret in ("horse", "PAYLOAD", "KEY", "HEADER"):
        assert secret not in caplog.text
    assert "horse" not in repr(vars(adapter)) + repr(vars(adapter._client))


def shown(error: BaseException | None, seen: set[int] | None = None) -> Iterator[str]:
    """Yield what a printer of local variables shows of an exception and of all behind it."""
    seen = set() if seen is None else seen
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    yield "".join(TracebackException.from_exception(error, capture_locals=True).format())
    for frame, _ in walk_tb(error.__traceback__):
        for name, value in frame.f_locals.items():
            yield from (f"{frame.f_code.co_qualname} {name}: {text}" for text in contents(value))
    yield from shown(error.__cause__, seen)
    yield from shown(error.__context__, seen)
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from shown(each, seen)


def contents(value: object, depth: int = 5) -> Iterator[str]:
    """Yield what is in a value, and in the values in it, as text, as Sentry and rich do."""
    yield repr(value)
    if not depth:
        return
    if isinstance(value, Mapping):
        for each in value.items():
            yield from contents(each, depth - 1)
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from contents(each, depth - 1)
    elif isinstance(value, bytes):
        yield value.decode("latin-1")
    elif type(value).__module__.startswith("pyfly_messaging.adapters"):
        for each in vars(value).values() if hasattr(value, "__dict__") else ():
            yield repr(each)


async def leave(adapter: KafkaAdapter, step: Awaitable[None]) -> BaseException:
    """Return what a step raises."""
    try:
        await step
    except BaseException as error:
        return error
    finally:
        await adapter.stop()
    raise AssertionError("raised nothing")


async def log_failure(adapter: KafkaAdapter) -> None:
    """Log as aiokafka does what it has not expected of a connection."""
    host, _, port = adapter._client.address.rpartition(":")
    try:
        await create_conn(host, int(port), **adapter._client._connection.arguments())
    except (OSError, KafkaError):
        logging.getLogger("aiokafka.conn").exception("unexpected: %s", unique())


@pytest.mark.parametrize("way", ["PLAIN", "SCRAM-SHA-256"])
async def test_no_traceback_shows_a_password(
    secured: dict[str, KafkaCluster], way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever prints the local variables of a failed start, or of a log record, shows none."""
    handled: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: handled.append(context))
    caplog.set_level(logging.DEBUG)
    raised, secret = list[BaseException](), "battery horse staple"
    sasl = {"sasl": login(password=secret, way=way)}
    for servers, settings in (
        (secured["sasl"].bootstrap_servers, sasl),
        (secured["plain"].bootstrap_servers, sasl),
        (secured["both"].bootstrap_servers, sasl),
        ("127.0.0.1:1", sasl),
    ):
        adapter = make_adapter(servers, timeouts=Timeouts(startup=0.5), **settings)
        await adapter.subscribe(unique(), Inbox(), "group")
        raised.append(await leave(adapter, adapter.start()))
        starting = asyncio.create_task(adapter.start())
        await asyncio.sleep(0.01)
        starting.cancel()
        raised.append(await leave(adapter, starting))
        await log_failure(adapter)
    assert {type(error) for error in raised} >= {AuthenticationError, BrokerUnavailableError}
    logged = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert len(logged) >= 4
    raised += filter(None, logged)
    raised += [context["exception"] for context in handled if "exception" in context]
    texts = [text for error in raised for text in shown(error)]
    assert len(texts) > 100
    assert [text for text in texts if secret in text or "horse" in text] == []
    assert not [context for context in handled if secret in repr(context)]


async def test_no_traceback_shows_the_password_of_a_key(secured: dict[str, KafkaCluster]) -> None:
    """A key that its password does not open is refused without showing the password."""
    made = secured["both"].certificates
    tls = trusting(
        secured["both"],
        cert_file=str(made.client),
        key_file=str(made.client_encrypted_key),
        key_password="battery horse staple",
    )
    with pytest.raises(ConfigurationError, match=r"kafka\.tls") as caught:
        make_adapter("localhost:1", tls=tls)
    # Ours only: the test itself knows the password.
    for error in (caught.value, caught.value.__cause__):
        assert error is not None
        frames = [f for f, _ in walk_tb(error.__traceback__) if "pyfly" in f.f_globals["__name__"]]
        assert "horse" not in repr([frame.f_locals for frame in frames])


@pytest.mark.slow
async def test_what_the_user_may_not_do_is_said() -> None:
    """Without permission a publish fails at once, and so does the start of a listener."""
    rules = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:alice;User:ANONYMOUS",
    }
    with KafkaCluster(sasl=USERS, config=rules, brief=True) as cluster:
        servers, topic = cluster.bootstrap_servers, unique()
        async with running(owner := make_adapter(servers, sasl=login())):
            await owner.publish(topic, b"value")
        guest_login = login("bob", "battery staple")
        guest = make_adapter(servers, sasl=guest_login, topics="ignore", idempotence=False, acks=1)
        async with running(guest):
            before = time.monotonic()
            with pytest.raises(PublishError, match="TopicAuthorizationFailed"):
                await guest.publish(topic, b"value")
            assert time.monotonic() - before < AT_ONCE
        await guest.subscribe(topic, Inbox(), "group")
        async with nothing_left():
            before = time.monotonic()
            with pytest.raises(AuthenticationError, match="may do"):
                await guest.start()
            assert time.monotonic() - before < AT_ONCE


async def test_a_wrong_password_is_not_tried_for_long(secured: dict[str, KafkaCluster]) -> None:
    """However long a start may take, a wrong password ends it after one attempt."""
    adapter = make_adapter(
        secured["sasl"].bootstrap_servers,
        sasl=login(password="wrong"),
        timeouts=Timeouts(startup=3600),
    )
    with pytest.raises(AuthenticationError, match="SaslAuthenticationFailed"):
        await adapter.start()
