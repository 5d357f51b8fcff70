"""aiokafka's exceptions as ours: the one place that maps them.

Each of aiokafka's classes stands in exactly one of the groups below; a test fails on one that does
not.
"""

from __future__ import annotations

import ssl

from aiokafka import errors as kafka

from pyfly_messaging.adapters.kafka.redaction import drop_secret_frames
from pyfly_messaging.errors import (
    AuthenticationError,
    BrokerError,
    BrokerUnavailableError,
    PublishError,
    TopologyError,
)
from pyfly_messaging.logs import text_of

REFUSED = (
    kafka.AuthenticationFailedError,
    kafka.AuthenticationMethodNotSupported,
    kafka.ClusterAuthorizationFailedError,
    kafka.DelegationTokenAuthDisabled,
    kafka.DelegationTokenAuthorizationFailed,
    kafka.DelegationTokenExpired,
    kafka.DelegationTokenNotFound,
    kafka.DelegationTokenOwnerMismatch,
    kafka.DelegationTokenRequestNotAllowed,
    kafka.GroupAuthorizationFailedError,
    kafka.IllegalSaslStateError,
    kafka.InvalidPrincipalType,
    kafka.SaslAuthenticationFailed,
    kafka.SecurityDisabled,
    kafka.TopicAuthorizationFailedError,
    kafka.TransactionalIdAuthorizationFailed,
    kafka.UnsupportedSaslMechanismError,
)
"""Who we are, or what we may do: `AuthenticationError`."""

TOPOLOGY = (
    kafka.InconsistentGroupProtocolError,
    kafka.InvalidConfigurationError,
    kafka.InvalidGroupIdError,
    kafka.InvalidPartitionsError,
    kafka.InvalidReplicationAssignmentError,
    kafka.InvalidReplicationFactorError,
    kafka.InvalidSessionTimeoutError,
    kafka.InvalidTopicError,
    kafka.PolicyViolationError,
    kafka.TopicAlreadyExistsError,
    kafka.UnknownTopicOrPartitionError,
)
"""What the cluster has is not what the settings ask for: `TopologyError`."""

UNAVAILABLE = (
    kafka.BrokerNotAvailableError,
    kafka.Cancelled,
    kafka.CorrelationIdError,
    kafka.GroupCoordinatorNotAvailableError,
    kafka.GroupLoadInProgressError,
    kafka.KafkaConnectionError,
    kafka.KafkaProtocolError,
    kafka.KafkaStorageError,
    kafka.KafkaTimeoutError,
    kafka.KafkaUnavailableError,
    kafka.LeaderNotAvailableError,
    kafka.ListenerNotFound,
    kafka.LogDirNotFound,
    kafka.MetadataEmptyBrokerList,
    kafka.NoBrokersAvailable,
    kafka.NodeNotReadyError,
    kafka.NotControllerError,
    kafka.NotCoordinatorForGroupError,
    kafka.NotEnoughReplicasAfterAppendError,
    kafka.NotEnoughReplicasError,
    kafka.NotLeaderForPartitionError,
    kafka.QuotaViolationError,
    kafka.ReassignmentInProgress,
    kafka.ReplicaNotAvailableError,
    kafka.RequestTimedOutError,
    kafka.StaleControllerEpochError,
    kafka.StaleLeaderEpochCodeError,
    kafka.StaleMetadata,
    kafka.TooManyInFlightRequests,
)
"""Brokers that are away, busy or moving: `BrokerUnavailableError`; another attempt may succeed."""

UNWRITABLE = (
    kafka.InvalidRequiredAcksError,
    kafka.InvalidTimestampError,
    kafka.MessageSizeTooLargeError,
    kafka.RecordListTooLargeError,
    kafka.UnsupportedForMessageFormatError,
)
"""One message that the broker does not take: `PublishError`."""

TOO_LARGE = (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError)
"""Those of them that concern a whole batch of messages."""

UNUSABLE_PRODUCER = (
    kafka.DuplicateSequenceNumber,
    kafka.InvalidProducerEpoch,
    kafka.InvalidProducerIdMapping,
    kafka.OutOfOrderSequenceNumber,
    kafka.ProducerFenced,
    kafka.UnknownProducerId,
)
"""An idempotent producer that can send no more: its message was not written, a new one sends it.

A batch that the broker refuses has used up sequence numbers in the client which the broker has
never seen, so it refuses whatever follows (seen with aiokafka 0.14 on Kafka 4.3, after a message
above ``max.message.bytes``).
"""

TOPIC_GONE = (
    kafka.LeaderNotAvailableError,
    kafka.NotLeaderForPartitionError,
    kafka.UnknownTopicOrPartitionError,
)
"""What a publish meets, among other reasons, when its topic was deleted."""

TRANSIENT = (
    kafka.LeaderNotAvailableError,
    kafka.NotLeaderForPartitionError,
    kafka.RequestTimedOutError,
)
"""What aiokafka tries again within a moment, and yet logs as an error.

A partition is led a moment after it was created; a group answers a member that joins when it has
its other members together.
"""

UNREADABLE = (
    kafka.CorruptRecordException,
    kafka.NoOffsetForPartitionError,
    kafka.OffsetOutOfRangeError,
    kafka.RecordTooLargeError,
    kafka.UnsupportedCodecError,
)
"""One partition that cannot be read for now; the consumer's others can."""

LOST_MEMBERSHIP = (
    kafka.CommitFailedError,
    kafka.ConsumerStoppedError,
    kafka.FetchSessionIdNotFound,
    kafka.IllegalGenerationError,
    kafka.InvalidFetchSessionEpoch,
    kafka.MemberIdRequired,
    kafka.RebalanceInProgressError,
    kafka.UnknownMemberIdError,
)
"""The group has gone on without this consumer, which joins again."""

UNEXPECTED = (
    kafka.BrokerResponseError,
    kafka.ConcurrentTransactions,
    kafka.GroupIdNotFound,
    kafka.IllegalArgumentError,
    kafka.IllegalOperation,
    kafka.IllegalStateError,
    kafka.IncompatibleBrokerVersion,
    kafka.InvalidCommitOffsetSizeError,
    kafka.InvalidFetchRequestError,
    kafka.InvalidRequestError,
    kafka.InvalidTransactionTimeout,
    kafka.InvalidTxnState,
    kafka.KafkaConfigurationError,
    kafka.KafkaError,
    kafka.NoError,
    kafka.NonEmptyGroup,
    kafka.OffsetMetadataTooLargeError,
    kafka.OperationNotAttempted,
    kafka.ProducerClosed,
    kafka.TransactionCoordinatorFenced,
    kafka.UnknownError,
    kafka.UnrecognizedBrokerVersion,
    kafka.UnsupportedVersionError,
)
"""What has no better name, base classes included: `BrokerError`, with what aiokafka says."""

CLIENT_ERRORS = (kafka.KafkaError, kafka.ConsumerStoppedError, kafka.IllegalOperation)
"""The roots of aiokafka's exceptions."""

# The broker also refuses with codes that aiokafka 0.14 has no class for.
_UNKNOWN_CODE = (
    "; aiokafka does not know why: see the broker's log (a compacted topic takes no message"
    " without a key, and a record may break another rule of the topic)"
)


def connecting(error: BaseException, address: str, attempts: int = 1) -> BrokerError:
    """Return what an error while connecting, starting or asking means."""
    drop_secret_frames(error)
    if isinstance(error, BrokerError):
        return error
    if isinstance(error, ssl.SSLError):
        return AuthenticationError(
            f"no TLS connection to Kafka at {address}: {describe(error)}; check kafka.tls.*"
            " (ca-file, the name in the broker's certificate, cert-file and key-file)"
        )
    if isinstance(error, REFUSED):
        return AuthenticationError(
            f"Kafka at {address} refuses this client: {describe(error)};"
            " check kafka.sasl.* and kafka.tls.*, and what the user may do"
        )
    if isinstance(error, TOPOLOGY):
        return TopologyError(f"Kafka at {address}: {describe(error)}")
    if isinstance(error, (*UNAVAILABLE, *LOST_MEMBERSHIP, OSError)):
        return BrokerUnavailableError(
            f"no connection to Kafka at {address} after {_times(attempts)}: {describe(error)};"
            " check kafka.bootstrap-servers, and that the broker runs",
            address=address,
            attempts=attempts,
        )
    return BrokerError(f"Kafka at {address}: {describe(error)}")


def publishing(error: BaseException, topic: str) -> PublishError:
    """Return what an error while publishing means."""
    drop_secret_frames(error)
    hint = ""
    if isinstance(error, TOO_LARGE):
        hint = "; raise max.message.bytes of the topic, and kafka.options: max_request_size"
    elif isinstance(error, kafka.TopicAuthorizationFailedError):
        hint = "; the user may not write to it"
    elif isinstance(error, kafka.UnknownTopicOrPartitionError):
        hint = "; the topic does not exist"
    elif isinstance(error, kafka.UnknownError):
        hint = _UNKNOWN_CODE
    return PublishError(f"publish to {topic!r} failed: {describe(error)}{hint}")


def describe(error: BaseException) -> str:
    """Return an exception as one line, its class named once."""
    if isinstance(error, kafka.CommitFailedError):  # its own text is long
        return "CommitFailedError: the group has gone on without this member"
    text, name = text_of(error), type(error).__name__
    return text if name in text else f"{name}: {text}".rstrip(": ")


def is_final(error: BaseException) -> bool:
    """Tell whether another attempt to connect would meet the same refusal."""
    return isinstance(
        error, (*REFUSED, *TOPOLOGY, ssl.SSLError, AuthenticationError, TopologyError)
    )


def is_lost_membership(error: BaseException) -> bool:
    """Tell whether the group has given a consumer's partitions to others, or is about to.

    During a rebalance a commit is refused too, and may be repeated.
    """
    return isinstance(error, LOST_MEMBERSHIP) and not isinstance(
        error.__cause__ or error, kafka.RebalanceInProgressError
    )


def _times(attempts: int) -> str:
    return "one attempt" if attempts == 1 else f"{attempts} attempts"
