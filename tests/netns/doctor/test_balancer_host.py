"""Each mistake is found by its name where it is made, and a sound balancer has none (XDP)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernlb.datapath.xdp.loading import unload
from kernlb.doctor.doors import host
from kernlb.lab.network import Lab
from tests.netns.doctor.breaking_host import SERVICES, SETTINGS
from tests.netns.doctor.ground import Clinic, Row, assert_found
from tests.netns.doctor.rows_host import ROWS
from tests.netns.traffic.daemon import StartDaemon
from tests.netns.traffic.wait import wait_for

pytestmark = pytest.mark.netns


@pytest.fixture(scope="module")
def pins() -> Iterator[Path]:
    root = Path(f"/sys/fs/bpf/kd-{os.getpid()}")
    yield root
    unload(root)


@pytest.fixture(scope="module")
def clinic(
    lab: Lab, pins: Path, start_daemon: StartDaemon, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Clinic]:
    """A balancer as it should be: room for tunnels, a queue for each CPU, all resolved."""
    folder = tmp_path_factory.mktemp("doctor")
    lab.exec("balancer", ["ip", "link", "set", "back", "mtu", "1600"])
    for device in ("front", "back"):
        lab.exec("balancer", ["ethtool", "-L", device, "rx", "2"])
    daemon = start_daemon(lab.topology.namespace("balancer"), SETTINGS, "--pins", str(pins))
    clinic = Clinic(lab, daemon, pins, folder)
    check = {"type": "tcp", "interval": "1s", "timeout": "500ms"}
    for name, document in SERVICES.items():
        daemon.client.add_service(name, {"check": check, **document})
    wait_for(lambda: not daemon.client.status().xdp.unresolved, 20, "next hops are known")
    wait_for(lambda: daemon.client.status().serving == 7, 20, "all servers serve")
    if not host.clock().synchronised:
        clinic.standing = frozenset({"clock-unsynchronised"})  # true, and the machine's own
    yield clinic
    daemon.stop()


def test_a_sound_balancer_has_no_findings(clinic: Clinic) -> None:
    report = clinic.examine()
    assert [
        f"{each.check.id}: {each.finding.evidence}"
        for each in report.found
        if each.check.id not in clinic.standing
    ] == []
    assert {each.check.id for each in report.not_checked} == set()


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_what_is_broken_is_found(clinic: Clinic, row: Row) -> None:
    assert_found(clinic, row)


def test_after_all_that_it_is_sound_again(clinic: Clinic) -> None:
    assert sorted(clinic.found()) == []
