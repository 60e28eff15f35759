"""Two hosts and a cable, small objects to load, and a place of pins; nothing of it stays.

And a whole lab with kernlbd on its balancer, forwarding by XDP on this machine's own kernel.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import count
from pathlib import Path

import pytest

from kernlb.datapath.xdp.loading import unload
from kernlb.lab.network import Lab
from kernlb.model import (
    DatapathKind,
    RealServer,
    Scheduler,
    ServiceKey,
    ServiceState,
    VirtualService,
)
from tests.bpf.compiled import compiled
from tests.netns.traffic.balancer import Balancer
from tests.netns.traffic.daemon import StartDaemon

ADDRESSES = {"kl0": "198.18.7.1", "kl1": "198.18.7.2"}
_MACS = {"kl0": "02:00:00:00:07:01", "kl1": "02:00:00:00:07:02"}
_numbers = count()


@dataclass(frozen=True)
class Hosts:
    """`here` has interface kl0, where programs are attached; `there` has kl1, its other end."""

    here: str
    there: str


@dataclass(frozen=True)
class Objects:
    older: Path
    newer: Path
    careless: Path  # the verifier refuses it


def run(*commands: str) -> None:
    for command in commands:
        done = subprocess.run(command.split(), capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, f"{command}: {done.stderr}"


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """No IPv6 and fixed neighbours: on the cable is what a test sends, and nothing else."""
    name = f"kl-{os.getpid()}-{next(_numbers)}"
    hosts = Hosts(f"{name}-here", f"{name}-there")
    try:
        for each in (hosts.here, hosts.there):
            run(f"ip netns add {each}")
            run(f"ip netns exec {each} sysctl -qw net.ipv6.conf.default.disable_ipv6=1")
        run(f"ip -n {hosts.here} link add kl0 type veth peer kl1 netns {hosts.there}")
        for namespace, device, peer in ((hosts.here, "kl0", "kl1"), (hosts.there, "kl1", "kl0")):
            run(
                f"ip -n {namespace} link set lo up",
                f"ip -n {namespace} link set {device} address {_MACS[device]} up",
                f"ip -n {namespace} address add {ADDRESSES[device]}/24 dev {device}",
                f"ip -n {namespace} neighbour add {ADDRESSES[peer]} "
                f"lladdr {_MACS[peer]} dev {device}",
            )
        yield hosts
    finally:
        for each in (hosts.here, hosts.there):
            subprocess.run(["ip", "netns", "delete", each], capture_output=True, timeout=30)


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    variants = {"older": (), "newer": ("-DNEWER",), "careless": ("-DCARELESS",)}
    return Objects(
        **{
            name: compiled("small", tmp_path_factory.mktemp(name), *flags)
            for name, flags in variants.items()
        }
    )


@pytest.fixture
def root() -> Iterator[Path]:
    root = Path(f"/sys/fs/bpf/kl-{os.getpid()}-{next(_numbers)}")
    yield root
    unload(root)


SETTINGS = {
    "audit_interval": 3600,
    "defaults": {"datapath": "xdp"},
    "xdp": {
        "interfaces": ["front", "back"],
        "connections": 131072,  # a few thousand are remembered at a time: both of a key's buckets
        "connections6": 131072,  # are full for one in millions then
        "services": 64,
        "servers": 1024,
        "slots": 131072,
        "icmp_per_second": 0,
    },
}


@pytest.fixture(scope="module")
def pins() -> Iterator[Path]:
    """Of the module's daemons."""
    root = Path(f"/sys/fs/bpf/kw-{os.getpid()}-{next(_numbers)}")
    yield root
    unload(root)


@pytest.fixture(scope="module")
def balancer(lab: Lab, start_daemon: StartDaemon, pins: Path) -> Iterator[Balancer]:
    """kernlbd on a lab's balancer; the VIPs are local there, so that the kernel refuses what
    no service takes."""
    lab.hold_vips()
    namespace = lab.topology.namespace("balancer")
    daemon = start_daemon(namespace, SETTINGS, "--pins", str(pins))

    def read(key: ServiceKey) -> ServiceState:
        """By the daemon, which reads the maps; a new service's servers came in its order."""
        (view,) = [each for each in daemon.client.services_in_full() if each.key == str(key)]
        assert all(server.in_kernel for server in view.servers)
        servers = [
            RealServer(ip_address(each.address), each.port, each.kernel_weight or 0)
            for each in reversed(view.servers)
        ]
        return ServiceState(VirtualService(key, Scheduler(view.scheduler)), tuple(servers))

    yield Balancer(lab, daemon, DatapathKind.XDP, read)
    daemon.stop()
