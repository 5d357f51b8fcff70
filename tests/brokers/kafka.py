"""Apache Kafka for tests: one node or three, which a test may kill, pause and restart."""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, Unpack
from uuid import uuid4

from .certificates import Certificates, make_certificates
from .kafka_config import (
    KafkaNode,
    KafkaOptions,
    format_data,
    server_command,
    thrown_exceptions,
    write_properties,
)
from .kafka_files import KafkaFiles, kafka_files
from .leftovers import make_folder, remove_folder
from .ports import HOST, Port
from .process import START_DEADLINE, Server, terminate, wait_for_answer
from .wire import kafka_brokers, kafka_coordinates, kafka_metadata_version


class KafkaCluster:
    """A cluster of Kafka nodes in KRaft mode, each a process of its own on loopback ports.

    The methods block: call them through `asyncio.to_thread` where an event loop runs. Nodes are
    numbered from 0; a method that takes nodes means all of them when it is given none. Nodes that
    were killed and restarted keep their ports and their data. `stop()` leaves no process and no
    file; it is called at the exit of the interpreter at the latest. The options are described at
    `KafkaOptions`.
    """

    def __init__(self, nodes: int = 1, **options: Unpack[KafkaOptions]) -> None:
        advertised = options.get("advertised_ports")
        if advertised is not None and len(advertised) != nodes:
            raise ValueError(f"{nodes} nodes need as many advertised ports, not {advertised}")
        self.version = ""
        self.origin = ""
        self._count = nodes
        self._options = options
        self._cleanup = ExitStack()
        self._nodes: list[KafkaNode] = []
        self._servers: list[Server] = []
        self._certificates: Certificates | None = None
        self._remote: str | None = None

    @classmethod
    def at(
        cls,
        bootstrap_servers: str,
        *,
        origin: str,
        version: str = "",
        end: Callable[[], None] | None = None,
    ) -> Self:
        """Return a cluster that runs elsewhere: it can be used, and neither killed nor paused.

        `start()` waits until it answers, on a listener without TLS and SASL. `stop()` calls `end`.
        """
        cluster = cls()
        cluster._remote = bootstrap_servers
        cluster.origin = origin
        cluster.version = version
        if end is not None:
            cluster._cleanup.callback(end)
        return cluster

    @property
    def bootstrap_servers(self) -> str:
        """The addresses for clients, `host:port` separated by commas."""
        if self._remote is not None:
            return self._remote
        return ",".join(f"{HOST}:{node.advertised}" for node in self._started())

    @property
    def address(self) -> str:
        """The first of the `bootstrap_servers`."""
        return self.bootstrap_servers.split(",", maxsplit=1)[0].strip()

    @property
    def listeners(self) -> list[str]:
        """Where the nodes listen for clients, `host:port`, whatever they advertise."""
        return [f"{HOST}:{node.client}" for node in self._started()]

    @property
    def pids(self) -> list[int]:
        """The process ids of the nodes, also of those that were killed."""
        self._started()
        return [server.pid for server in self._servers]

    @property
    def certificates(self) -> Certificates:
        """The certificates of a cluster with `tls`."""
        if self._certificates is None:
            raise RuntimeError("this cluster was not started with tls")
        return self._certificates

    @property
    def ca_file(self) -> Path:
        """The certificate of the authority that a client of a `tls` cluster has to trust."""
        return self.certificates.ca

    def start(self) -> None:
        """Start all nodes and return when they form a cluster that serves clients and groups.

        Raises NotAvailable when this machine cannot run Kafka, and StartError, with the end of the
        log, when a node does not come up. A failed start leaves nothing behind.
        """
        if self._remote is not None:
            self._wait_for_remote(self._remote)
            return
        if self._nodes:
            raise RuntimeError("the cluster was already started")
        files = kafka_files()
        self.version, self.origin = files.version, files.origin
        try:
            self._prepare(files)
            self._run(range(self._count))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all nodes and remove their folders; safe to call twice and after a failed start."""
        self._cleanup.close()
        self._nodes, self._servers, self._certificates = [], [], None

    def kill(self, *nodes: int) -> None:
        """End nodes with SIGKILL, as a crash would."""
        for number in self._chosen(nodes):
            self._servers[number].kill()

    def terminate(self, *nodes: int) -> None:
        """End nodes with SIGTERM, as an operator would, and wait for them."""
        terminate([self._servers[number] for number in self._chosen(nodes)])

    def pause(self, *nodes: int) -> None:
        """Freeze nodes with SIGSTOP: they keep their connections and answer nothing."""
        for number in self._chosen(nodes):
            self._servers[number].pause()

    def resume(self, *nodes: int) -> None:
        """Let paused nodes go on, and return without waiting for what they have missed."""
        for number in self._chosen(nodes):
            self._servers[number].resume()

    def restart(self, *nodes: int) -> None:
        """Start nodes again, ended first where they run, and return when the cluster has them."""
        self.terminate(*nodes)
        self._run(self._chosen(nodes))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _started(self) -> list[KafkaNode]:
        if not self._nodes:
            raise RuntimeError("the nodes of this cluster are not ours, or not started")
        return self._nodes

    def _chosen(self, numbers: Sequence[int]) -> Sequence[int]:
        return numbers or range(len(self._started()))

    def _prepare(self, files: KafkaFiles) -> None:
        """Make what the nodes need before they start; whatever is made is undone by `stop()`."""
        folder = make_folder("kafka")
        self._cleanup.callback(remove_folder, folder)
        if self._options.get("tls") or self._options.get("client_certificates"):
            self._certificates = make_certificates(folder)
        for number in range(self._count):
            self._nodes.append(self._make_node(number, folder))
        for node in self._nodes:
            write_properties(node, self._nodes, self._options, self._certificates)
            self._servers.append(self._make_server(node, files))
        cluster = str(uuid4())
        with ThreadPoolExecutor() as pool:
            for done in [
                pool.submit(format_data, node, files, cluster, self._options)
                for node in self._nodes
            ]:
                done.result()

    def _make_node(self, number: int, folder: Path) -> KafkaNode:
        home = folder / f"node-{number}"
        home.mkdir()
        client = self._reserve(self._options.get("port") if number == 0 else None)
        advertised = self._options.get("advertised_ports")
        return KafkaNode(
            number=number,
            client=client,
            internal=self._reserve(),
            controller=self._reserve(),
            advertised=client if advertised is None else advertised[number],
            folder=home,
        )

    def _reserve(self, number: int | None = None) -> int:
        port = Port(number)
        self._cleanup.callback(port.release)
        return port.number

    def _make_server(self, node: KafkaNode, files: KafkaFiles) -> Server:
        server = Server(
            f"kafka-{node.number}",
            server_command(files, self._options),
            folder=node.folder,
            environ=os.environ,
            explain=lambda: thrown_exceptions(node.folder),
        )
        self._cleanup.callback(server.kill)
        return server

    def _run(self, numbers: Sequence[int]) -> None:
        """Start nodes, and wait until each sees all that run and knows who coordinates groups."""
        deadline = time.monotonic() + START_DEADLINE
        for number in numbers:
            self._servers[number].start()
        expected = {
            node.id
            for node, server in zip(self._nodes, self._servers, strict=True)
            if server.running and not server.paused
        }
        for number in numbers:
            ready = partial(_serves, self._nodes[number].internal, expected)
            self._servers[number].wait_until(ready, deadline)

    def _wait_for_remote(self, bootstrap_servers: str) -> None:
        host, _, port = bootstrap_servers.split(",", maxsplit=1)[0].strip().rpartition(":")
        wait_for_answer(lambda: kafka_brokers(host, int(port)), f"Kafka at {host}:{port}")
        if not self.version:
            self.version = f"metadata.version {kafka_metadata_version(host, int(port))}"


class KafkaFactory(Protocol):
    """Starts a private cluster, which ends with the test that asked for it."""

    def __call__(self, nodes: int = 1, **options: Unpack[KafkaOptions]) -> KafkaCluster:
        """Start a cluster of 1 or 3 nodes; the options are described at `KafkaOptions`."""


def _serves(port: int, expected: set[int]) -> bool:
    try:
        return kafka_brokers(HOST, port) >= expected and kafka_coordinates(HOST, port)
    except (OSError, ValueError):
        return False
