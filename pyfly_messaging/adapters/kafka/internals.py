"""What the adapter needs of aiokafka and aiokafka does not offer.

No other module touches a private name of aiokafka, patches one of its methods, or walks frames and
tasks of its clients. Each function says why it is there and what would make it unnecessary. All of
it was seen in aiokafka 0.14.0. `PRIVATE_NAMES` lists the names; `check` runs at import and refuses
a version in which one of them is missing.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from traceback import walk_tb
from types import FrameType
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record import default_records, memory_records, util
from aiokafka.structs import TopicPartition

from pyfly_messaging.errors import MissingDependencyError

SUPPORTED = "==0.14.0"
"""The versions of aiokafka that were tried, as in pyproject.toml."""

# Between two requests for the metadata of the same topics.
_METADATA_INTERVAL_S = 0.1
# The modules of aiokafka whose frames have the password, or a request with it, as a variable.
_SECRET_MODULES = ("aiokafka.conn", "aiokafka.protocol")
_SECRET_VARIABLE = "sasl_plain_password"  # noqa: S105 - a name


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateName:
    """A name of aiokafka that is no public interface, and the shape that is needed.

    Attributes:
        owner: The module, and after a colon the class or function in it.
        name: An attribute that ``__init__`` sets, a member of the class, or a variable of the
            function.
        parameters: The first parameters of a method; empty for anything else.

    """

    owner: str
    name: str
    parameters: tuple[str, ...] = ()

    @property
    def is_there(self) -> bool:
        """Whether the installed version has the name in this shape."""
        module, _, path = self.owner.partition(":")
        try:
            owner: Any = import_module(module)
            for part in filter(None, path.split(".")):
                owner = getattr(owner, part)
        except (ImportError, AttributeError):
            return False
        if inspect.isfunction(owner):
            return self.name in owner.__code__.co_varnames
        found = getattr(owner, self.name, None)
        if self.parameters:
            return callable(found) and self.parameters == tuple(inspect.signature(found).parameters)
        return found is not None or self.name in _attributes_of(owner)

    def __str__(self) -> str:
        return f"{self.owner.replace(':', '.')}.{self.name}"


def _attributes_of(owner: object) -> set[str]:
    """Return the names that the initialisers of a class and its bases use."""
    initialisers = (vars(cls).get("__init__") for cls in getattr(owner, "__mro__", ()))
    codes = (getattr(each, "__code__", None) for each in initialisers)
    return {name for code in codes if code is not None for name in code.co_names}


def _names(owner: str, *names: str) -> tuple[PrivateName, ...]:
    return tuple(PrivateName(owner=owner, name=name) for name in names)


_COORDINATOR = "aiokafka.consumer.group_coordinator:GroupCoordinator"
_SUBSCRIPTION = "aiokafka.consumer.subscription_state"

PRIVATE_NAMES: tuple[PrivateName, ...] = (
    *_names("aiokafka.client:AIOKafkaClient", "_conns", "_topics"),
    PrivateName(
        owner="aiokafka.client:AIOKafkaClient",
        name="_metadata_update",
        parameters=("self", "cluster_metadata", "topics"),
    ),
    PrivateName(
        owner="aiokafka.client:AIOKafkaClient", name="add_topic", parameters=("self", "topic")
    ),
    *_names("aiokafka.client:AIOKafkaClient.bootstrap", "bootstrap_conn"),
    *_names("aiokafka.client:AIOKafkaClient._md_synchronizer", "self"),
    *_names("aiokafka.conn:AIOKafkaConnection", "_protocol", "_requests"),
    *_names("asyncio:StreamReaderProtocol", "_transport"),
    *_names("aiokafka.admin:AIOKafkaAdminClient", "_client"),
    PrivateName(
        owner="aiokafka.admin:AIOKafkaAdminClient",
        name="_send_request",
        parameters=("self", "request", "node_id"),
    ),
    *_names("aiokafka:AIOKafkaProducer", "_sender", "_message_accumulator"),
    *_names("aiokafka.producer.sender:Sender", "sender_task"),
    *_names("aiokafka.producer.sender:Sender._sender_routine", "self"),
    *_names("aiokafka.producer.message_accumulator:MessageAccumulator", "_batches"),
    PrivateName(
        owner="aiokafka.producer.message_accumulator:MessageAccumulator",
        name="fail_all",
        parameters=("self", "exception"),
    ),
    PrivateName(
        owner="aiokafka.producer.message_accumulator:BatchBuilder",
        name="_build",
        parameters=("self",),
    ),
    *_names("aiokafka:AIOKafkaConsumer", "_client", "_coordinator", "_fetcher", "_subscription"),
    *_names("aiokafka.consumer.fetcher:Fetcher", "_max_partition_fetch_bytes"),
    *_names("aiokafka.consumer.fetcher:Fetcher._fetch_requests_routine", "self"),
    *_names("aiokafka.consumer.fetcher:PartitionRecords._unpack_records", "next_batch"),
    *_names(_COORDINATOR, "_client", "_coordination_task", "_group_instance_id"),
    *_names(_COORDINATOR, "coordinator_id", "generation", "group_id", "member_id"),
    PrivateName(owner=_COORDINATOR, name="_maybe_leave_group", parameters=("self",)),
    *_names(f"{_COORDINATOR}._coordination_routine", "self"),
    *_names(f"{_SUBSCRIPTION}:SubscriptionState", "subscription"),
    *_names(f"{_SUBSCRIPTION}:Subscription", "assignment"),
    *_names(f"{_SUBSCRIPTION}:Assignment", "commit_refresh_needed", "tps"),
    PrivateName(owner=f"{_SUBSCRIPTION}:Assignment", name="state_value", parameters=("self", "tp")),
    *_names(f"{_SUBSCRIPTION}:TopicPartitionState", "has_valid_position", "position"),
    *_names("aiokafka.record.memory_records:_MemoryRecordsPy", "_next_slice", "_pos"),
    *_names("aiokafka.record.default_records:_DefaultRecordBatchPy", "_buffer", "_num_records"),
    *_names("aiokafka.record.default_records:_DefaultRecordBatchPy", "_pos"),
    PrivateName(
        owner="aiokafka.record.default_records:_DefaultRecordBatchPy",
        name="_read_msg",
        parameters=("self", "decode_varint"),
    ),
    PrivateName(
        owner="aiokafka.record.util", name="decode_varint_py", parameters=("buffer", "pos")
    ),
)


def check(names: Iterable[PrivateName] = PRIVATE_NAMES) -> None:
    """Refuse a version of aiokafka in which a name is missing or has another shape.

    Raises:
        MissingDependencyError: It names aiokafka, the installed version and the supported one.

    """
    missing = [str(name) for name in names if not name.is_there]
    if missing:
        try:
            installed = version("aiokafka")
        except PackageNotFoundError:
            installed = "of an unknown version"
        raise MissingDependencyError(
            f"aiokafka{SUPPORTED}",
            "kafka",
            wanted_by=f"the Kafka adapter (aiokafka {installed} is installed and is not supported:"
            f" it has no {', '.join(missing)})",
        )


check()


# --- clients and connections ------------------------------------------------------------------


def client_of(owner: AIOKafkaConsumer[bytes, bytes] | AIOKafkaAdminClient) -> AIOKafkaClient:
    """Return the client of a consumer or an admin client.

    For its metadata, its connections and requests of our own. A producer has a public property
    ``client``; the same on the others would make this unnecessary.
    """
    return owner._client


def connections(client: AIOKafkaClient) -> list[AIOKafkaConnection]:
    """Return the connections of a client.

    Health needs to know whether there is one; a client that does not stop is cut off them.
    Unnecessary with a public state of the connections and a ``close`` within a time limit.
    """
    return list(client._conns.values())


def oldest_requests(client: AIOKafkaClient) -> set[tuple[int, int]]:
    """Return the oldest unanswered request of each connection, as two numbers that identify it.

    A broker that hangs keeps its connections; only its silence tells. Unnecessary if aiokafka told
    since when a request waits.
    """
    return {
        (id(connection), connection._requests[0][0])
        for connection in client._conns.values()
        if connection._requests
    }


def followed_topics(client: AIOKafkaClient) -> set[str]:
    """Return the topics whose metadata a client asks for.

    One that the answer does not have was deleted. Unnecessary if aiokafka told of deleted topics.
    """
    topics: set[str] = client._topics
    return topics


def note_lookups(client: AIOKafkaClient, note: Callable[[str], None]) -> None:
    """Have a client call ``note`` with each topic that it looks for.

    A publish to a deleted topic waits for its metadata until it times out. Unnecessary if that
    failed at once.
    """
    add_topic = client.add_topic

    def noted(topic: str) -> Any:
        note(topic)
        return add_topic(topic)

    client.add_topic = noted


def throttle_metadata(client: AIOKafkaClient) -> None:
    """Have a client pause before it asks once more for the metadata of the same topics.

    While a partition has no leader aiokafka asks without a pause, thousands of times a second.
    Unnecessary if it kept to ``retry_backoff_ms`` there.
    """
    update, clock = client._metadata_update, asyncio.get_running_loop().time
    asked, at = frozenset[str](), 0.0

    async def throttled(cluster: ClusterMetadata, topics: set[str]) -> bool:
        nonlocal asked, at
        if asked == topics:
            await asyncio.sleep(at + _METADATA_INTERVAL_S - clock())
        asked, at = frozenset(topics), clock()
        updated: bool = await update(cluster, topics)
        return updated

    client._metadata_update = throttled


def abort(connection: AIOKafkaConnection) -> None:
    """Cut a closed connection whose last bytes the peer does not take.

    ``AIOKafkaConnection.close`` waits for them. Unnecessary if it had a way to abort.
    """
    transport = getattr(connection._protocol, "_transport", None)
    if transport is not None:
        transport.abort()


@contextmanager
def bootstrapping() -> Iterator[None]:
    """Close what aiokafka leaves open when it is cancelled while it asks for the first metadata.

    Nothing but a frame of ``AIOKafkaClient.bootstrap`` refers to its connection by then.
    Unnecessary if ``bootstrap`` closed it in a ``finally``.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        for frame, _ in walk_tb(error.__traceback__):
            connection = frame.f_locals.get("bootstrap_conn")
            if isinstance(connection, AIOKafkaConnection):
                connection.close()
                abort(connection)
        raise


def tasks_of(owners: Iterable[object]) -> list[asyncio.Task[Any]]:
    """Return the tasks that run a method of one of the owners.

    A client whose stop was cut short leaves tasks, and keeps no list of them. Unnecessary if
    ``stop`` ended them whatever happens.
    """
    identities = {id(owner) for owner in owners if owner is not None}
    return [task for task in asyncio.all_tasks() if id(_self_of(task)) in identities]


def _self_of(task: asyncio.Task[Any]) -> object:
    frame = getattr(task.get_coro(), "cr_frame", None)
    return None if frame is None else frame.f_locals.get("self")


def is_secret(frame: FrameType) -> bool:
    """Tell whether a frame holds the password, or a request with it.

    Programs that print the local variables of tracebacks would show it. Unnecessary if aiokafka
    kept the password in an object that does not print it.
    """
    module = frame.f_globals.get("__name__", "")
    return module.startswith(_SECRET_MODULES) or _SECRET_VARIABLE in frame.f_code.co_varnames


async def send_request(admin: AIOKafkaAdminClient, request: Any) -> Any:
    """Return the answer of any broker to a request.

    ``describe_topics`` always lets the broker create a topic that it is asked for. Unnecessary if
    it had a parameter for that.
    """
    return await admin._send_request(request)


# --- producers --------------------------------------------------------------------------------


def parts_of_producer(producer: AIOKafkaProducer) -> tuple[object, ...]:
    """Return the objects whose methods a producer runs as tasks; see `tasks_of`."""
    return producer, producer._sender, producer._message_accumulator


def fail_unconfirmed(producer: AIOKafkaProducer, error: BaseException) -> None:
    """Fail whatever waits for a confirmation of a producer that was closed by force.

    It would wait for ever. Unnecessary if a cancelled ``stop`` did it.
    """
    producer._message_accumulator.fail_all(error)


def has_ended(producer: AIOKafkaProducer) -> bool:
    """Tell whether a producer sends no more because its task has failed.

    It takes messages all the same. Unnecessary if ``send`` raised then.
    """
    ended: bool = producer._sender.sender_task.done()
    return ended


def waiting_topics(producer: AIOKafkaProducer) -> set[str]:
    """Return the topics to which unsent messages go.

    A deleted topic is created again for them. Unnecessary if they failed at once.
    """
    return {partition.topic for partition in producer._message_accumulator._batches}


def build(batch: BatchBuilder) -> None:
    """Build a batch, compressed as it was told when it was made.

    ``BatchBuilder.close`` only marks it, and the event loop would wait for the compression of a
    large one. Unnecessary if compression in a thread were an option.
    """
    batch._build()


# --- consumers --------------------------------------------------------------------------------


def parts_of_consumer(consumer: AIOKafkaConsumer[bytes, bytes]) -> tuple[object, ...]:
    """Return the objects whose methods a consumer runs as tasks; see `tasks_of`."""
    assignment = _assignment(consumer)
    waiter = None if assignment is None else assignment.commit_refresh_needed
    return consumer, consumer._coordinator, consumer._fetcher, waiter


def coordinator_of(consumer: AIOKafkaConsumer[bytes, bytes]) -> GroupCoordinator | None:
    """Return what joins the group; None without a group, and before the start.

    Its generation tells whether an assignment is over, its member id whether the group knows the
    consumer, its coordinator id whether a broker answers for the group. Unnecessary if the consumer
    told these.
    """
    coordinator = consumer._coordinator
    return coordinator if isinstance(coordinator, GroupCoordinator) else None


async def leave_group(coordinator: GroupCoordinator) -> None:
    """Leave the group without the rest of a consumer's stop.

    A member that is not known to have left keeps its partitions for the session timeout. The stop
    hangs, or ends in a ``CancelledError`` of its own, when brokers are down. Unnecessary if
    ``AIOKafkaConsumer.stop`` took a time limit.
    """
    await coordinator._maybe_leave_group()


def joining_task(coordinator: GroupCoordinator) -> asyncio.Task[None] | None:
    """Return the task that joins the group; None for a static member, which never leaves it.

    A stop waits for the answer to the joining, as long as a rebalance may take. Unnecessary if it
    left the group at once.
    """
    if coordinator._group_instance_id:
        return None
    task: asyncio.Task[None] = coordinator._coordination_task
    return task


async def ask_coordinator(coordinator: GroupCoordinator, request: Any) -> Any:
    """Return what the group's coordinator answers, on another connection than the joining.

    A question of aiokafka's own waits behind the joining. Unnecessary if it did not.
    """
    return await coordinator._client.send(coordinator.coordinator_id, request)


def positions(consumer: AIOKafkaConsumer[bytes, bytes]) -> dict[TopicPartition, int]:
    """Return where each partition is read next, as far as that is known.

    ``AIOKafkaConsumer.position`` waits for it. Unnecessary with a form that does not.
    """
    assignment = _assignment(consumer)
    if assignment is None:
        return {}
    states = ((partition, assignment.state_value(partition)) for partition in assignment.tps)
    return {partition: state.position for partition, state in states if state.has_valid_position}


def _assignment(consumer: AIOKafkaConsumer[bytes, bytes]) -> Any:
    subscription = consumer._subscription.subscription
    return None if subscription is None else subscription.assignment


# --- batches that cannot be unpacked ----------------------------------------------------------


def largest_fetch(consumer: AIOKafkaConsumer[bytes, bytes]) -> int:
    """Return how many bytes a consumer fetches of a partition at most.

    A batch is fetched once more with the same limit. Unnecessary if the consumer gave its options.
    """
    limit: int = consumer._fetcher._max_partition_fetch_bytes
    return limit


def base_offset_of(error: BaseException) -> int:
    """Return where the batch begins at which aiokafka has failed; 0 if it does not say.

    The position is not moved past what was skipped before (control records, aborted transactions),
    so the batch is not always the one at the position. Only the frame of the generator that has
    failed knows it. Unnecessary if the error said it.
    """
    for frame, _ in walk_tb(error.__traceback__):
        if frame.f_code.co_name == "_unpack_records" and "next_batch" in frame.f_locals:
            return int(frame.f_locals["next_batch"].base_offset)
    return 0


def split(raw: bytes) -> tuple[bytes, bytes]:
    """Return the first batch of fetched bytes, and what follows it.

    aiokafka's own iterator does not give the bytes of a batch. Unnecessary if it did.

    Raises:
        TypeError, ValueError, IndexError, struct.error, CorruptRecordException: There is no batch.

    """
    batches = memory_records._MemoryRecordsPy(raw)
    return batches._next_slice, raw[batches._pos :]


class RawBatch:
    """A batch whose records are read one by one, by their lengths.

    aiokafka's own iterator ends at the first broken record. Its compiled way to read a number does
    not look where the buffer ends, so that a wrong length ends the process: the one in Python is
    used here. Unnecessary if the iterator went on behind a broken record.

    Args:
        content: The bytes of one batch.

    """

    def __init__(self, content: bytes | bytearray) -> None:
        self._batch = default_records._DefaultRecordBatchPy(content)

    def decompress(self) -> None:
        """Make the records readable; raises whatever the codec does."""
        iter(self._batch)

    @property
    def is_intact(self) -> bool:
        """Whether the checksum is right."""
        return bool(self._batch.validate_crc())

    @property
    def magic(self) -> int:
        """The version of the format; 2 from Kafka 0.11 on."""
        return int(self._batch.magic)

    @property
    def base_offset(self) -> int:
        """The first offset."""
        return int(self._batch.base_offset)

    @property
    def next_offset(self) -> int:
        """The offset after the last one."""
        return int(self._batch.next_offset)

    @property
    def count(self) -> int:
        """How many records there should be."""
        return int(self._batch._num_records)

    @property
    def size(self) -> int:
        """The bytes of all records."""
        return len(self._batch._buffer)

    @property
    def at(self) -> int:
        """Where the next record begins, in bytes."""
        return int(self._batch._pos)

    def skip_to(self, at: int) -> None:
        """Have the next record begin elsewhere."""
        self._batch._pos = at

    def number_at(self, at: int) -> tuple[int, int]:
        """Return the number that is encoded at a place, and where it ends."""
        value, end = util.decode_varint_py(self._batch._buffer, at)
        return value, end

    def read(self) -> Any:
        """Return the next record and go on to the one after it.

        Raises:
            ValueError, IndexError, KafkaError: It is broken.

        """
        return self._batch._read_msg(util.decode_varint_py)
