"""What a page of the documentation shows of the command, run again and compared.

A YAML block whose first line is a comment with a path is a file. A console block with a command of
ours is a session: each `$ ` begins a command, `export` lasts until the page ends. After a change
that is meant, `python -m tests.cli.pages docs/configuration.md` writes the new output.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMMAND = "pyfly-messaging"
_BLOCK = re.compile(r"^```(yaml|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# (\S+\.yaml)\n")
_EXPORT = re.compile(r"export (\w+)=(.*)")


@dataclass(frozen=True, slots=True)
class Shown:
    """A command of a page, the output that it shows, and where."""

    command: str
    output: str
    line: int


class Session:
    """A directory and an environment, in which the blocks of one page are played in order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        commands = folder / "bin"
        commands.mkdir()
        script = commands / COMMAND
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pyfly_messaging.cli "$@"\n')
        script.chmod(0o755)
        root = Path(__file__).parent.parent.parent
        self.environ = {
            "PATH": f"{commands}:/usr/bin:/bin",
            "PYTHONPATH": str(root),
            "HOME": str(folder),
        }
        self.work = folder / "work"
        self.work.mkdir()
        self._status = 0

    def play(self, text: str) -> Iterator[tuple[Shown, str]]:
        """Yield each command of a page as it is shown, with its real output."""
        for file, shown in steps(text):
            if shown is not None:
                yield shown, self.run(shown.command)
            elif match := _FILE.match(file):
                path = self.work / match[1]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(file)

    def run(self, command: str) -> str:
        """Run a command; return what it prints."""
        if match := _EXPORT.fullmatch(command):
            self.environ[match[1]] = match[2]
            return ""
        # The status of the command before, for `echo $?`.
        script = f"(exit {self._status}); {command}"
        done = subprocess.run(
            ["/bin/sh", "-c", script],
            cwd=self.work,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        self._status = done.returncode
        return done.stdout


def steps(text: str) -> Iterator[tuple[str, Shown | None]]:
    """Yield the YAML blocks of a page and the commands of its sessions, in order."""
    for block in _BLOCK.finditer(text):
        kind, body = block.groups()
        if kind == "yaml":
            yield body, None
        elif is_session(body):
            for shown in commands_of(body, text.count("\n", 0, block.start(2)) + 1):
                yield "", shown


def is_session(body: str) -> bool:
    """Tell whether a console block uses the command, and nothing that only shows how."""
    return re.search(rf"^\$ {COMMAND} ", body, re.MULTILINE) is not None


def commands_of(body: str, line: int) -> Iterator[Shown]:
    """Yield the commands of a console block; a comment after two blanks is not a part of them."""
    command, output, begin = "", "", line
    for number, text in enumerate(body.splitlines(), line):
        if text.startswith("$ "):
            if command:
                yield Shown(command, output, begin)
            command, output, begin = re.split(r"\s{2,}#", text[2:])[0].strip(), "", number
        else:
            output += f"{text}\n"
    if command:
        yield Shown(command, output, begin)


def rewrite(page: Path) -> None:
    """Write the real output of all commands into a page."""
    text = page.read_text()
    with tempfile.TemporaryDirectory() as folder:
        played = list(Session(Path(folder)).play(text))

    lines = text.splitlines(keepends=True)
    for shown, output in reversed(played):
        lines[shown.line : shown.line + shown.output.count("\n")] = [output]
    page.write_text("".join(lines))


if __name__ == "__main__":
    os.environ.clear()
    for name in sys.argv[1:]:
        rewrite(Path(name))
