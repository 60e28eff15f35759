"""The Ansible roles on machines, from bare Debian to removal, in the order of a balancer's life.

A balancer and three servers, one service for each forwarding method that the balancer's kernel
has. The tests of this module go on from each other's end.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ansible.ground import PLAYBOOKS, Told, play
from tests.machines.farm import SERVERS, Farm
from tests.machines.farm.packages import Packages
from tests.machines.site import Site
from tests.packaging import artefacts

pytestmark = [pytest.mark.machines, pytest.mark.timeout(2400)]

SITE, ROLLING = PLAYBOOKS / "site.yml", PLAYBOOKS / "balancers-rolling.yml"
READY = "kernlb wait ready --timeout 90"
DOCUMENTS = "cd /etc/kernlb/services.d && sha256sum *.yaml"
# Beside what the farm declares: all that the role can do to a host.
VARIABLES = {
    "kernlb_unit_overrides": {"Service": {"TasksMax": "256", "Environment": ["A=1", "B=2"]}},
    "kernlb_operators": ["games"],
    "kernlb_prune": True,
}
# What a check says in place of what it does not do.
SAYS = {
    "Say that kernlbd would start again": "Start kernlbd again",
    "Say that kernlbd would read its files again": "Have kernlbd read its files again",
}
QUIET = "Wait until new connections have gone elsewhere"
UNSAID = {"Set the sysctls"}  # follows from the file, which a check does tell


@pytest.fixture(scope="module")
def farm(site: Site) -> Farm:
    package = artefacts.deb()
    return Farm(site, Packages(package, package, package))


@pytest.fixture(scope="module")
def installed(farm: Farm) -> Iterator[tuple[Told, Told]]:
    """The first run, and the check before it. The web servers come by the farm's own play."""
    checked = play(farm, SITE, "--check", "--diff", **VARIABLES)
    ran = play(farm, SITE, **VARIABLES)
    farm.play("--limit", "servers")
    yield checked, ran


def answered(farm: Farm) -> None:
    """Every method, and of each all three servers; nothing failed."""
    farm.balancer.run(READY)
    answers = farm.asked(*farm.methods)
    shown = f"{answers}\n{farm.status()}"
    assert farm.methods and all(set(each) == set(SERVERS) for each in answers.values()), shown


def pid(farm: Farm) -> str:
    return farm.balancer.run("systemctl show -P MainPID kernlbd").out.strip()


def test_the_first_run_does_what_its_check_told(installed: tuple[Told, Told]) -> None:
    checked, ran = installed
    assert checked.code == 0, checked.text
    assert ran.code == 0, ran.text
    told = {(host, SAYS.get(task, task)) for host, task in checked.changed()}
    done = {(host, task) for host, task in ran.changed() if task not in UNSAID}
    assert told == done, f"told and not done {told - done}, done and not told {done - told}"
    assert ("balancer", "Start kernlbd again") in done
    assert all((server, "Make the host what it is to be") in done for server in SERVERS)
    assert "+    connections: 65536" in checked.text or "+  connections: 65536" in checked.text


def test_what_variables_declare_is_in_force(farm: Farm, installed: object) -> None:
    answered(farm)
    unit = farm.balancer.run("systemctl show kernlbd -p TasksMax,Environment,UnitFileState").out
    assert "TasksMax=256" in unit and "Environment=A=1 B=2" in unit, unit
    assert "UnitFileState=enabled" in unit, unit
    assert "(kernlb)" in farm.balancer.run("id games").out
    state = farm.servers[0].run("systemctl show kernlbd -p LoadState,ActiveState").out
    assert "LoadState=masked" in state and "ActiveState=inactive" in state, state


def test_a_second_run_changes_nothing(farm: Farm, installed: object) -> None:
    before = pid(farm)
    again = play(farm, SITE, **VARIABLES)
    assert again.code == 0, again.text
    assert again.changed() == set(), again.text
    assert pid(farm) == before


def test_a_bad_service_fails_in_kernlbds_words_while_requests_go_on(
    farm: Farm, installed: object
) -> None:
    before, running = farm.balancer.run(DOCUMENTS).out, pid(farm)
    name = next(iter(farm.services()))
    bad = {"address": "192.0.2.9", "port": 80, "sheduler": "rr", "servers": []}
    changed = {**farm.services()[name], "scheduler": "wrr"}
    services = farm.services() | {name: changed, "broken": bad}
    with farm.under_requests() as answers:
        for options in ((), ("--check",)):
            variables = VARIABLES | {"kernlb_services": services}
            told = play(farm, SITE, *options, "-l", "balancers", **variables)
            assert told.code != 0, told.text
            [said] = told.failures()
            assert "/etc/kernlb/services.d/broken.yaml:4: sheduler: is an unknown key" in said, said
            assert 'did you mean "scheduler"?' in said, said
    assert (farm.balancer.run(DOCUMENTS).out, pid(farm)) == (before, running)
    seen = {name: set(each) for name, each in answers.items()}
    assert all(each == set(SERVERS) for each in seen.values()), answers


def test_bad_settings_fail_and_stay_out(farm: Farm, installed: object) -> None:
    before, running = farm.balancer.run("cat /etc/kernlb/kernlb.yaml").out, pid(farm)
    variables = VARIABLES | {"kernlb_settings": {"xdp": {"interfacs": ["host0"]}}}
    told = play(farm, SITE, "-l", "balancers", **variables)
    assert told.code != 0, told.text
    [said] = told.failures()
    assert "/etc/kernlb/kernlb.yaml:3: xdp.interfacs: is an unknown key" in said, said
    assert farm.balancer.run("cat /etc/kernlb/kernlb.yaml").out == before
    assert pid(farm) == running


def test_a_changed_setting_is_read_and_a_service_that_is_renamed_or_left_out_goes(
    farm: Farm, installed: object
) -> None:
    running = pid(farm)
    settings = {"xdp": {"interfaces": ["host0"], "connections": 65536}, "audit_interval": "30s"}
    services = farm.services()
    first, second = list(services)[:2]
    renamed = {f"new-{first}": services.pop(first)} | services
    del renamed[second]
    told = play(
        farm,
        SITE,
        "-l",
        "balancers",
        **VARIABLES | {"kernlb_settings": settings, "kernlb_services": renamed},
    )
    assert told.code == 0, told.text
    listed = farm.balancer.run("kernlb service ls; ls /etc/kernlb/services.d").out
    assert f"new-{first}" in listed and second not in listed, listed
    assert pid(farm) == running, "kernlbd was restarted, and needed not be"
    back = play(farm, SITE, "-l", "balancers", **VARIABLES)
    assert back.code == 0, back.text
    answered(farm)


def test_a_balancer_that_is_not_left_alone_is_not_worked_on(farm: Farm, installed: object) -> None:
    """What takes VIPs off is the operator's command; here one that only says so."""
    rolling = VARIABLES | {
        "kernlb_drain_commands": ["touch /run/off"],
        "kernlb_undrain_commands": ["rm /run/off"],
        "kernlb_drain_timeout": 4,
    }
    with farm.under_requests():
        told = play(farm, ROLLING, **rolling)
    assert told.code != 0, told.text
    assert [task["task"] for task in told.tasks if task["outcome"] == "failed"] == [QUIET]
    assert farm.balancer.run("ls /run/off").out, "its addresses were given back"
    done = play(farm, ROLLING, **rolling | {"kernlb_drain_timeout": 60})
    assert done.code == 0, done.text
    took, gave = "Take the addresses off this balancer", "Give this balancer its addresses back"
    assert {task for _, task in done.changed()} == {took, gave}, done.text
    order = [task["task"] for task in done.tasks]
    assert order.index(took) < order.index(QUIET) < order.index(gave)
    assert farm.balancer.run("ls /run/off", check=False).code != 0


def test_it_is_all_there_after_a_reboot(farm: Farm, installed: object) -> None:
    for machine in (*farm.servers, farm.balancer):
        machine.reboot()
    answered(farm)


def test_a_server_is_as_it_was_once_it_is_to_be_none(farm: Farm, installed: object) -> None:
    address = "ip -br address show lo; sysctl net.ipv4.conf.all.arp_ignore"
    before = farm.servers[0].run(address).out
    gone = {"kernlb_realserver_state": "absent"}
    checked = play(farm, SITE, "-l", "server1", "--check", **gone)
    assert farm.servers[0].run(address).out == before
    ran = play(farm, SITE, "-l", "server1", **gone)
    assert ran.code == 0, ran.text
    assert checked.changed() == ran.changed() == {("server1", "Make the host what it is to be")}
    after = farm.servers[0].run(address).out
    assert not any(method.vip in after for method in farm.methods), after
    assert after.endswith("arp_ignore = 0\n"), after
    assert play(farm, SITE, "-l", "server1", **gone).changed() == set()
