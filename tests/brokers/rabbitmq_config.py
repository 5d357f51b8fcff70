"""What a RabbitMQ node of the tests is told: its environment and its files."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from .certificates import Certificates
from .ports import HOST

_ON_LOOPBACK = "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}"


class RabbitOptions(TypedDict, total=False):
    """How a cluster differs from a plain one; all of it may be left out.

    `users` maps further users to passwords; each may do everything in the virtual host `/`, as
    guest may. `tls` makes certificates and adds a listener that shows them; `client_certificates`
    implies it and demands one from clients too. `config` is added to every node's `rabbitmq.conf`.
    `port` is the first node's port, where it must be a certain one. `version` 4 is another RabbitMQ
    than the machine's: the one of Debian 13, which takes root to run, and a minute to unpack once.
    """

    version: Literal["machine", "4"]
    users: Mapping[str, str]
    tls: bool
    client_certificates: bool
    config: Mapping[str, object]
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RabbitNode:
    """One node, with its ports for AMQP, for AMQP over TLS, and for Erlang's own protocol."""

    number: int
    amqp: int
    amqps: int | None
    distribution: int
    folder: Path

    @property
    def name(self) -> str:
        """The node's name in Erlang."""
        return f"rabbit-{self.number}@localhost"


def node_environ(node: RabbitNode, home: Path, mapper: int) -> dict[str, str]:
    """Return the environment of a node and of the tools that control it.

    `mapper` is the port of the cluster's epmd. Every file that RabbitMQ would look for elsewhere
    is sent to the node's folder, so that nothing of the system's own node is read or written.
    """
    return {
        **base_environ(home),
        "ERL_EPMD_PORT": str(mapper),
        "ERL_CRASH_DUMP_SECONDS": "0",
        "RABBITMQ_NODENAME": node.name,
        "RABBITMQ_NODE_PORT": str(node.amqp),
        "RABBITMQ_DIST_PORT": str(node.distribution),
        "RABBITMQ_MNESIA_BASE": str(node.folder / "data"),
        "RABBITMQ_LOG_BASE": str(node.folder / "log"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_CONFIG_FILE": str(node.folder / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(node.folder / "advanced.config"),
        "RABBITMQ_CONF_ENV_FILE": str(node.folder / "rabbitmq-env.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(node.folder / "enabled_plugins"),
        "RABBITMQ_PID_FILE": str(node.folder / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ON_LOOPBACK,
        "RABBITMQ_CTL_ERL_ARGS": _ON_LOOPBACK,
        # Makes the script become the Erlang machine, rather than wait for it in a shell.
        "RUNNING_UNDER_SYSTEMD": "true",
    }


def base_environ(home: Path) -> dict[str, str]:
    """Return an environment with nothing in it that Erlang or RabbitMQ could take amiss."""
    path = os.environ.get("PATH", os.defpath)
    return {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}


def write_files(
    node: RabbitNode,
    nodes: Sequence[RabbitNode],
    options: RabbitOptions,
    certificates: Certificates | None,
) -> None:
    """Write the node's configuration."""
    settings: dict[str, object] = {
        "listeners.tcp.1": f"{HOST}:{node.amqp}",
        "default_user": "guest",
        "default_pass": "guest",
        "log.console.level": "info",
        "disk_free_limit.absolute": "1MB",
        **_peers(node, nodes),
        **({} if certificates is None else _tls(node, options, certificates)),
        **options.get("config", {}),
    }
    lines = (f"{name} = {_written(value)}\n" for name, value in settings.items())
    (node.folder / "rabbitmq.conf").write_text("".join(lines))
    (node.folder / "enabled_plugins").write_text("[].\n")


def _peers(node: RabbitNode, nodes: Sequence[RabbitNode]) -> dict[str, object]:
    """Let every node but the first join the first; it has to know of itself, too."""
    if node.number == 0:
        return {}
    prefix = "cluster_formation"
    return {
        f"{prefix}.peer_discovery_backend": "classic_config",
        f"{prefix}.classic_config.nodes.1": nodes[0].name,
        f"{prefix}.classic_config.nodes.2": node.name,
    }


def _tls(node: RabbitNode, options: RabbitOptions, made: Certificates) -> dict[str, object]:
    demanded = options.get("client_certificates", False)
    return {
        "listeners.ssl.1": f"{HOST}:{node.amqps}",
        "ssl_options.cacertfile": made.ca,
        "ssl_options.certfile": made.server,
        "ssl_options.keyfile": made.server_key,
        "ssl_options.verify": "verify_peer" if demanded else "verify_none",
        "ssl_options.fail_if_no_peer_cert": demanded,
    }


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
