"""keepalived and kernlb, each given the same keepalived.conf, program IPVS alike.

The configurations are those that keepalived's Debian package installs, and one more with what they
leave out. keepalived runs its checkers alone; every server is behind a device that swallows what
is sent to it, so that checks end by their timeouts, seconds after the services were programmed.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernlb.control.protocol import Documents
from kernlb.migrate.keepalived import read_keepalived
from kernlb.migrate.report import texts
from tests.netns.ipvs.ipvsadm import Services, holdings, ipvsadm
from tests.netns.traffic.daemon import Daemon, StartDaemon
from tests.netns.traffic.wait import wait_for

pytestmark = pytest.mark.ipvs

SAMPLES = Path("/usr/share/doc/keepalived/samples")
PROGRAMMED = "Startup complete"  # keepalived says so after its last service is made
START_LIMIT = 60.0
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
    return sorted(ipvsadm(namespace, "-Sn").splitlines()), holdings(namespace)


def programmed_by_keepalived(
    namespace: str, path: Path, folder: Path
) -> tuple[list[str], Services]:
    """What IPVS holds once keepalived has made its services."""
    log = folder / f"{path.name}.log"
    pids = [f"{option}={folder / option.strip('-')}.pid" for option in ("--pid", "--checkers_pid")]
    argv = ["keepalived", "--check", "--dont-fork", "--log-console", f"--use-file={path}", *pids]
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *argv], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_for(
            lambda: process.poll() is not None or PROGRAMMED in log.read_text(),
            START_LIMIT,
            f"keepalived starts with {path}",
        )
        found = held(namespace)
        said = log.read_text()
        assert process.poll() is None, said
        assert "Removing service" not in said, said
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        ipvsadm(namespace, "-C")
    return found


def programmed_by_kernlb(daemon: Daemon, path: Path) -> tuple[list[str], Services]:
    daemon.client.apply(Documents(texts(read_keepalived(str(path), config_id="here"))))
    found = held(daemon.namespace)
    for file in daemon.services.iterdir():
        file.unlink()
    daemon.client.reload()
    return found


@pytest.mark.timeout(600)
def test_ipvs_holds_the_same_whether_keepalived_or_kernlb_reads_a_configuration(
    namespace: str, keepalived_namespace: str, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    assert shutil.which("keepalived"), "apt-get install keepalived"
    swallow(namespace)
    daemon = start_daemon(namespace)
    assert len(samples()) == 16
    for path in (*samples(), EVERYTHING):
        theirs = programmed_by_keepalived(keepalived_namespace, path, tmp_path)
        ours = programmed_by_kernlb(daemon, path)
        print(f"{path.name}: {len(theirs[0])} lines")
        assert theirs[0], path
        assert ours == theirs, path
