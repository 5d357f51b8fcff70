"""Run the benchmarks: `python -m tests.benchmarks [configuration|memory|kafka|rabbitmq ...]`."""

import argparse
import logging
from collections.abc import Sequence
from contextlib import ExitStack

from rich.console import Console
from rich.table import Table

from tests.benchmarks import configuration, kafka, memory, rabbitmq
from tests.benchmarks.harness import Contest, Figures, measure
from tests.brokers import KafkaCluster, RabbitCluster


def main() -> None:
    """Measure what the arguments name and print a table for each contest."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "only", nargs="*", help="configuration, memory, kafka, rabbitmq; all by default"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each contest (5)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the messages (1.0)")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    chosen = options.only or ["configuration", "memory", "kafka", "rabbitmq"]
    console = Console()
    if "configuration" in chosen:
        with console.status("") as status:
            console.print(configuration.report(options.scale, status.update))
    with ExitStack() as stack:
        for contest in _contests(chosen, options.scale, stack):
            with console.status("") as status:
                figures = measure(contest, options.rounds, status.update)
            console.print(_table(contest, figures, options.rounds))


def _contests(chosen: Sequence[str], scale: float, stack: ExitStack) -> list[Contest]:
    contests: list[Contest] = []
    if "memory" in chosen:
        contests += memory.contests(scale)
    if "kafka" in chosen:
        contests += kafka.contests(stack.enter_context(KafkaCluster()).bootstrap_servers, scale)
    if "rabbitmq" in chosen:
        contests += rabbitmq.contests(stack.enter_context(RabbitCluster()).url, scale)
    return contests


def _table(contest: Contest, figures: dict[str, Figures], rounds: int) -> Table:
    table = Table(title=f"{contest.name}: {contest.messages} messages, median of {rounds} rounds")
    for heading in ("", "messages/s", "ratio", "CPU s per 1,000", "CPU ratio"):
        table.add_column(heading, justify="left" if not heading else "right")
    measure_of_all = figures[contest.contestants[0].name]
    for name, figure in figures.items():
        table.add_row(
            name,
            f"{figure.rate:,.0f}",
            f"{figure.rate / measure_of_all.rate:.2f}",
            f"{figure.cpu_per_thousand:.4f}",
            f"{measure_of_all.cpu_per_thousand / figure.cpu_per_thousand:.2f}",
        )
    return table


if __name__ == "__main__":
    main()
