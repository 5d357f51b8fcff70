"""Each of aiokafka's exceptions has one meaning here."""

import ssl
from collections import Counter

import pytest
from aiokafka import errors as kafka

from pyfly_messaging.adapters.kafka import errors
from pyfly_messaging.errors import (
    AuthenticationError,
    BrokerError,
    BrokerUnavailableError,
    NotStartedError,
    PublishError,
    TopologyError,
)

GROUPS = {
    "refused": errors.REFUSED,
    "misfits": errors.TOPOLOGY,
    "unavailable": errors.UNAVAILABLE,
    "unwritable": errors.UNWRITABLE,
    "spoilt": errors.UNUSABLE_PRODUCER,
    "unreadable": errors.UNREADABLE,
    "lost membership": errors.LOST_MEMBERSHIP,
    "unexpected": errors.UNEXPECTED,
}
KNOWN = sorted(
    {
        cls
        for cls in vars(kafka).values()
        if isinstance(cls, type) and issubclass(cls, BaseException)
    },
    key=lambda cls: cls.__name__,
)


@pytest.mark.parametrize("cls", KNOWN)
def test_every_exception_is_mapped_once(cls: type[BaseException]) -> None:
    """Each class of aiokafka.errors stands in exactly one group."""
    assert len([name for name, group in GROUPS.items() if cls in group]) == 1


def test_no_class_is_written_twice() -> None:
    """No class is in a group twice."""
    counted = Counter(cls for group in GROUPS.values() for cls in group)
    assert [cls for cls, count in counted.items() if count > 1] == []


@pytest.mark.parametrize("cls", [cls for cls in KNOWN if cls is not kafka.BrokerResponseError])
def test_every_exception_becomes_a_broker_error(cls: type[BaseException]) -> None:
    """Whatever aiokafka raises while connecting or publishing, ours comes out, on one line."""
    connecting = errors.connecting(cls(), "kafka:9092", 3)
    publishing = errors.publishing(cls(), "orders")
    assert isinstance(connecting, BrokerError)
    assert isinstance(publishing, PublishError)
    for error in (connecting, publishing):
        assert "\n" not in str(error)
        assert cls.__name__ in str(error)


@pytest.mark.parametrize(
    ("raised", "ours", "says"),
    [
        (kafka.SaslAuthenticationFailed("no"), AuthenticationError, "kafka.sasl"),
        (kafka.TopicAuthorizationFailedError("orders"), AuthenticationError, "may do"),
        (ssl.SSLCertVerificationError("bad"), AuthenticationError, "kafka.tls"),
        (kafka.InvalidReplicationFactorError(), TopologyError, "Kafka at kafka:9092"),
        (kafka.NodeNotReadyError(), BrokerUnavailableError, "after 3 attempts"),
        (ConnectionRefusedError(), BrokerUnavailableError, "bootstrap-servers"),
        (TimeoutError(), BrokerUnavailableError, "no connection to Kafka at kafka:9092"),
        (kafka.IllegalStateError("what"), BrokerError, "what"),
    ],
)
def test_connecting_says_what_to_check(
    raised: BaseException, ours: type[BrokerError], says: str
) -> None:
    """An error while connecting has the class of its meaning, and names the settings."""
    error = errors.connecting(raised, "kafka:9092", 3)
    assert type(error) is ours
    assert says in str(error)


def test_an_error_of_ours_stays_as_it_is() -> None:
    """What is mapped already is not mapped again."""
    error = NotStartedError()
    assert errors.connecting(error, "kafka:9092") is error


def test_an_unavailable_broker_is_named() -> None:
    """BrokerUnavailableError carries the address and the number of attempts."""
    error = errors.connecting(kafka.KafkaConnectionError("gone"), "kafka:9092", 7)
    assert isinstance(error, BrokerUnavailableError)
    assert (error.address, error.attempts) == ("kafka:9092", 7)


@pytest.mark.parametrize(
    ("raised", "says"),
    [
        (kafka.MessageSizeTooLargeError(), "max.message.bytes"),
        (kafka.TopicAuthorizationFailedError("orders"), "may not write"),
        (kafka.UnknownTopicOrPartitionError(), "does not exist"),
        (kafka.UnknownError(), "compacted"),
    ],
)
def test_publishing_says_what_to_do(raised: BaseException, says: str) -> None:
    """An error while publishing names the topic and the way out."""
    text = str(errors.publishing(raised, "orders"))
    assert text.startswith("publish to 'orders' failed: ")
    assert says in text


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (kafka.SaslAuthenticationFailed(), True),
        (kafka.InvalidPartitionsError(), True),
        (ssl.SSLCertVerificationError(), True),
        (AuthenticationError("no"), True),
        (kafka.KafkaConnectionError(), False),
        (ConnectionRefusedError(), False),
    ],
)
def test_only_a_refusal_is_final(error: BaseException, final: bool) -> None:
    """A refusal would be met again; a broker that is away may come back."""
    assert errors.is_final(error) is final


def test_a_commit_refused_in_a_rebalance_may_be_repeated() -> None:
    """A commit is lost when the group has gone on, not while it assigns partitions."""
    refused = kafka.CommitFailedError()
    assert errors.is_lost_membership(refused)
    refused.__cause__ = kafka.RebalanceInProgressError()
    assert not errors.is_lost_membership(refused)
    assert not errors.is_lost_membership(kafka.NodeNotReadyError())


def test_an_exception_is_described_on_one_line() -> None:
    """The class is named once, also where aiokafka's text has it already."""
    assert errors.describe(kafka.RequestTimedOutError()) == "[Error 7] RequestTimedOutError"
    assert errors.describe(ValueError("one\ntwo")) == "ValueError: one\\ntwo"
    assert errors.describe(TimeoutError()) == "TimeoutError"
    assert len(errors.describe(ValueError("\x1b" * 1_000_000))) < 1_100
