"""The playbooks of vagrant/ on a machine, without Vagrant: all services answer, after a reboot too.

The machine is a container on this kernel; where that has no IPVS, the services by XDP are made, and
those by IPVS in emulated guests (`--machines emulated`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machines.machine import Machine
from tests.machines.site import Site
from tests.packaging.artefacts import deb

ROOT = Path(__file__).resolve().parents[2]
VAGRANT = ROOT / "vagrant"
METHODS = {"ipvs": ("nat", "tunnel", "dsr"), "xdp": ("nat", "tunnel", "dsr", "fullnat")}
PLAYED = re.compile(r"^(\S+) +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", re.M)

pytestmark = [pytest.mark.machines, pytest.mark.timeout(1800)]


class Farm:
    """The one machine of the default variant, and the inventory that Vagrant would write."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.machine: Machine = site.add("balancer")
        self.datapaths = ["ipvs", "xdp"] if self.machine.has_ipvs else ["xdp"]
        self.services = [f"{path}-{way}" for path in self.datapaths for way in METHODS[path]]
        self._inventory = folder / "inventory"
        self._inventory.write_text(
            f"balancer ansible_ssh_common_args='-F {site.ssh_config}'\n"
            "[balancers]\nbalancer\n[backends]\nbalancer\n"
        )
        self._told = json.dumps(
            {
                "farm_datapaths": self.datapaths,
                "kernlb_deb": os.environ.get("KERNLB_DEB") or str(deb()),
            }
        )

    def play(self) -> int:
        """Play site.yml; how many tasks changed something."""
        done = self.site.run(
            ["ansible-playbook", "-i", str(self._inventory), "-e", self._told, "site.yml"],
            cwd=VAGRANT,
            environ={"ANSIBLE_CONFIG": str(VAGRANT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            timeout=1500,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
        recap = PLAYED.search(done.stdout)
        assert recap, done.stdout
        return int(recap[3])


@pytest.fixture(scope="module")
def farm(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Farm]:
    with Site(str(request.config.getoption("--machines"))) as site:
        made = Farm(site, tmp_path_factory.mktemp("farm"))
        assert made.play() > 0
        yield made


def test_every_service_is_answered_by_three_servers(farm: Farm) -> None:
    said = farm.machine.run("kernlb-smoke --requests 12", timeout=600).out
    assert "FAILED" not in said
    for service in farm.services:
        assert re.search(
            rf"^ok +{service}: 12 requests .*backend1 \d+, backend2 \d+, backend3", said, re.M
        ), said
        assert re.search(
            rf"^ok +{service}: 10.80.0.11 drained: backend2 \d+, backend3 \d+$", said, re.M
        ), said


def test_a_second_play_changes_nothing(farm: Farm) -> None:
    assert farm.play() == 0


def test_it_is_the_same_after_a_reboot(farm: Farm) -> None:
    farm.machine.reboot()
    said = farm.machine.run(
        "kernlb wait ready --timeout 120 && kernlb-smoke --requests 6", timeout=600
    ).out
    for service in farm.services:
        assert re.search(rf"^ok +{service}: 6 requests", said, re.M), said


def test_the_smoke_test_fails_where_a_server_does_not_answer(farm: Farm) -> None:
    service = "xdp-dsr"
    farm.machine.run("systemctl stop kernlb-backend@backend2")
    failed = farm.machine.run(f"kernlb-smoke --wait 3 --requests 6 {service}", check=False)
    farm.machine.run("systemctl start kernlb-backend@backend2")
    assert failed.code == 1
    assert re.search(rf"^FAILED +{service}: ", failed.out, re.M), failed.out
    farm.machine.run(f"kernlb-smoke --requests 6 {service}")
