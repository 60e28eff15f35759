"""The package goes: what it leaves forwarding it says, what it is to clear it clears, no more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.install.farm import Farm
from tests.machines.machine import Machine
from tests.machines.site import Site
from tests.packaging import artefacts

pytestmark = [pytest.mark.machines, pytest.mark.timeout(900)]

OBJECT = "/usr/lib/kernlb/lib/kernlb/datapath/xdp/objects/decap.bpf.o"
# What others have on this host. The address and the port are such as kernlb's services have.
FOREIGN = """
ip address add 192.0.2.99/32 dev host0
ip link add other0 type veth peer name other1
ip link set other0 up; ip link set other1 up
nft add table inet other
nft add chain inet other input '{ type filter hook input priority 0; }'
nft add rule inet other input tcp dport 9999 counter drop
mkdir -p /sys/fs/bpf/other
"""
FOREIGN_IPVS = """
ipvsadm -A -t 192.0.2.99:80 -s wlc
ipvsadm -a -t 192.0.2.99:80 -r 10.77.0.200 -g -w 3
"""
LOOK = """
ip -o address show dev host0 | grep -F 192.0.2.99
ip -d link show other0; nft list ruleset; sysctl net.ipv4.ip_forward
ls -A /sys/fs/bpf | grep -v kernlb
[ ! -e /proc/net/ip_vs ] || ipvsadm -S -n | grep -F 192.0.2.99
"""
# What a machine writes of itself meanwhile, and what dpkg and apt remember of any package.
WRITTEN = re.compile(
    r"/run/(systemd|user|log|udev|sshd|utmp|dbus|lock)(/.*)?"
    r"|/var/lib/(apt|dpkg|systemd|dbus|private)(/.*)?"
    r"|/etc/(group-|gshadow-|group|gshadow|ld\.so\.cache|machine-id)"
)


@dataclass(slots=True)
class Bare:
    """A farm whose balancer has nothing installed yet, and the files that it had."""

    farm: Farm
    files: set[str]


@pytest.fixture(scope="module")
def package() -> Path:
    return artefacts.deb()


@pytest.fixture(scope="module")
def bare(site: Site) -> Iterator[Bare]:
    farm = Farm(site)
    try:
        farm.apt("install", "libbpf1", *(["ipvsadm"] if farm.balancer.has_ipvs else []))
        yield Bare(farm, files(farm.balancer))
    finally:
        farm.stop()


@pytest.fixture(scope="module")
def farm(bare: Bare, package: Path) -> Farm:
    """Installed and serving."""
    bare.farm.install(package)
    bare.farm.declare()
    return bare.farm


def files(machine: Machine) -> set[str]:
    return set(machine.run("find /etc /usr /var/lib /run").out.splitlines())


def forwarding(farm: Farm) -> dict[str, bool]:
    return {method.name: farm.asked(method) == {None} for method in farm.methods}


def assert_out_of_the_kernel(farm: Farm) -> None:
    machine = farm.balancer
    addresses = machine.run("ip -o address show dev host0").out
    assert [str(m.vip) for m in farm.methods if f" {m.vip}/" in addresses] == []
    assert "xdp" not in machine.run("ip -d link show dev host0").out
    assert "kernlb" not in machine.run("ls -A /sys/fs/bpf").out
    if machine.has_ipvs:
        assert [m for m in farm.methods if str(m.vip) in machine.run("ipvsadm -S -n").out] == []
    assert not any(forwarding(farm).values())


def assert_forgotten(bare: Bare) -> None:
    other = files(bare.farm.balancer) ^ bare.files
    assert {path for path in other if "kernlb" in path or not WRITTEN.fullmatch(path)} == set()
    search = "grep -rsl --exclude='*-' kernlb /etc /var/lib/systemd"
    assert bare.farm.balancer.run(search, check=False).out == ""
    assert bare.farm.balancer.run("getent group kernlb", check=False).code == 2
    assert "kernlb" not in bare.farm.balancer.run("systemctl list-unit-files --no-pager").out


def test_a_removal_says_what_it_leaves_and_a_reinstallation_takes_it_up(
    farm: Farm, package: Path
) -> None:
    with farm.traffic() as traffic:
        said = farm.apt("remove", "kernlb").out
        assert "kernlb: left forwarding in the kernel" in said
        for name, document in farm.documents().items():
            key = f"tcp/{document['address']}:{document['port']}"
            assert f"service {name} {key} by {document['datapath']}, 3 servers" in said
        for method in farm.methods:
            assert f"vip     {method.vip} on host0" in said
        assert "xdp     on host0, native mode" in said
        gone = farm.balancer.run("kernlb status; systemctl is-active kernlbd", check=False)
        assert "inactive" in gone.out
        assert farm.balancer.run("pgrep -f kernlbd", check=False).out == ""
        traffic.goes_on()
        farm.install(package)
        farm.serving()
    events = farm.balancer.run("kernlb events").out
    assert events.count("+ service") == len(farm.documents())  # those of the first start


def test_a_purge_takes_out_what_is_kernlbs_and_nothing_else(farm: Farm, bare: Bare) -> None:
    machine = farm.balancer
    machine.run(f"set -e; cp {OBJECT} /root/pass.o; {FOREIGN}".replace("\n\n", "\n"))
    machine.run("ip link set other0 xdpdrv object /root/pass.o program pass")
    if machine.has_ipvs:
        machine.run(FOREIGN_IPVS)
    foreign = machine.run(LOOK).out
    assert "192.0.2.99" in foreign and "prog/xdp" in foreign and "dport 9999" in foreign
    assert all(forwarding(farm).values())

    farm.apt("purge", "kernlb")

    assert machine.run(LOOK).out == foreign
    assert_out_of_the_kernel(farm)
    assert_forgotten(bare)


def test_a_purge_after_a_removal_of_a_daemon_that_was_stopped(
    bare: Bare, farm: Farm, package: Path
) -> None:
    farm.install(package)
    farm.declare()
    farm.balancer.run("systemctl stop kernlbd")
    farm.apt("remove", "kernlb")
    assert all(forwarding(farm).values())
    farm.apt("purge", "kernlb")
    assert_out_of_the_kernel(farm)
    assert_forgotten(bare)


def test_a_purge_with_a_damaged_state_says_what_it_could_not_do(
    bare: Bare, farm: Farm, package: Path
) -> None:
    farm.install(package)
    farm.declare()
    farm.apt("remove", "kernlb")
    farm.balancer.run("echo '{' >/var/lib/kernlb/state.json")
    said = farm.apt("purge", "kernlb").out
    assert "cannot read /var/lib/kernlb/state.json" in said
    assert said.count("kernlb: cannot take everything out") == 1
    assert "xdp" not in farm.balancer.run("ip -d link show dev host0").out
    assert "kernlb" not in farm.balancer.run("ls -A /sys/fs/bpf").out
    assert_forgotten(bare)
