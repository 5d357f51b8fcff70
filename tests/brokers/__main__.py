"""Run one Kafka and one RabbitMQ until Ctrl-C: `python -m tests.brokers`."""

import argparse
import contextlib
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Never

from .install import NotAvailable
from .kafka import KafkaCluster
from .kafka_files import kafka_files
from .process import StartError
from .rabbitmq import RabbitCluster
from .rabbitmq_files import rabbit_files
from .shared import KAFKA_ADDRESS, RABBITMQ_ADDRESS


def main() -> int:
    """Install or run what the arguments ask for, and return the exit code."""
    options = _parser().parse_args()
    kafka = options.kafka or not options.rabbitmq
    rabbitmq = options.rabbitmq or not options.kafka
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if options.install:
            _install(kafka, rabbitmq)
        else:
            _run(kafka, rabbitmq, default_ports=options.default_ports)
    except KeyboardInterrupt:
        print("ended", file=sys.stderr)
    except (NotAvailable, StartError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.brokers", description=__doc__)
    parser.add_argument("--kafka", action="store_true", help="only Kafka (default: both)")
    parser.add_argument("--rabbitmq", action="store_true", help="only RabbitMQ (default: both)")
    parser.add_argument("--default-ports", action="store_true", help="use ports 9092 and 5672")
    parser.add_argument("--install", action="store_true", help="only install what is missing")
    return parser


def _interrupt(number: int, frame: FrameType | None) -> Never:
    raise KeyboardInterrupt


def _install(kafka: bool, rabbitmq: bool) -> None:
    if kafka:
        files = kafka_files()
        print(f"Apache Kafka {files.version}: {files.classpath}")
    if rabbitmq:
        print(f"RabbitMQ: {rabbit_files().scripts}")


def _run(kafka: bool, rabbitmq: bool, *, default_ports: bool) -> None:
    clusters: list[KafkaCluster | RabbitCluster] = []
    if kafka:
        clusters.append(KafkaCluster(port=9092) if default_ports else KafkaCluster())
    if rabbitmq:
        clusters.append(RabbitCluster(port=5672) if default_ports else RabbitCluster())
    with contextlib.ExitStack() as stack:
        for cluster in clusters:
            stack.callback(cluster.stop)
        with ThreadPoolExecutor() as pool:
            for started in [pool.submit(cluster.start) for cluster in clusters]:
                started.result()
        for cluster in clusters:
            print("\n".join(_lines(cluster)), flush=True)
        print("# running until Ctrl-C", flush=True)
        while True:
            time.sleep(3600)


def _lines(cluster: KafkaCluster | RabbitCluster) -> list[str]:
    """Say what runs and where, as shell commands, so that `eval` takes them too."""
    if isinstance(cluster, KafkaCluster):
        return [
            f"# Apache Kafka {cluster.version} at {cluster.bootstrap_servers}",
            f"export {KAFKA_ADDRESS}={cluster.bootstrap_servers}",
            f"export PYFLY_MESSAGING__KAFKA__BOOTSTRAP_SERVERS={cluster.bootstrap_servers}",
        ]
    return [
        f"# RabbitMQ {cluster.version} at {cluster.url}",
        f"export {RABBITMQ_ADDRESS}={cluster.url}",
        f"export PYFLY_MESSAGING__RABBITMQ__URL={cluster.url}",
    ]


if __name__ == "__main__":
    sys.exit(main())
