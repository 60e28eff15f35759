"""keepalived and kernlb, each given the same keepalived.conf, program IPVS alike.

The configurations are those that keepalived's Debian package installs, and one more with what they
leave out. keepalived runs its checkers alone, and is stopped when its services are made; every
server is behind a device that swallows what is sent to it, so that checks end seconds later.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kernlb.control.protocol import Documents
from kernlb.migrate.keepalived import read_keepalived
from kernlb.migrate.report import texts
from tests.netns.ipvs.ipvsadm import Services, ipvsadm, parse
from tests.netns.traffic.daemon import Daemon, StartDaemon
from tests.netns.traffic.wait import wait_for

pytestmark = pytest.mark.ipvs

SAMPLES = Path("/usr/share/doc/keepalived/samples")
PROGRAMMED = "Startup complete"  # keepalived says so after its last service is made
REMOVED = "Removing service"
START_LIMIT = 60.0
ATTEMPTS = 3
EVERYTHING = Path(__file__).with_name("everything.keepalived.conf")


def samples() -> list[Path]:
    """Those with virtual servers."""
    return sorted(
        path for path in SAMPLES.glob("keepalived.conf.*") if b"virtual_server" in path.read_bytes()
    )


@pytest.fixture(scope="module")
def keepalived_namespace() -> Iterator[str]:
    name = "klbt-keepalived"
    subprocess.run(["ip", "netns", "add", name], check=True)
    swallow(name)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


def swallow(namespace: str) -> None:
    """Whatever is sent anywhere is gone without an answer."""
    for words in (
        "link set lo up",
        "link add nowhere type dummy",
        "link set nowhere up",
        "route add default dev nowhere",
        "-6 route add default dev nowhere",
    ):
        subprocess.run(["ip", "-n", namespace, *words.split()], check=True)


def held(namespace: str) -> tuple[list[str], Services]:
    """What ``ipvsadm -Sn`` says, line by line, and everything with the thresholds too."""
    saved = ipvsadm(namespace, "-Sn")
    return sorted(saved.splitlines()), parse(saved, ipvsadm(namespace, "-Ln", "--thresholds"))


def programmed_by_keepalived(
    namespace: str, path: Path, folder: Path
) -> tuple[list[str], Services]:
    """What IPVS holds once keepalived has made its services, and before any check has ended."""
    for attempt in range(ATTEMPTS):
        log = folder / f"{path.name}.{attempt}.log"
        found = _programmed_once(namespace, path, log)
        if REMOVED not in log.read_text():
            return found
    raise AssertionError(f"keepalived took servers out before it could be stopped: {log}")


def _programmed_once(namespace: str, path: Path, log: Path) -> tuple[list[str], Services]:
    pids = {name: log.with_suffix(f".{name}") for name in ("pid", "checkers_pid")}
    options = [f"--{name}={file}" for name, file in pids.items()]
    argv = ["keepalived", "--check", "--dont-fork", "--log-console", f"--use-file={path}", *options]
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *argv], stdout=output, stderr=subprocess.STDOUT
        )
    checker = 0
    try:
        wait_for(
            lambda: process.poll() is not None or PROGRAMMED in log.read_text(),
            START_LIMIT,
            f"keepalived starts with {path}",
        )
        assert process.poll() is None, log.read_text()
        checker = int(pids["checkers_pid"].read_text())
        os.kill(checker, signal.SIGSTOP)
        return held(namespace)
    finally:
        process.kill()
        process.wait(60)
        if checker:
            with suppress(ProcessLookupError):
                os.kill(checker, signal.SIGKILL)
        ipvsadm(namespace, "-C")


def programmed_by_kernlb(daemon: Daemon, path: Path) -> tuple[list[str], Services]:
    daemon.client.apply(Documents(texts(read_keepalived(str(path), config_id="here"))))
    found = held(daemon.namespace)
    for file in daemon.services.iterdir():
        file.unlink()
    daemon.client.reload()
    return found


@pytest.fixture(scope="module")
def daemon(namespace: str, start_daemon: StartDaemon) -> Daemon:
    swallow(namespace)
    return start_daemon(namespace)


def test_keepalived_and_its_samples_are_there() -> None:
    assert shutil.which("keepalived"), "apt-get install keepalived"
    assert len(samples()) == 16


@pytest.mark.parametrize(
    "path", [EVERYTHING, *samples()], ids=lambda path: path.name.removeprefix("keepalived.conf.")
)
def test_ipvs_holds_the_same_whether_keepalived_or_kernlb_reads_a_configuration(
    path: Path, keepalived_namespace: str, daemon: Daemon, tmp_path: Path
) -> None:
    theirs = programmed_by_keepalived(keepalived_namespace, path, tmp_path)
    assert theirs[0]
    assert programmed_by_kernlb(daemon, path) == theirs
