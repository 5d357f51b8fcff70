"""Where the Kafka of the tests comes from: a JDK of this machine, and jars in a cache."""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .install import NotAvailable, apt_install, cache_folder, last_line, locked, say

_JAVA_MINIMUM = 17
_POM = Path(__file__).with_name("pom.xml")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaFiles:
    """What it takes to run Kafka: a Java program and a class path."""

    java: str
    classpath: str
    version: str
    origin: str


@cache
def kafka_files() -> KafkaFiles:
    """Return the files of Kafka, after installing Java and filling the cache where needed.

    Raises NotAvailable with the reason.
    """
    origin = "this machine"
    if _java() is None or (not _jars_cached() and shutil.which("mvn") is None):
        apt_install("default-jdk-headless", "maven")
        origin = "apt"
    java = _java()
    if java is None:
        raise NotAvailable(f"Kafka needs a JDK of version {_JAVA_MINIMUM} or later on the PATH")
    jars = _kafka_jars()
    return KafkaFiles(java=java, classpath=f"{jars}/*", version=kafka_version(), origin=origin)


@cache
def kafka_version() -> str:
    """Return the version that the pom beside this file names."""
    found = re.search(r"<kafka\.version>([^<]+)<", _POM.read_text())
    if found is None:
        raise ValueError(f"no kafka.version in {_POM.name}")
    return found.group(1)


def _java() -> str | None:
    """Return the path of a Java that is recent enough."""
    home = os.environ.get("JAVA_HOME")
    for candidate in (str(Path(home, "bin", "java")) if home else None, shutil.which("java")):
        if candidate and Path(candidate).exists() and _java_version(candidate) >= _JAVA_MINIMUM:
            return candidate
    return None


def _java_version(java: str) -> int:
    done = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(?:1\.)?(\d+)', done.stderr)
    return int(found.group(1)) if found else 0


def _jars_folder() -> Path:
    return cache_folder() / f"kafka-{kafka_version()}"


def _jars_cached() -> bool:
    return (_jars_folder() / f"kafka_2.13-{kafka_version()}.jar").exists()


def _kafka_jars() -> Path:
    """Return the folder with Kafka's jars, downloaded first when it is missing.

    The folder appears complete or not at all, and once: others wait for whoever downloads.
    """
    folder = _jars_folder()
    with locked(folder):
        if not _jars_cached():
            partial = Path(tempfile.mkdtemp(prefix="partial-", dir=folder.parent))
            try:
                _download_jars(partial)
                partial.chmod(0o755)
                shutil.rmtree(folder, ignore_errors=True)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return folder


def _download_jars(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise NotAvailable("Kafka needs Maven (mvn) on the PATH, once, to download its jars")
    say(f"downloading the jars of Apache Kafka {kafka_version()}")
    # Maven puts its build folder beside the pom: work on a copy, outside the checkout.
    shutil.copy(_POM, folder / "pom.xml")
    command = [maven, "-q", "-B", "-f", "pom.xml", "dependency:copy-dependencies"]
    done = subprocess.run(
        [*command, "-DincludeScope=runtime", f"-DoutputDirectory={folder}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise NotAvailable(f"Maven could not download Kafka's jars: {last_line(done.stdout)}")
