"""kernlbd is restarted, killed, upgraded, downgraded and cannot start: clients notice nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.install.farm import SETTINGS, Farm
from tests.install.versions import LATER, later
from tests.machines.site import Site
from tests.netns.traffic.wait import wait_for
from tests.packaging import artefacts

pytestmark = [pytest.mark.machines, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def package() -> Path:
    return artefacts.deb()


@pytest.fixture(scope="module")
def later_package(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return later(package, tmp_path_factory.mktemp("later"))


@pytest.fixture(scope="module")
def farm(site: Site, package: Path) -> Iterator[Farm]:
    farm = Farm(site)
    try:
        farm.install(package)
        farm.declare()
        yield farm
    finally:
        farm.stop()


@pytest.fixture
def anew(farm: Farm) -> Iterator[Callable[[], bool]]:
    """Is another process kernlbd, and ready?"""
    before = farm.pid()
    assert before != "0"

    def ready() -> bool:
        active = farm.balancer.run("systemctl is-active kernlbd", check=False).out.strip()
        return active == "active" and farm.pid() not in ("0", before)

    yield ready
    farm.serving()


def test_a_restart(farm: Farm, anew: Callable[[], bool]) -> None:
    with farm.traffic():
        farm.balancer.run("systemctl restart kernlbd")
        assert anew(), farm.words()


def test_a_kill(farm: Farm, anew: Callable[[], bool]) -> None:
    with farm.traffic() as traffic:
        # In containers it says that it cannot kill other processes; there are none.
        farm.balancer.run("systemctl kill -s KILL kernlbd", check=False)
        traffic.goes_on()
        wait_for(anew, 60, "systemd starts kernlbd again")


def test_an_upgrade_with_another_program(
    farm: Farm, anew: Callable[[], bool], later_package: Path
) -> None:
    program = farm.program()
    with farm.traffic():
        said = farm.install(later_package).out
        assert f"Setting up kernlb ({LATER})" in said
        assert anew(), farm.words()
    assert LATER in farm.balancer.run("kernlb status | head -n 1").out
    assert farm.program() not in ("", program)


def test_a_downgrade(farm: Farm, anew: Callable[[], bool], package: Path) -> None:
    program = farm.program()
    with farm.traffic():
        farm.balancer.put(package, "/root/older.deb")
        said = farm.balancer.run("dpkg -i /root/older.deb 2>&1", timeout=240).out
        assert f"downgrading kernlb from {LATER}" in said
        assert anew(), farm.words()
    assert LATER not in farm.balancer.run("kernlb status | head -n 1").out
    assert farm.program() not in ("", program)


def test_the_same_version_again(farm: Farm, anew: Callable[[], bool], package: Path) -> None:
    with farm.traffic():
        farm.install(package, "--reinstall")
        assert anew(), farm.words()


def test_an_upgrade_whose_daemon_cannot_start_says_so_and_mending_heals(
    farm: Farm, later_package: Path
) -> None:
    farm.write("/etc/kernlb/kernlb.yaml", "xdp: {interfaces: [host0\n")
    with farm.traffic() as traffic:
        said = farm.install(later_package, "--reinstall", check=False).out
        assert "kernlb: kernlbd did not start again; the kernel goes on forwarding" in said
        assert "kernlb.yaml" in said
        assert farm.balancer.run("kernlb wait ready --timeout 1", check=False).code
        traffic.goes_on()
        farm.write("/etc/kernlb/kernlb.yaml", SETTINGS)
        farm.balancer.run("dpkg --configure -a", timeout=240)
        status = farm.balancer.run("dpkg-query -W -f '${Status} ${Version}' kernlb").out
        assert status == f"install ok installed {LATER}"
        farm.serving()
