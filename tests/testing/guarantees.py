"""The cases of the kit as the tables of `docs/guarantees.md`; `python -m tests.testing.guarantees`.

A table has a row for each case: its sentence, on which brokers it holds, its name, and the
capabilities that it needs.
"""

import inspect
from pathlib import Path

from pyfly_messaging.testing.conformance import CHAPTERS, Stage, cases_of, unclaimed
from tests.contract.test_kafka import TestKafka, TestKafkaOnOnePartition
from tests.contract.test_memory import TestMemory
from tests.contract.test_rabbitmq import (
    TestRabbitMQ,
    TestRabbitMQBehindAProxy,
    TestRabbitMQWithInstanceQueues,
)

PAGE = Path(__file__).parents[2] / "docs" / "guarantees.md"
BEGIN, END = "<!-- cases: begin -->\n", "<!-- cases: end -->\n"

# For each broker the suite with its defaults, and one that shows what another setting gives.
SUITES: dict[str, tuple[type[Stage], ...]] = {
    "Memory": (TestMemory,),
    "Kafka": (TestKafka, TestKafkaOnOnePartition),
    "RabbitMQ": (TestRabbitMQ, TestRabbitMQWithInstanceQueues, TestRabbitMQBehindAProxy),
}


def tables() -> str:
    """Return the tables of all chapters."""
    return "\n".join(_table(chapter) for chapter in CHAPTERS)


def page(text: str) -> str:
    """Return a page with the tables between its two marks."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def _table(chapter: type[Stage]) -> str:
    title = (inspect.getdoc(chapter) or "").splitlines()[0].rstrip(".")
    lines = [f"### {title}", "", f"| What holds | {' | '.join(SUITES)} | Case |"]
    lines.append(f"|---|{':-:|' * len(SUITES)}---|")
    lines += [_row(chapter, name) for name in cases_of(chapter)]
    return "\n".join(lines) + "\n"


def _row(chapter: type[Stage], case: str) -> str:
    paragraph = (inspect.getdoc(getattr(chapter, case)) or "").split("\n\n", maxsplit=1)[0]
    sentence = " ".join(paragraph.split()).replace("``", "`").replace("|", "\\|")
    cells = (_holds(suites, case) for suites in SUITES.values())
    needs = "".join(f", *{need}*" for need in cases_of(chapter)[case])
    return f"| {sentence} | {' | '.join(cells)} | `{case}`{needs} |"


def _holds(suites: tuple[type[Stage], ...], case: str) -> str:
    first, *others = suites
    need = unclaimed(first).get(case)
    if need is None:
        return "✓"
    for number, other in enumerate(others, 1):
        if case in cases_of(other) and case not in unclaimed(other):
            return f"✓ {'¹²³'[number - 1]}"
    return "no"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
