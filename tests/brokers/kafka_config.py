"""What a Kafka node of the tests is told: its properties, and the format of its data folder."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from .certificates import Certificates
from .kafka_files import KafkaFiles
from .ports import HOST
from .process import StartError

_PASSWORD_FILES = ("SCRAM-SHA-256", "SCRAM-SHA-512")
_SECURITY = "org.apache.kafka.common.security"


class KafkaOptions(TypedDict, total=False):
    """How a cluster differs from a plain one; all of it may be left out.

    `sasl` maps users to passwords, for PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512. `tls` makes
    certificates and protects the clients' listener with them; `client_certificates` implies it and
    demands one from clients too. `auto_create_topics` lets the broker create what a client names.
    `config` is added to every node's `server.properties`. `advertised_ports`, one for each node,
    are told to clients instead of the nodes' own, so that a proxy can stand between. `port` is the
    first node's port, where it must be a certain one. `brief` says that the cluster lives for
    seconds: then Java compiles fast, not well, which saves a third of the work of a start.
    """

    sasl: Mapping[str, str]
    tls: bool
    client_certificates: bool
    auto_create_topics: bool
    config: Mapping[str, object]
    advertised_ports: Sequence[int]
    port: int
    brief: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaNode:
    """One broker, which is a controller too, with the ports on which it listens.

    Clients use `client`, with whatever protection was asked for, and are sent to `advertised`. The
    brokers among themselves, and the question whether the node is ready, use `internal`, which is
    always plain.
    """

    number: int
    client: int
    internal: int
    controller: int
    advertised: int
    folder: Path

    @property
    def id(self) -> int:
        """The node's number as Kafka knows it."""
        return self.number + 1


def write_properties(
    node: KafkaNode,
    nodes: Sequence[KafkaNode],
    options: KafkaOptions,
    certificates: Certificates | None,
) -> None:
    """Write the node's `server.properties`."""
    properties = {
        **_addresses(node, nodes, options),
        **_sizes(len(nodes)),
        **_sasl(options.get("sasl", {})),
        **({} if certificates is None else _tls(node, options, certificates)),
        "log.dirs": node.folder / "data",
        "auto.create.topics.enable": options.get("auto_create_topics", False),
        **options.get("config", {}),
    }
    lines = (f"{name}={_written(value)}\n" for name, value in properties.items())
    (node.folder / "server.properties").write_text("".join(lines))


def format_data(node: KafkaNode, files: KafkaFiles, cluster: str, options: KafkaOptions) -> None:
    """Prepare the node's data folder, without which Kafka refuses to start.

    This is also where Kafka first reads its properties: raises StartError with what it says.
    """
    java = [files.java, "-XX:TieredStopAtLevel=1", "-cp", files.classpath]
    tool = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", "server.properties"]
    users = [
        argument
        for name, password in options.get("sasl", {}).items()
        for mechanism in _PASSWORD_FILES
        for argument in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
    ]
    done = subprocess.run(
        [*java, *tool, *users],
        cwd=node.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise StartError(f"Kafka refused its configuration:\n{done.stdout.strip()}")


def server_command(files: KafkaFiles, options: KafkaOptions) -> list[str]:
    """Return the command that runs a node in its folder."""
    thrown = "-Xlog:exceptions=info:file=exceptions.log:none:filecount=1,filesize=1M"
    compiling = ["-XX:TieredStopAtLevel=1"] if options.get("brief") else []
    java = [files.java, "-Xmx512m", *compiling, thrown, "-cp", files.classpath]
    return [*java, "kafka.Kafka", "server.properties"]


def thrown_exceptions(folder: Path, last: int = 12) -> str:
    """Return the last different exceptions that Java threw in this node.

    Kafka says why it ends only through a logging library, of which the class path has none. Java
    itself can write down every exception that is thrown: the reason is among the last.
    """
    log = folder / "exceptions.log"
    if not log.exists():
        return ""
    text = log.read_text(errors="replace")
    found = re.findall(r"^Exception <a '([^']+)'\{[^}]*\}(.*)>$", text, re.MULTILINE)
    told = dict.fromkeys(
        f"{kind.replace('/', '.')}{message}"
        for kind, message in found
        if not kind.endswith(("/NoSuchMethodError", "/InterruptedException", "/EOFException"))
    )
    return "\n".join(list(told)[-last:])


def _addresses(
    node: KafkaNode, nodes: Sequence[KafkaNode], options: KafkaOptions
) -> dict[str, object]:
    tls = options.get("tls") or options.get("client_certificates")
    protocol = ("SASL_" if options.get("sasl") else "") + ("SSL" if tls else "PLAINTEXT")
    return {
        "process.roles": "broker,controller",
        "node.id": node.id,
        "controller.quorum.voters": ",".join(
            f"{each.id}@{HOST}:{each.controller}" for each in nodes
        ),
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "INTERNAL",
        "listeners": f"CLIENT://{HOST}:{node.client},INTERNAL://{HOST}:{node.internal},"
        f"CONTROLLER://{HOST}:{node.controller}",
        "advertised.listeners": f"CLIENT://{HOST}:{node.advertised},"
        f"INTERNAL://{HOST}:{node.internal}",
        "listener.security.protocol.map": f"CLIENT:{protocol},"
        "INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
    }


def _sizes(nodes: int) -> dict[str, object]:
    """Replicate what can be, and keep the waits short and Kafka's own topics small."""
    in_sync = max(1, nodes - 1)
    sizes: dict[str, object] = {
        "num.partitions": 1,
        "default.replication.factor": nodes,
        "min.insync.replicas": in_sync,
        # Kafka waits three seconds for more members before the first round of a new group.
        "group.initial.rebalance.delay.ms": 0,
        # A broker that was killed is missed after this time, and can come back only then.
        "broker.session.timeout.ms": 4000,
        "broker.heartbeat.interval.ms": 500,
    }
    # By default these have 50 partitions each, which makes a first start slow.
    for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
        sizes[f"{topic}.num.partitions"] = 4
        sizes[f"{topic}.replication.factor"] = nodes
    sizes["transaction.state.log.min.isr"] = in_sync
    sizes["share.coordinator.state.topic.min.isr"] = in_sync
    return sizes


def _sasl(users: Mapping[str, str]) -> dict[str, object]:
    if not users:
        return {}
    listener = "listener.name.client"
    known = " ".join(f'user_{name}="{password}"' for name, password in users.items())
    properties: dict[str, object] = {
        f"{listener}.sasl.enabled.mechanisms": ",".join(("PLAIN", *_PASSWORD_FILES)),
        f"{listener}.plain.sasl.jaas.config": (
            f"{_SECURITY}.plain.PlainLoginModule required {known};"
        ),
    }
    for mechanism in _PASSWORD_FILES:
        properties[f"{listener}.{mechanism.lower()}.sasl.jaas.config"] = (
            f"{_SECURITY}.scram.ScramLoginModule required;"
        )
    return properties


def _tls(node: KafkaNode, options: KafkaOptions, made: Certificates) -> dict[str, object]:
    keystore = node.folder / "keystore.pem"
    keystore.write_text(made.server_key.read_text() + made.server.read_text())
    demanded = "required" if options.get("client_certificates") else "none"
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": keystore,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": made.ca,
        "listener.name.client.ssl.client.auth": demanded,
    }


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).replace("\\", "\\\\")
