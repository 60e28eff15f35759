"""Where the commands of a page run: settings by the name that a page calls them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import count

from kernlb.lab.network import Lab
from tests.docs.hosts import Host

Setting = Callable[[], AbstractContextManager[Mapping[str, Host]]]
_numbers = count(1)


@contextmanager
def alone() -> Iterator[Mapping[str, Host]]:
    """One host, `balancer`: loopback, eth0 with 10.0.0.9/24 and nobody at its other end."""
    name = f"kdoc{os.getpid()}-{next(_numbers)}"
    try:
        for command in (
            f"ip netns add {name}",
            f"ip -n {name} link set lo up",
            f"ip -n {name} link add eth0 type veth peer far",
            f"ip -n {name} address add 10.0.0.9/24 dev eth0",
            f"ip -n {name} link set eth0 up",
            f"ip -n {name} link set far up",
            f"ip -n {name} route add default via 10.0.0.1",
        ):
            subprocess.run(command.split(), check=True)
        with Host(name) as host:
            yield {"balancer": host}
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)


@contextmanager
def lab() -> Iterator[Mapping[str, Host]]:
    """The lab of `kernlb lab up`: client, router, balancer, server1 to server3, each a host."""
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(f"kdoc{os.getpid()}-{next(_numbers)}"))
        hosts = {
            role: stack.enter_context(Host(lab.topology.namespace(role)))
            for role in lab.topology.roles
            if role != "switch"
        }
        yield hosts


@contextmanager
def bare() -> Iterator[Mapping[str, Host]]:
    """The lab before anybody has made its servers fit for dsr or tunnels: each has an address, a
    web server, and the router for a gateway."""
    with lab() as hosts:
        for role in (role for role in hosts if role.startswith("server")):
            for command in BARE:
                code, printed = hosts[role].run(command)
                assert code == 0, (role, command, printed)
        yield hosts


BARE = (
    "for d in $(ip -br link | cut -d' ' -f1 | cut -d@ -f1 | grep -v '^lo$\\|^back$'); "
    "do ip link set $d down || exit; done",
    "ip address flush dev lo; ip address add 127.0.0.1/8 dev lo; ip address add ::1/128 dev lo",
    "for v in 4 6; do while ip -$v rule del lookup 100 2>/dev/null; do :; done; done",
    "ip route replace default via 10.1.0.254; ip -6 route replace default via fd00:b::254",
    "sysctl -qw net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.all.arp_announce=0",
    "kernlb realserver decap detach back >/dev/null",
)

SETTINGS: dict[str, Setting] = {"alone": alone, "alone-ipvs": alone, "lab": lab, "lab-ipvs": lab}
SETTINGS |= {"bare": bare, "bare-ipvs": bare}
GUEST = {"alone-ipvs", "lab-ipvs", "bare-ipvs"}
"""Those that need a kernel with IPVS."""
