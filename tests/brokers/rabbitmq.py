"""RabbitMQ for tests: one node or three, which a test may kill, pause and restart."""

import os
import secrets
import ssl
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, Unpack
from urllib.parse import quote, urlsplit

from .certificates import Certificates, make_certificates
from .leftovers import make_folder, remove_folder
from .ports import HOST, Port, answers
from .process import START_DEADLINE, Server, identity, terminate, wait_for_answer
from .rabbitmq_config import RabbitNode, RabbitOptions, base_environ, node_environ, write_files
from .rabbitmq_files import RabbitFiles, rabbit4_files, rabbit_files
from .wire import rabbitmq_version


class RabbitCluster:
    """A cluster of RabbitMQ nodes, each a process of its own on loopback ports.

    The methods block: call them through `asyncio.to_thread` where an event loop runs. Nodes are
    numbered from 0; a method that takes nodes means all of them when it is given none. Nodes that
    were killed and restarted keep their ports and their data. `stop()` leaves no process and no
    file; it is called at the exit of the interpreter at the latest. The options are described at
    `RabbitOptions`. A cluster has a port mapper (epmd) and an Erlang cookie of its own.
    """

    def __init__(self, nodes: int = 1, **options: Unpack[RabbitOptions]) -> None:
        self.version = ""
        self.origin = ""
        self._count = nodes
        self._options = options
        self._cleanup = ExitStack()
        self._files: RabbitFiles | None = None
        self._environs: list[dict[str, str]] = []
        self._nodes: list[RabbitNode] = []
        self._servers: list[Server] = []
        self._certificates: Certificates | None = None
        self._remote: str | None = None

    @classmethod
    def at(cls, url: str, *, origin: str, end: Callable[[], None] | None = None) -> Self:
        """Return a cluster that runs elsewhere: it can be used, and neither killed nor paused.

        `start()` waits until it answers. `stop()` calls `end`.
        """
        cluster = cls()
        cluster._remote = url
        cluster.origin = origin
        if end is not None:
            cluster._cleanup.callback(end)
        return cluster

    @property
    def url(self) -> str:
        """The AMQP URL of the first node, as guest."""
        return self._remote if self._remote is not None else self.url_for("guest", "guest")

    @property
    def urls(self) -> list[str]:
        """The AMQP URL of every node, as guest."""
        return [self.url_for("guest", "guest", node=node.number) for node in self._started()]

    @property
    def address(self) -> str:
        """The first node's `host:port`."""
        if self._remote is not None:
            host, port = _host_and_port(self._remote)
            return f"{host}:{port}"
        return self.listeners[0]

    @property
    def listeners(self) -> list[str]:
        """Where the nodes listen for AMQP, `host:port`."""
        return [f"{HOST}:{node.amqp}" for node in self._started()]

    @property
    def tls_url(self) -> str:
        """The AMQPS URL of the first node of a cluster with `tls`, as guest."""
        amqps = self._started()[0].amqps
        if amqps is None:
            raise RuntimeError("this cluster was not started with tls")
        return f"amqps://guest:guest@localhost:{amqps}/"

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

    def url_for(
        self,
        user: str,
        password: str,
        *,
        node: int = 0,
        port: int | None = None,
        virtual_host: str = "/",
    ) -> str:
        """Return a URL for this user, at `port` (a proxy's, say) if that is given.

        What needs it is escaped.
        """
        path = "" if virtual_host == "/" else quote(virtual_host, safe="")
        credentials = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"amqp://{credentials}@{HOST}:{port or self._started()[node].amqp}/{path}"

    def start(self) -> None:
        """Start all nodes and return when they form a cluster that greets clients.

        Raises NotAvailable when this machine cannot run RabbitMQ, and StartError, with the end of
        the log, when a node does not come up. A failed start leaves nothing behind.
        """
        if self._remote is not None:
            self.version = _remote_version(self._remote)
            return
        if self._nodes:
            raise RuntimeError("the cluster was already started")
        fourth = self._options.get("version") == "4"
        self._files = rabbit4_files() if fourth else rabbit_files()
        self.origin = self._files.origin
        try:
            self._prepare(self._files)
            # The first node founds the cluster; the others look for it when they start.
            self._run(range(1))
            self._run(range(1, self._count))
            if self._count > 1:
                self.control("await_online_nodes", str(self._count))
            self.version = rabbitmq_version(HOST, self._nodes[0].amqp)
            for name, password in self._options.get("users", {}).items():
                self.add_user(name, password)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all nodes and remove their folders; safe to call twice and after a failed start."""
        self._cleanup.close()
        self._nodes, self._servers, self._environs, self._certificates = [], [], [], None

    def kill(self, *nodes: int) -> None:
        """End nodes with SIGKILL, as a crash would.

        A quorum queue that was declared within the last second may not outlive that: see
        `remember_queues()`.
        """
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
        """Start nodes again, ended first where they run, and return when they greet clients."""
        self.terminate(*nodes)
        self._run(self._chosen(nodes))

    def control(self, *arguments: str, node: int = 0) -> str:
        """Run `rabbitmqctl` against a node and return what it prints.

        Raises RuntimeError with its output when it fails.
        """
        chosen = self._started()[node]
        if self._files is None:
            raise RuntimeError("rabbitmqctl reaches only a cluster that was started here")
        tool = [f"{self._files.scripts}/rabbitmqctl", "-q", "-n", chosen.name, *arguments]
        done = subprocess.run(
            self._files.command(*tool, folder=chosen.folder.parent),
            cwd=chosen.folder,
            env=self._environs[node],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=START_DEADLINE,
            check=False,
            **identity(self._files.runs_as),
        )
        if done.returncode != 0:
            raise RuntimeError(f"rabbitmqctl {arguments[0]} failed: {done.stdout.strip()}")
        return done.stdout

    def add_user(self, name: str, password: str, *, virtual_host: str = "/") -> None:
        """Add a user who may do everything in this virtual host."""
        self.control("add_user", name, password)
        self.control("set_permissions", "-p", virtual_host, name, ".*", ".*", ".*")

    def add_virtual_host(self, name: str) -> None:
        """Add a virtual host in which guest may do everything."""
        self.control("add_vhost", name)
        self.control("set_permissions", "-p", name, "guest", ".*", ".*", ".*")

    def remember_queues(self) -> None:
        """Write down on every node which quorum queues it has, so that a crash cannot lose one.

        RabbitMQ does this by itself within a second of the declaration. A node that is killed
        earlier and has no peer comes back with a queue that never elects a leader, in which every
        publish hangs (seen with 3.10.8 and 4.0.5): no fault of a client.
        """
        for node in self._started():
            if self._servers[node.number].running:
                self.control("eval", "[dets:sync(T) || T <- dets:all()].", node=node.number)

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

    def _started(self) -> list[RabbitNode]:
        if not self._nodes:
            raise RuntimeError("the nodes of this cluster are not ours, or not started")
        return self._nodes

    def _chosen(self, numbers: Sequence[int]) -> Sequence[int]:
        return numbers or range(len(self._started()))

    def _prepare(self, files: RabbitFiles) -> None:
        """Make what the nodes need before they start; whatever is made is undone by `stop()`."""
        folder = make_folder("rabbitmq", files.owner)
        self._cleanup.callback(remove_folder, folder)
        if self._options.get("tls") or self._options.get("client_certificates"):
            self._certificates = make_certificates(folder)
        for number in range(self._count):
            self._nodes.append(self._make_node(number, folder))
        mapper = self._reserve()
        for node in self._nodes:
            write_files(node, self._nodes, self._options, self._certificates)
            self._environs.append(node_environ(node, folder, mapper))
        _write_cookie(folder)
        if files.owner is not None:
            for path in folder.rglob("*"):
                os.chown(path, *files.owner)
        self._start_mapper(files, folder, mapper)
        for node, environ in zip(self._nodes, self._environs, strict=True):
            self._servers.append(self._make_server(node, files, environ))

    def _make_node(self, number: int, folder: Path) -> RabbitNode:
        home = folder / f"node-{number}"
        home.mkdir()
        return RabbitNode(
            number=number,
            amqp=self._reserve(self._options.get("port") if number == 0 else None),
            amqps=self._reserve() if self._certificates is not None else None,
            distribution=self._reserve(),
            folder=home,
        )

    def _reserve(self, number: int | None = None) -> int:
        port = Port(number)
        self._cleanup.callback(port.release)
        return port.number

    def _make_server(self, node: RabbitNode, files: RabbitFiles, environ: dict[str, str]) -> Server:
        server = Server(
            f"rabbitmq-{node.number}",
            files.command(f"{files.scripts}/rabbitmq-server", folder=node.folder.parent),
            folder=node.folder,
            environ=environ,
            owner=files.runs_as,
        )
        self._cleanup.callback(server.kill)
        return server

    def _start_mapper(self, files: RabbitFiles, folder: Path, port: int) -> None:
        """Start a port mapper for this cluster alone, which ends with it."""
        mapper = Server(
            "epmd",
            files.command(files.epmd, "-port", str(port), "-address", HOST, folder=folder),
            folder=folder,
            environ=base_environ(folder),
            owner=files.runs_as,
        )
        self._cleanup.callback(mapper.kill)
        mapper.start()
        mapper.wait_until(lambda: answers(HOST, port), time.monotonic() + START_DEADLINE)

    def _run(self, numbers: Sequence[int]) -> None:
        """Start nodes, and wait until each says that it is up and greets a client."""
        deadline = time.monotonic() + START_DEADLINE
        for number in numbers:
            self._servers[number].start()
        for number in numbers:
            server = self._servers[number]
            server.wait_until(partial(_serves, server, self._nodes[number].amqp), deadline)


class RabbitFactory(Protocol):
    """Starts a private cluster, which ends with the test that asked for it."""

    def __call__(self, nodes: int = 1, **options: Unpack[RabbitOptions]) -> RabbitCluster:
        """Start a cluster of 1 or 3 nodes; the options are described at `RabbitOptions`."""


def _serves(server: Server, port: int) -> bool:
    """Whether a node has said that it is up; it opens its port a little before that."""
    if "Server startup complete" not in server.output():
        return False
    try:
        return rabbitmq_version(HOST, port) != ""
    except (OSError, ValueError):
        return False


def _write_cookie(folder: Path) -> None:
    cookie = folder / ".erlang.cookie"
    cookie.write_text(secrets.token_hex(20))
    cookie.chmod(0o400)


def _remote_version(url: str) -> str:
    host, port = _host_and_port(url)
    tls: ssl.SSLContext | None = None
    if url.startswith("amqps:"):
        tls = ssl.create_default_context()
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    return wait_for_answer(lambda: rabbitmq_version(host, port, tls), f"RabbitMQ at {host}:{port}")


def _host_and_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "localhost", parts.port or (5671 if parts.scheme == "amqps" else 5672)
