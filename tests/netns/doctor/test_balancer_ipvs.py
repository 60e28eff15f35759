"""Mistakes of a balancer with IPVS, made in batches and found one by one; a sound one has none."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from kernlb.doctor.finding import Found
from kernlb.lab.network import Lab
from tests.netns.doctor import rows_guest
from tests.netns.doctor.ground import Broken, Clinic, Look, Row
from tests.netns.traffic.daemon import StartDaemon
from tests.netns.traffic.wait import wait_for

pytestmark = [pytest.mark.ipvs, pytest.mark.timeout(900)]

IPVS_FILE = "address: 192.0.2.10\nport: 80\nservers:\n- address: 10.1.0.11\n"


@pytest.fixture(scope="module")
def clinic(
    lab: Lab, start_daemon: StartDaemon, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Clinic]:
    """A balancer as it should be, but for a small table of connections. The daemon starts with the
    first test that asks for it, as the first ones have no IPVS."""
    folder = tmp_path_factory.mktemp("doctor")
    rows_guest.mark_clock(synchronised=True)
    lab.exec("balancer", ["ip", "link", "set", "back", "mtu", "1600"])
    lab.exec("balancer", ["nft", "-f", "-"], input=rows_guest.MARKING)
    lab.exec("balancer", ["sysctl", "-qw", "net.ipv4.conf.back.send_redirects=0"])
    unload_ipvs()
    namespace = lab.topology.namespace("balancer")
    daemon = start_daemon(namespace, rows_guest.SETTINGS)  # which loads the module
    daemon.stop()
    unload_ipvs()
    yield Clinic(lab, daemon, folder / "no-pins", folder)
    daemon.stop()


def unload_ipvs() -> None:
    """Where nothing uses it."""
    lines = subprocess.run(["lsmod"], capture_output=True, text=True, check=True).stdout
    names = [line.split()[0] for line in lines.splitlines() if line.startswith("ip_vs")]
    for name in sorted(names, reverse=True):
        subprocess.run(["modprobe", "-r", name], check=False, capture_output=True)


def test_ipvs_that_is_not_loaded_is_found_and_loaded(clinic: Clinic) -> None:
    look = clinic.file_look({"web": IPVS_FILE})
    found = clinic.found(look)
    assert "ip_vs is not loaded" in found["ipvs-missing"][0].finding.evidence
    clinic.mend(found["ipvs-missing"])
    assert "ipvs-missing" not in clinic.found(look)
    unload_ipvs()
    subprocess.run(["modprobe", "ip_vs", "conn_tab_bits=8"], check=True)


def test_a_sound_balancer_has_no_findings(clinic: Clinic) -> None:
    clinic.daemon.start()
    for name, document in rows_guest.SERVICES.items():
        clinic.daemon.client.add_service(name, document)
    report = clinic.examine()
    assert [f"{each.check.id}: {each.finding.evidence}" for each in report.found] == []
    assert list(report.not_checked) == []


@pytest.mark.parametrize("name", rows_guest.BATCHES)
def test_what_is_broken_is_found(clinic: Clinic, name: str) -> None:
    batch = rows_guest.BATCHES[name]
    with ExitStack() as stack:
        for row in batch:
            stack.enter_context(row.broken(clinic))
        found = clinic.found()
        assert_each(batch, found)
        if mendable := [each for row in batch if row.fix for each in found[row.id]]:
            clinic.mend(mendable)
            left = clinic.found()
            assert not {row.id for row in batch if row.fix} & set(left)
    if name == "filters":
        clinic.lab.exec("balancer", ["nft", "-f", "-"], input=rows_guest.MARKING)


def assert_each(batch: tuple[Row, ...], found: dict[str, list[Found]]) -> None:
    """All of the batch, with its evidence, and nothing else."""
    wanted = {row.id for row in batch}
    also = frozenset[str]().union(*(row.also for row in batch))
    assert wanted <= set(found) <= wanted | also, sorted(wanted ^ set(found))
    for row in batch:
        said = [f"{each.finding.about}: {each.finding.evidence}" for each in found[row.id]]
        assert any(row.evidence in one for one in said), (row.id, said)


def test_bonds_vlans_and_schedulers_are_looked_at(clinic: Clinic) -> None:
    with rows_guest.devices(clinic) as look:
        found = clinic.found(look)
        for id, evidence in rows_guest.DEVICES:
            assert id in found, (id, sorted(found))
            assert any(evidence in each.finding.evidence for each in found[id]), found[id]


ONE_BY_ONE: tuple[tuple[str, Broken], ...] = (
    ("neighbours-many", rows_guest.neighbourly),
    ("drift-again", rows_guest.drifting),
    ("conn-table-small", rows_guest.crowded),
)


@pytest.mark.parametrize(("id", "broken"), ONE_BY_ONE, ids=[id for id, _ in ONE_BY_ONE])
def test_what_takes_a_host_of_its_own(clinic: Clinic, id: str, broken: Broken) -> None:
    with broken(clinic) as look:
        assert id in clinic.found(look if isinstance(look, Look) else None)
        if id == "drift-again":
            wait_for(lambda: rows_guest.has_server(clinic), 30, "it is put right")
