"""Brokers in containers, for a machine that cannot run them itself but has a Docker engine.

Each run has a project of its own and ports of its own, so it meets neither another run nor the
services that a person started from the same `compose.yaml`.
"""

import atexit
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import TypeVar

from .install import NotAvailable
from .kafka import KafkaCluster
from .ports import HOST, Port
from .rabbitmq import RabbitCluster

_FILE = Path(__file__).parents[2] / "compose.yaml"
ClusterT = TypeVar("ClusterT", KafkaCluster, RabbitCluster)

_ORIGIN = "Docker Compose"


def compose_kafka(missing: NotAvailable) -> KafkaCluster:
    """Return a running Kafka in a container; raise `missing` where there is no Docker engine."""
    service = _Service("kafka", "KAFKA_PORT", missing)
    version = re.search(r"image: apache/kafka:(\S+)", _FILE.read_text())
    cluster = KafkaCluster.at(
        f"{HOST}:{service.port}",
        origin=_ORIGIN,
        version=version.group(1) if version else "",
        end=service.remove,
    )
    return _answering(cluster)


def compose_rabbitmq(missing: NotAvailable) -> RabbitCluster:
    """Return a running RabbitMQ in a container; raise `missing` where there is no Docker engine."""
    service = _Service("rabbitmq", "RABBITMQ_PORT", missing)
    url = f"amqp://guest:guest@{HOST}:{service.port}/"
    return _answering(RabbitCluster.at(url, origin=_ORIGIN, end=service.remove))


def _answering(cluster: ClusterT) -> ClusterT:
    try:
        cluster.start()
    except BaseException:
        cluster.stop()
        raise
    return cluster


class _Service:
    """One service of `compose.yaml`, started on construction, on a free port of the host."""

    def __init__(self, name: str, port_variable: str, missing: NotAvailable) -> None:
        if not engine_answers():
            raise missing
        port = Port()
        port.release()
        self.port = port.number
        # Port 0 lets Docker choose one: no test uses the management page.
        self._environ = {
            **os.environ,
            "RABBITMQ_MANAGEMENT_PORT": "0",
            port_variable: str(self.port),
        }
        self._command = ["docker", "compose", "-p", f"pyfly-tests-{name}-{os.getpid()}"]
        self._command += ["-f", str(_FILE)]
        atexit.register(self.remove)
        try:
            self._compose("up", "--wait", name)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Remove the container and its data; safe to call twice."""
        atexit.unregister(self.remove)
        self._compose("down", "--volumes", "--timeout", "5")

    def _compose(self, *arguments: str) -> None:
        done = subprocess.run(
            [*self._command, *arguments],
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise NotAvailable(f"docker compose {arguments[0]} failed: {done.stdout.strip()}")


@cache
def engine_answers() -> bool:
    """Whether this machine has Docker Compose, and an engine behind it that answers."""
    docker = shutil.which("docker")
    if docker is None or not _FILE.exists():
        return False
    for question in (["compose", "version"], ["version"]):
        try:
            asked = subprocess.run(
                [docker, *question], capture_output=True, timeout=20, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        if asked.returncode != 0:
            return False
    return True
